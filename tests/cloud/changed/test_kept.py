from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.changed.differ import Different, Pair
from culling.cloud.changed.kept import Changes
from culling.cloud.store.classes.relist import relist
from culling.cloud.store.purge.purge import purge
from culling.cloud.weights.classes import CLASSES
from support.cloud import CAMERA, CloudState, detections
from support.stored import add, everything

BEFORE, AFTER = detections((1, 1, 20, 20, 0.5, 0)), detections((1, 1, 20, 20, 0.875, 0), (30, 10, 60, 40, 0.75, 2))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    found = CloudState(tmp_path)
    found.enroll()
    add(found, 1, 2, 3)
    yield found
    found.close()


def keep(cloud: CloudState, *names: str) -> Changes:
    found = Changes(cloud.index)
    pairs = [Different(Pair(name, 0, BEFORE, AFTER), 3.0 - at) for at, name in enumerate(names)]
    found.keep(7, CAMERA, pairs, CLASSES)
    return found


def test_what_both_found_is_read_as_it_was_kept_the_most_different_first(cloud: CloudState) -> None:
    names = [frame.id for frame in everything(cloud)]
    keep(cloud, names[0])
    found = keep(cloud, *names[::-1]).of(7)  # the gate ran again
    assert [(one.frame, one.difference) for one in found] == list(zip(names[::-1], (3.0, 2.0, 1.0), strict=True))
    assert (found[0].before.scores.tolist(), found[0].after.labels.tolist()) == ([0.5], [0, 2])
    assert Changes(cloud.index).of(8) == []


def test_it_goes_with_its_frame_and_a_purge_leaves_nothing_of_it(cloud: CloudState) -> None:
    names = [frame.id for frame in everything(cloud)]
    kept = keep(cloud, *names)
    cloud.frames.remove(CAMERA, names[:1])
    assert [one.frame for one in kept.of(7)] == names[1:]
    purge(cloud.index, cloud.data_dir, CAMERA, None, cloud.clock.now())
    with cloud.index.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM changes").scalar() == 0


def test_it_is_read_by_the_classes_in_force(cloud: CloudState) -> None:
    kept = keep(cloud, everything(cloud)[0].id)
    relist(cloud.index, CAMERA, ("car", "person"), cloud.clock.now())
    assert kept.of(7)[0].after.labels.tolist() == [1, 0]
