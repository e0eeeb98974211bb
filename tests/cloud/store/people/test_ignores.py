from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.people.ignores import ignored_in, last_ignored
from culling.cloud.store.people.reviews import Reviews
from culling.cloud.store.purge.purge import purge
from culling.common.errors import InputError
from culling.common.wire.ignored import MOST_PLACES, Ignored, place
from support.cloud import CAMERA, CloudState
from support.stored import add, everything

EDGES = place([(0, 0), (0.25, 0), (0.25, 0.25)], ())
OURS, OTHER = place([(0.5, 0.5), (1, 0.5), (1, 1)], ("person",)), place([(0, 0.5), (0.25, 0.5), (0.25, 1)], ())


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    found = CloudState(tmp_path)
    found.enroll()
    add(found, 1, ignored=(EDGES,))
    add(found, 2)
    yield found
    found.close()


def enter(cloud: CloudState, name: str, one: Ignored | None, at: float = 5.0) -> list[str]:
    return Reviews(cloud.index).enter(CAMERA, {}, "ann", at, lambda _: None, {name: one})


def test_a_persons_places_stand_beside_the_cameras_and_are_taken_back_the_last_one_first(cloud: CloudState) -> None:
    name = everything(cloud)[0].id
    assert [enter(cloud, name, one, at) for one, at in ((OURS, 5.0), (OTHER, 6.0), (OURS, 7.0))] == [[name], [name], []]
    assert everything(cloud)[0].ignored == (EDGES, OURS, OTHER)
    assert [(one.place, one.who, one.at) for one in ignored_in(cloud.index, [name])] == [
        (OURS, "ann", 5.0),
        (OTHER, "ann", 6.0),
    ]
    assert last_ignored(cloud.index, CAMERA) == Reviews(cloud.index).last(CAMERA) == 6.0, "accuracy is measured anew"
    enter(cloud, name, None)
    assert everything(cloud)[0].ignored == (EDGES, OURS)
    enter(cloud, name, None)
    with pytest.raises(InputError, match="what its camera ignored stays so"):
        enter(cloud, name, None)
    assert everything(cloud)[0].ignored == (EDGES,)
    assert last_ignored(cloud.index, CAMERA) is None


def test_a_frame_of_another_camera_and_more_places_than_travel_are_refused(cloud: CloudState) -> None:
    name = everything(cloud)[1].id
    with pytest.raises(InputError, match="camera yard has no stored frame"):
        Reviews(cloud.index).enter("yard", {}, "ann", 5.0, lambda _: None, {name: OURS})
    for at in range(MOST_PLACES):
        enter(cloud, name, place([(0, 0), (1, 0), (1, (at + 1) / 200)], ()))
    with pytest.raises(InputError, match="its 100 ignored places are as many as a frame may have"):
        enter(cloud, name, OURS)


def test_nothing_of_it_outlives_the_frame(cloud: CloudState) -> None:
    names = [frame.id for frame in everything(cloud)]
    for name in names:
        enter(cloud, name, OURS)
    cloud.frames.remove(CAMERA, names[:1])
    assert {one.frame for one in ignored_in(cloud.index, names)} == {names[1]}
    purge(cloud.index, cloud.data_dir, CAMERA, None, cloud.clock.now())
    assert ignored_in(cloud.index, names) == []
