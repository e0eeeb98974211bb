from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.study.basis import training
from culling.cloud.study.cli import OPTIONS, STUDIES, Asked, app, study_function
from culling.common.cli import main
from culling.common.errors import CameraError, InputError, ModelError, SettingsError
from support.clips import make_clip
from support.scenes import boxes_at
from support.studied import LEARNT_FROM, Yard, use_teacher


def test_a_study_leaves_its_tables_and_a_second_run_neither_labels_nor_trains(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_teacher(monkeypatch)
    assert main(yard.arguments("table2")) == 0
    first = json.loads((yard.out / "yard-table2.json").read_text())
    assert "confidence + precision" in capsys.readouterr().out
    teacher = use_teacher(monkeypatch)
    monkeypatch.setattr(training, "retrain", None)
    assert main(yard.arguments("table2")) == 0
    again = json.loads((yard.out / "yard-table2.json").read_text())
    assert teacher.shown == 0
    assert again["rows"] == first["rows"]
    assert (again["clip"], again["frames_to_learn_from"]) == ("yard.mp4", LEARNT_FROM)
    assert {"device", "threads", "versions", "wall_s"} <= again.keys()
    assert (yard.out / "yard-table2.csv").read_text().startswith("n,strategy,steps,")
    assert (yard.out / "yard-table2.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_in_the_record_asks_the_same_again() -> None:
    asked = Asked(
        "fig4", Path("a b.mp4"), Path("l.jsonl"), Path("o"), (64, 8), 2.5, 0.5, (0, 3), 40, 9, ("round.lr=1",)
    )
    assert shlex.split(asked.command) == [
        *("culling", "study", "fig4", "--video", "a b.mp4", "--labels", "l.jsonl", "--scale", "0.5", "--n", "64,8"),
        *("--epochs", "2.5", "--frames", "40", "--measured", "9", "--seed", "0", "--seed", "3"),
        *("--set", "round.lr=1", "--out", "o"),
    ]
    short = replace(asked, study="profile").command
    assert short == "culling study profile --video 'a b.mp4' --labels l.jsonl --scale 0.5 --frames 40 {}".format(
        "--set round.lr=1 --out o"
    )


def test_a_study_takes_the_options_that_it_uses_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    offered = {}
    for name in STUDIES:
        command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        offered[name] = {one.name for one in command.params} & {*OPTIONS}
        assert offered[name] == {*STUDIES[name].takes}
    assert offered["profile"] == {"frames"}
    assert offered["table1"] == {*OPTIONS}
    assert main(["study", "profile", "--n", "50", "--video", "a", "--labels", "b", "--out", "c"]) == 2
    assert "No such option: --n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--epochs", "inf"),
        ("--epochs", "1e308"),
        ("--epochs", "nan"),
        ("--scale", "nan"),
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
    ],
)
def test_a_number_out_of_all_bounds_is_refused_with_a_line(
    yard: Yard, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(yard.arguments("distil", option, value)) == SettingsError.exit_code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"culling: Invalid value for '{option}'")


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        ("teacher.kind=yolox-nano", "round.distil: the teacher yolox-nano has no features to learn from"),
        ("student.family=yolox", "round.distil: students of the family yolox cannot be distilled"),
    ],
)
def test_a_pair_that_cannot_distil_is_refused_before_the_clip_is_read(
    yard: Yard, pair: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(yard.arguments("distil", "--set", pair, "--video", "none.mp4")) == ModelError.exit_code
    [line] = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_there(name: str) -> None:
    assert callable(study_function(name))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["table9"], "table9"),
        (["table1", "--n", "12,x"], "--n 12,x: expected numbers of frames"),
        (["table1", "--n", "0"], "--n 0: expected numbers of frames"),
        (["table1", "--n", "16"], "--n 16: there are 15 frames to learn from"),
        (["table1", "--set", "round.nothing=1"], "round.nothing"),
    ],
)
def test_a_wrong_flag_is_one_line(
    yard: Yard,
    arguments: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_teacher(monkeypatch)
    assert main(yard.arguments(*arguments)) == SettingsError.exit_code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("culling: ")]
    assert complaint in line


def test_a_clip_too_short_and_labels_of_another_are_one_line(
    yard: Yard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = make_clip(tmp_path / "short.mp4", frames=1)
    assert main(yard.arguments("table1", "--video", str(short))) == CameraError.exit_code
    rows = [Label(source, 20, 128, 96, boxes_at((0, 0, 9, 9, 1, 0)), "") for source in ("mall.mp4", "gate.mp4")]
    write_labels(tmp_path / "other.jsonl", rows)
    assert main(yard.arguments("table1", "--labels", str(tmp_path / "other.jsonl"))) == InputError.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("short.mp4: its 1 frames leave none to hold back")
    assert lines[1].endswith("other.jsonl: labels 2 sources, none of them yard")
