from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.model.distil.features import unpack
from culling.cloud.store.features.features import FeatureStore, feature_store
from culling.cloud.store.index import frames
from culling.cloud.weights.index import file_hash
from culling.common.errors import ModelError, StorageError
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, held_out
from support.rounds import EDGE, ROUND, add, camera_with_student, teach

DISTILLING = {**ROUND, "distil": True}


@pytest.fixture
def cloud(narrow: Path, tmp_path: Path) -> Iterator[CloudState]:
    state = camera_with_student(tmp_path, narrow, round=DISTILLING)
    yield state
    state.close()


def names(cloud: CloudState) -> list[str]:
    stored = cloud.frames.select(CAMERA, frames.c.labels.is_not(None), frames.c.captured.asc(), None)
    return [frame.id for frame in stored]


def test_features_are_kept_with_the_labels_of_frames_to_train_on(cloud: CloudState) -> None:
    teach(cloud)
    store = feature_store(cloud.settings, cloud.index)
    taught = {name for name in names(cloud) if name in store.find([name])}
    judging = {frame_id(EDGE, "boot-1", seq) for seq in range(1, 13) if held_out(seq)}
    assert taught
    assert taught == set(names(cloud)) - judging
    for name, (camera, teacher) in store.find(taught).items():
        packed = store.read(name, camera, teacher)
        assert packed is not None
        assert cloud.settings.teacher.file is not None
        assert unpack(packed).teacher == teacher == file_hash(cloud.settings.teacher.file)


def test_nothing_is_kept_where_no_round_distils(narrow: Path, tmp_path: Path) -> None:
    state = camera_with_student(tmp_path, narrow)
    teach(state)
    assert names(state)
    assert not feature_store(state.settings, state.index).find(names(state))
    state.close()


def test_a_disk_that_takes_no_features_costs_no_label(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FeatureStore, every: object) -> int:
        raise StorageError("No space left on device")

    monkeypatch.setattr(FeatureStore, "keep", full)
    teach(cloud)
    assert len(names(cloud)) == 12


def test_a_teacher_without_features_ends_the_worker_with_what_to_do(narrow: Path, tmp_path: Path) -> None:
    state = camera_with_student(tmp_path, narrow, round=DISTILLING)
    teacher = state.settings.teacher.model_copy(update={"views": ("whole", "flip")})
    state.settings = state.settings.model_copy(update={"teacher": teacher})
    with pytest.raises(ModelError, match=r"round\.distil: the teacher bundled has no features"):
        teach(state)
    state.close()


def test_frames_of_several_sizes_get_their_own(cloud: CloudState) -> None:
    add(cloud, range(20, 24))
    teach(cloud)
    store = feature_store(cloud.settings, cloud.index)
    found = store.find([frame_id(EDGE, "boot-1", seq) for seq in range(1, 24)])
    contents = {store.read(name, *where) for name, where in found.items()}
    assert len(contents) == len(found) > 4
