from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from culling.cloud.link import arrivals
from culling.cloud.link.admission import Room
from culling.cloud.link.arrivals import Arrivals, Outcome
from culling.cloud.store.frames import Arrival
from culling.common.errors import StorageError
from support.cloud import CAMERA, CloudState, hard_frame

EDGE = "e" * 40


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def arrival(seq: int, camera: str = CAMERA) -> Arrival:
    return Arrival(EDGE, *hard_frame(seq, camera))


@pytest.fixture
def waiting(cloud: CloudState) -> Arrivals:
    """Nothing yet, with room for much."""
    room = Room(cloud.settings.service, quota_bytes=1 << 30)
    room.free_bytes = 1 << 40
    return Arrivals(cloud.frames, room)


def outcomes(waiting: Arrivals, *arrivals: Arrival) -> dict[int, Outcome]:
    """Return what becomes of frames that come together, by their number."""
    for one in arrivals:
        waiting.add(one)
    return {one.frame.seq: outcome for one, outcome in waiting.store()}


def test_what_waits_is_stored_together_and_waits_no_more(cloud: CloudState, waiting: Arrivals) -> None:
    for seq in (1, 2, 3):
        waiting.add(arrival(seq))
    assert arrival(2).name in waiting
    assert [(one.frame.seq, outcome) for one, outcome in waiting.store()] == [(seq, "stored") for seq in (1, 2, 3)]
    assert cloud.frames.counts()[CAMERA].stored == 3
    assert arrival(2).name not in waiting
    assert list(waiting.store()) == []


def test_of_what_waits_only_the_new_is_stored_and_no_other_picture_takes_a_name(
    cloud: CloudState, waiting: Arrivals
) -> None:
    outcomes(waiting, arrival(1), arrival(2))
    other = Arrival(EDGE, *hard_frame(2, jpeg=hard_frame(9)[1]))
    assert outcomes(waiting, arrival(1), other, arrival(3)) == {1: "duplicate", 2: "seq-reused", 3: "stored"}
    assert cloud.frames.counts()[CAMERA].stored == 3
    assert outcomes(waiting, arrival(2)) == {2: "duplicate"}, "the first one stays"


def test_frames_that_come_together_share_the_room_and_repeats_need_none(cloud: CloudState) -> None:
    room = Room(cloud.settings.service, quota_bytes=sum(arrival(seq).size for seq in (1, 2, 3)))
    room.free_bytes = 1 << 40
    waiting = Arrivals(cloud.frames, room)
    assert outcomes(waiting, arrival(1)) == {1: "stored"}
    together = [arrival(seq) for seq in (1, 2, 3, 4)]
    assert outcomes(waiting, *together) == {1: "duplicate", 2: "stored", 3: "stored", 4: "quota"}
    room.free_bytes = 0
    assert outcomes(waiting, arrival(4), arrival(3)) == {4: "disk-full", 3: "duplicate"}


def test_when_the_index_cannot_be_read_none_is_stored_and_each_is_told(
    cloud: CloudState, waiting: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = StorageError("index: it is gone")

    def fail(names: Collection[str]) -> dict[str, str]:
        raise broken

    monkeypatch.setattr(cloud.frames, "known", fail)
    assert outcomes(waiting, arrival(1), arrival(2)) == {1: broken, 2: broken}
    assert cloud.frames.counts() == {}


def test_a_frame_that_cannot_be_stored_costs_no_other(cloud: CloudState, waiting: Arrivals) -> None:
    (cloud.data_dir / "frames").mkdir()
    (cloud.data_dir / "frames" / "yard").write_text("in the way")
    found = outcomes(waiting, arrival(1), arrival(2, "yard"), arrival(3))
    assert found[1] == found[3] == "stored"
    assert "yard" in str(found[2])
    assert {camera: counts.stored for camera, counts in cloud.frames.counts().items()} == {CAMERA: 2}


def test_they_are_full_by_their_bytes_until_they_are_stored(waiting: Arrivals, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting.add(arrival(1))
    assert not waiting.full
    monkeypatch.setattr(arrivals, "MOST_BYTES", len(arrival(1).jpeg))
    assert waiting.full
    assert [outcome for _, outcome in waiting.store()] == ["stored"]
    assert not waiting.full
