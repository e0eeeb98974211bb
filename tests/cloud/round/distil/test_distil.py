from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.model.weights import load_weights
from culling.cloud.round.distil.distil import lessons, lessons_of
from culling.cloud.store.features.features import FOLDER, Kept, feature_store
from culling.cloud.store.index import teacher_features
from culling.cloud.store.people.reviews import Reviews, Said
from culling.common.errors import ModelError
from support.cloud import CAMERA, CloudState, detections
from support.rounds import ROUND, camera_with_student, context_of, run, start

DISTILLING = {**ROUND, "distil": True}


@pytest.fixture
def cloud(narrow: Path, tmp_path: Path) -> Iterator[CloudState]:
    state = camera_with_student(tmp_path, narrow, round=DISTILLING)
    yield state
    state.close()


def test_a_round_distils_and_says_how_many_frames_the_teacher_taught(cloud: CloudState) -> None:
    number = start(cloud)
    assert run(cloud, number) == "ready", cloud.rounds.get(number).reason
    turn = cloud.rounds.get(number)
    kept = turn.stages["cull"]["kept"] + turn.stages["cull"]["replay"]
    assert turn.report["distilled"] == {"taught": len(kept)}
    weights = turn.stages["train"]["weights"]
    model, _ = load_weights(cloud.files.path(weights, "safetensors"))
    assert not [name for name in model.state_dict() if "maps" in name]


def test_a_round_whose_features_are_damaged_or_gone_trains_on_labels_and_says_so(cloud: CloudState) -> None:
    number = start(cloud)
    paths = sorted((cloud.data_dir / FOLDER).rglob("*-*"))
    paths[0].unlink()
    for path in paths[1:]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    assert run(cloud, number) == "ready", cloud.rounds.get(number).reason
    assert set(cloud.rounds.get(number).report["distilled"]) == {"damaged"}


def test_each_frame_without_features_has_its_reason(cloud: CloudState) -> None:
    start(cloud)
    store = feature_store(cloud.settings, cloud.index)
    with cloud.index.read() as connection:
        rows = connection.execute(teacher_features.select()).all()
    [first, second, third, *_] = rows
    teacher = first.teacher
    store.keep([Kept(second.frame, CAMERA, "f" * 64, b"of another", 1.0)])
    said = {third.frame: Said("corrected", detections((2, 2, 9, 9, 1.0, 0)))}
    Reviews(cloud.index).enter(CAMERA, said, "ada", 5.0, lambda _: None)
    found, told = lessons(store, [first.frame, second.frame, third.frame, "unknown"], teacher)
    assert [one is not None for one in found] == [True, False, False, False]
    assert told == {"taught": 1, "another-teacher": 1, "of-a-person": 1, "none": 1}


def test_what_the_student_has_learnt_meanwhile_is_worth_less(cloud: CloudState) -> None:
    number = start(cloud)
    with cloud.index.write() as connection:
        connection.execute(teacher_features.update().values(worth=1e6))
    run(cloud, number)
    with cloud.index.read() as connection:
        worths = {row.frame: row.worth for row in connection.execute(teacher_features.select())}
    masses = cloud.rounds.get(number).stages["cull"]["masses"]
    assert masses
    assert all(worths[name] == pytest.approx(mass, abs=1e-3) for name, mass in masses.items())


def test_students_that_cannot_be_distilled_are_refused_before_anything_is_opened(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = cloud.settings.student.model_copy(update={"family": "yolox"})
    context = context_of(cloud)
    object.__setattr__(context, "settings", cloud.settings.model_copy(update={"student": student}))
    monkeypatch.setattr("culling.cloud.round.distil.distil.load_teachers", None)
    with pytest.raises(ModelError, match=r"round\.distil: students of the family yolox"):
        lessons_of(context, ["a"])
