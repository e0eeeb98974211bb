from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from culling.cloud.study.basis.results import Results, ResultTable, merged, spread, text, with_spread, write_results
from culling.common.errors import StorageError

ROWS = [{"n": 1, "ap50": 0.5}, {"n": 2, "ap50": None}]
FOUND = Results(
    ROWS, [ResultTable("A table", [{"n": "1", "AP50": "0.500"}], "a note")], (lambda axes: axes.plot([1, 2]),)
)


def test_findings_are_printed_and_left_as_csv_json_and_png(tmp_path: Path) -> None:
    console = Console(record=True, width=100)
    paths = write_results(FOUND, "yard-table1", {"command": "culling study"}, tmp_path, console)
    assert [path.name for path in paths] == ["yard-table1.csv", "yard-table1.json", "yard-table1.png"]
    assert paths[0].read_text().splitlines() == ["n,ap50", "1,0.5", "2,"]
    assert json.loads(paths[1].read_text()) == {"command": "culling study", "rows": ROWS}
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    printed = console.export_text()
    assert all(part in printed for part in ("A table", "0.500", "a note"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"yard\.csv"):
        write_results(FOUND, "yard", {}, tmp_path / "gone", Console(quiet=True))


def test_the_spread_of_seeds_is_mean_least_and_most() -> None:
    assert spread([0.2, 0.4, 0.9]) == {"": pytest.approx(0.5), "_min": 0.2, "_max": 0.9}
    assert spread([0.2, None]) == {"": None, "_min": None, "_max": None}
    row = merged([{"ap50": 0.25}, {"ap50": 0.75}], "full_")
    assert row == {"full_ap50": 0.5, "full_ap50_min": 0.25, "full_ap50_max": 0.75}
    assert with_spread(row, "full_ap50") == "0.500 (0.250..0.750)"
    assert with_spread(merged([{"ap50": 0.25}]), "ap50") == "0.250"
    assert with_spread(merged([{"ap50": None}]), "ap50") == text(None) == "-"
