from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud import arrivals
from culling.cloud.arrivals import Arrivals
from culling.cloud.frames import Arrival
from support.cloud import CAMERA, CloudState, hard_frame

EDGE = "e" * 40


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def arrival(seq: int, camera: str = CAMERA) -> Arrival:
    return Arrival(EDGE, *hard_frame(seq, camera))


def test_what_waits_is_stored_together_and_waits_no_more(cloud: CloudState) -> None:
    waiting = Arrivals(cloud.frames)
    for seq in (1, 2, 3):
        waiting.add(arrival(seq))
    assert arrival(2).name in waiting
    assert [(one.frame.seq, error) for one, error in waiting.store()] == [(1, None), (2, None), (3, None)]
    assert cloud.frames.counts()[CAMERA].stored == 3
    assert arrival(2).name not in waiting
    assert list(waiting.store()) == []


def test_a_frame_that_cannot_be_stored_costs_no_other(cloud: CloudState) -> None:
    (cloud.data_dir / "frames").mkdir()
    (cloud.data_dir / "frames" / "yard").write_text("in the way")
    waiting = Arrivals(cloud.frames)
    for one in (arrival(1), arrival(2, "yard"), arrival(3)):
        waiting.add(one)
    failed = {one.frame.seq: error for one, error in waiting.store()}
    assert failed[1] is failed[3] is None
    assert "yard" in str(failed[2])
    assert {camera: counts.stored for camera, counts in cloud.frames.counts().items()} == {CAMERA: 2}


def test_they_are_full_by_their_bytes(cloud: CloudState, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Arrivals(cloud.frames)
    waiting.add(arrival(1))
    assert not waiting.full
    monkeypatch.setattr(arrivals, "MOST_BYTES", len(arrival(1).jpeg))
    assert waiting.full
