from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.features.features import CLEARED_SHARE, FOLDER, SETTLED_S, FeatureStore, Kept, feature_store
from culling.cloud.store.fsck import fsck
from culling.cloud.store.people.reviews import Reviews, Said
from culling.cloud.store.purge.purge import purge
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, captured, detections, hard_frame

EDGE = "e" * 40
TEACHER, ANOTHER = "a" * 64, "b" * 64


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    state.enroll(CAMERA, "yard")
    for seq in range(1, 7):
        state.frames.add(EDGE, *hard_frame(seq))
    yield state
    state.close()


@pytest.fixture
def store(cloud: CloudState) -> FeatureStore:
    return feature_store(cloud.settings, cloud.index)


def name(seq: int) -> str:
    return frame_id(EDGE, "boot-1", seq)


def keep(store: FeatureStore, *seqs: int, size: int = 100, teacher: str = TEACHER) -> int:
    return store.keep([Kept(name(seq), CAMERA, teacher, bytes([seq]) * size, float(seq)) for seq in seqs])


def files(cloud: CloudState) -> list[str]:
    return sorted(path.name for path in (cloud.data_dir / FOLDER).rglob("*") if path.is_file())


def known(store: FeatureStore) -> set[int]:
    return {seq for seq in range(1, 20) if store.find([name(seq)])}


def test_what_is_kept_is_found_under_its_teacher(cloud: CloudState, store: FeatureStore) -> None:
    assert keep(store, 1, 2) == 2
    assert store.find([name(1), name(3)]) == {name(1): (CAMERA, TEACHER)}
    assert store.read(name(2), CAMERA, TEACHER) == bytes([2]) * 100
    assert store.read(name(3), CAMERA, TEACHER) is None


def test_of_a_frame_that_is_gone_nothing_is_kept(cloud: CloudState, store: FeatureStore) -> None:
    cloud.frames.remove(CAMERA, [name(1)])
    assert keep(store, 1, 2) == 1
    assert files(cloud) == [f"{name(2)}-{TEACHER[:16]}"]


def test_another_teachers_take_the_place_of_earlier_ones(cloud: CloudState, store: FeatureStore) -> None:
    keep(store, 1)
    keep(store, 1, teacher=ANOTHER)
    assert store.find([name(1)]) == {name(1): (CAMERA, ANOTHER)}


def test_beyond_the_allowance_those_of_frames_that_teach_least_go(cloud: CloudState, store: FeatureStore) -> None:
    keep(store, 1, 2, 3, 4, 5, 6)
    store.weigh({name(6): 0.5, name(2): 9.0, "gone": 1.0})
    assert store.trim(600) == {}
    assert store.trim(500) == {(CAMERA, "allowance"): 2}, f"down to {CLEARED_SHARE:.0%} of it"
    assert known(store) == {2, 3, 4, 5}, "6 was learnt meanwhile, 1 was worth least before"
    assert len(files(cloud)) == 4
    assert store.trim(0) == {(CAMERA, "allowance"): 4}
    assert files(cloud) == []


def test_a_disk_that_is_short_gets_what_it_lacks(cloud: CloudState, store: FeatureStore) -> None:
    keep(store, 1, 2, 3)
    assert store.trim(1000, spare_bytes=-5) == {}
    assert store.trim(1000, spare_bytes=150) == {(CAMERA, "disk"): 2}
    assert known(store) == {3}


def test_a_frame_that_expires_takes_its_features_along(cloud: CloudState, store: FeatureStore) -> None:
    keep(store, 1, 2)
    cloud.frames.remove(CAMERA, [name(1)])
    assert known(store) == {2}
    assert store.sweep(cloud.clock.now()) == 0, "it may be a moment old, and its row on the way"
    for path in (cloud.data_dir / FOLDER).rglob("*-*"):
        os.utime(path, (cloud.clock.now() - SETTLED_S - 1,) * 2)
    assert store.sweep(cloud.clock.now()) == 1
    assert files(cloud) == [f"{name(2)}-{TEACHER[:16]}"]


def test_a_purge_takes_features_of_that_time_and_files_without_a_row(cloud: CloudState, store: FeatureStore) -> None:
    keep(store, 1, 2)
    stray = cloud.data_dir / FOLDER / CAMERA / f"{name(5)}-{TEACHER[:16]}"
    stray.write_bytes(b"written as it was purged")
    purge(cloud.index, cloud.data_dir, CAMERA, captured(1) + 0.001, captured(1000))
    assert known(store) <= {1, 2}
    assert not stray.exists()
    purge(cloud.index, cloud.data_dir, CAMERA, None, captured(1000))
    assert known(store) == set()
    assert files(cloud) == []


def test_a_check_forgets_what_cannot_be_read_and_removes_what_no_row_names(
    cloud: CloudState, store: FeatureStore
) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    cloud.publisher.publish("yard", cloud.artefact(), "base")
    keep(store, 1, 2)
    (cloud.data_dir / FOLDER / CAMERA / f"{name(1)}-{TEACHER[:16]}").rename(
        cloud.data_dir / FOLDER / CAMERA / f"{name(3)}-{TEACHER[:16]}"
    )
    told = [str(finding) for finding in fsck(cloud.settings).findings]
    assert f"the teacher's features of frame {name(1)}: they cannot be read; --repair: forgotten" in told
    assert "1 files of the teacher's features: no row names them; --repair: removed" in told
    fsck(cloud.settings, repair=True)
    assert fsck(cloud.settings).findings == ()
    assert known(store) == {2}


def test_frames_that_a_person_labelled_are_known(cloud: CloudState, store: FeatureStore) -> None:
    cloud.lifecycle.label({name(1): detections((1, 1, 9, 9, 0.9, 0)), name(2): detections()})
    said = {name(1): Said("corrected", detections((2, 2, 9, 9, 1.0, 0)))}
    Reviews(cloud.index).enter(CAMERA, said, "ada", 5.0, lambda _: None)
    assert store.of_people([name(1), name(2)]) == {name(1)}
