from __future__ import annotations

import json
from pathlib import Path

import pytest

from culling.common.cli import main

LINE = (
    '{"source": "a.jpg", "frame": 0, "width": 100, "height": 80,'
    ' "detections": [["person", 0.3, -9, 1, 9, 9], ["van", 1.0, 1, 1, 50, 50]]}'
)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    path.write_text(LINE + "\n")
    return path


def convert(*arguments: str | Path) -> int:
    return main(["labels", "convert", *map(str, arguments)])


def test_a_file_is_converted_and_what_a_person_should_know_is_said(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.xml"
    assert convert(lines, out, "--to", "cvat", "--map", "van=car") == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"{lines} (culling's lines): 1 picture, 2 boxes → {out}",
        f"1 box stuck out of a picture, cut at its edge; 0 lay outside, left out; the first: {lines}:1",
        "1 box had a score below 1, which CVAT for images does not keep: --min-score leaves out weak ones",
    ]
    assert 'label="car"' in out.read_text()


def test_weak_boxes_are_left_out_where_scores_are_lost(lines: Path, tmp_path: Path) -> None:
    assert convert(lines, tmp_path / "out.json", "--to", "coco", "--min-score", "0.4") == 0
    assert len(json.loads((tmp_path / "out.json").read_text())["annotations"]) == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--classes", "person,car"], "unknown class 'van'; known are person, car: say what it is"),
        (["--classes", "person,person"], "--classes: two classes are named 'person'"),
        (["--map", "van"], "--map van: expected FROM=TO"),
        (["--from", "coco"], "missing required field `images`; this looks like culling's lines"),
        (["--from", "voc"], "this looks like culling's lines: --from culling"),
        (["--size", "12"], "--size 12: expected WIDTHxHEIGHT"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_3(
    lines: Path, tmp_path: Path, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(lines, tmp_path / "out", "--to", "yolo", *flags) == 3
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_torch_is_not_needed(lines: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from culling.common.cli import main; "
        f"assert main(['labels', 'convert', {str(lines)!r}, {str(tmp_path / 'o.json')!r}, '--to', 'coco']) == 0; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
