from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from support.scripts import loaded

SCRIPT = Path(__file__).parents[2] / "examples" / "query.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return loaded(SCRIPT)


def test_each_stretch_of_time_becomes_a_cut_and_what_lies_close_one(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = [(0.5, 2.0), (3.0, 4.0), (9.0, 9.1)]
    found = {"intervals": [{"start_s": start, "end_s": end} for start, end in spans]}
    (tmp_path / "query.json").write_text(json.dumps(found))
    example.main([str(tmp_path / "query.json"), "my yard.mp4"])
    assert capsys.readouterr().out.splitlines() == [
        "ffmpeg -ss 0.00 -to 5.00 -i 'my yard.mp4' -c copy 'my yard-001.mp4'",
        "ffmpeg -ss 8.00 -to 10.10 -i 'my yard.mp4' -c copy 'my yard-002.mp4'",
    ]


def test_where_nothing_was_found_nothing_is_cut(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "query.json").write_text('{"intervals": []}')
    example.main([str(tmp_path / "query.json"), "yard.mp4"])
    assert capsys.readouterr().out == ""
