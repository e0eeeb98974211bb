"""`culling cloud push` and `culling cloud waves`, with the service stopped: it finds them when it starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.people.deeds import Deeds
from culling.cloud.store.waves.trials import Trials
from culling.common.cli import main
from culling.common.errors import ModelError, SettingsError
from support import tiny
from support.cloud import CloudState

NAMES = tuple(f"door-{place}" for place in range(5))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, sites={"yard": {"edges": ["edge-1"]}})
    state.enroll(*NAMES)
    state.enroll("gate", edge="edge-2")
    for name in (*NAMES, "gate"):
        state.publisher.publish(name, state.artefact(), "base")
    (tmp_path / "student.onnx").write_bytes(tiny.student(tag="pushed"))
    yield state
    state.close()


def culling(cloud: CloudState, *arguments: str) -> int:
    return main(["cloud", *arguments, "--config", str(cloud.toml)])


def push(cloud: CloudState, *arguments: str) -> int:
    return culling(cloud, "push", str(cloud.folder / "student.onnx"), *arguments)


def shown(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert culling(cloud, "waves", "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_student_is_pushed_to_a_site_in_waves(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(cloud, "--site", "yard") == 0
    assert "rollout 1: student.onnx reaches 1, then 4 of 5 cameras" in capsys.readouterr().out
    (told,) = shown(cloud, capsys)["rollouts"]
    assert (told["state"], told["name"], told["max_failure_rate"]) == ("running", "student.onnx", 0.1)
    assert [(one["camera"], one["wave"], one["state"]) for one in told["cameras"]] == [
        (name, int(name != NAMES[0]), "waiting") for name in NAMES
    ]
    assert [(row["action"], row["by"]) for row in Deeds(cloud.index).all()] == [("push", "command")]


def test_cameras_are_named_in_the_order_in_which_they_get_it(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(cloud, "gate", NAMES[3], "gate") == 0
    (told,) = shown(cloud, capsys)["rollouts"]
    assert [(one["camera"], one["wave"]) for one in told["cameras"]] == [("gate", 0), (NAMES[3], 1)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name cameras, or a site"),
        (["gate", "--site", "yard"], "name cameras, or a site: --site NAME, not both"),
        (["nobody"], "there is no camera nobody"),
        (["--site", "nowhere"], "no camera is of nowhere"),
        (["gate", NAMES[1]], f"camera {NAMES[1]} is pinned to {NAMES[1]}-1"),
        (["gate", "--scale", "7"], "scale"),
    ],
)
def test_what_makes_no_sense_is_told_and_begins_nothing(
    cloud: CloudState, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DesiredStates(cloud.index).change(NAMES[1], pinned=f"{NAMES[1]}-1")
    assert push(cloud, *arguments) != 0
    assert why in capsys.readouterr().err
    assert Trials(cloud.index).rollouts() == []


def test_what_is_no_student_or_finds_other_classes_begins_nothing(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    (cloud.folder / "student.onnx").write_bytes(b"nothing")
    assert push(cloud, "gate") == ModelError.exit_code
    (cloud.folder / "student.onnx").write_bytes(tiny.student(classes=("person",)))
    assert push(cloud, "gate") == ModelError.exit_code
    assert "gate looks for" in capsys.readouterr().err
    assert Trials(cloud.index).rollouts() == []


def test_it_is_halted_gone_on_with_and_taken_back_by_number(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    push(cloud, "--site", "yard")
    for verb, state in (("halt", "halted"), ("resume", "running"), ("halt", "halted"), ("rollback", "back")):
        assert culling(cloud, "waves", verb, "1") == 0
        assert Trials(cloud.index).rollouts()[0].state == state
    assert [row["action"] for row in Deeds(cloud.index).all()] == ["rollback", "halt", "resume", "halt", "push"]
    capsys.readouterr()
    assert culling(cloud, "waves") == 0
    out = capsys.readouterr().out
    assert "5 waiting" in out
    assert "rollout 1: rollback by " in out


def test_the_very_bytes_that_a_camera_uses_are_not_tried_there(
    cloud: CloudState, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.publisher.publish("gate", cloud.artefact(tag="pushed"), "manual")
    assert push(cloud, "gate") == 0
    assert "student.onnx is already in use on gate: nothing to try there" in capsys.readouterr().out
    assert Trials(cloud.index).rollouts() == []
    assert push(cloud, "gate", NAMES[0]) == 0
    assert "reaches 1 of 1 camera" in capsys.readouterr().out
    assert push(cloud, "gate", "--scale", "0.5") == 0, "another input is another student"
    assert [one.camera for one in Trials(cloud.index).trials()] == [NAMES[0], "gate"]


@pytest.mark.parametrize(
    ("verb", "number", "why"), [("resume", "1", "rollout 1 is running"), ("halt", "7", "there is no rollout 7")]
)
def test_what_cannot_be_halted_or_gone_on_with_is_one_line(
    cloud: CloudState, verb: str, number: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    push(cloud, "gate")
    capsys.readouterr()
    assert culling(cloud, "waves", verb, number) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line


@pytest.mark.parametrize("verb", ["halt", "resume", "rollback"])
@pytest.mark.parametrize("before", [["--config", "{toml}"], ["--set", "store.dir=/nowhere"], ["--json"]])
def test_what_is_given_before_the_command_is_refused_rather_than_left_unheeded(
    cloud: CloudState, verb: str, before: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    push(cloud, "gate")
    capsys.readouterr()
    given = [one.format(toml=cloud.toml) for one in before]
    assert main(["cloud", "waves", *given, verb, "1", "--config", str(cloud.toml)]) == SettingsError.exit_code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{before[0]} before `{verb}`" in line
    assert Trials(cloud.index).rollouts()[0].state == "running"
