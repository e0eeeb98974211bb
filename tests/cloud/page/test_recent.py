from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.page.recent import Recent
from culling.common.frame import Detections
from culling.common.wire.messages import SwapReport
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, hard_frame

EDGE = "e" * 40


class Seen:
    """A cloud, and what happened in it last."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.cloud = CloudState(folder, self.clock)
        self.cloud.enroll()
        self.recent = Recent(self.cloud.index, self.clock)

    def read(self) -> Recent:
        self.recent.read([CAMERA], self.cloud.frames.counts(), self.clock.now())
        return self.recent

    def store(self, seq: int) -> None:
        self.clock.advance(1)
        self.cloud.frames.add(EDGE, *hard_frame(seq))

    def swap(self, outcome: str, model_id: str = "gate-2") -> None:
        at = self.clock.now()
        self.cloud.registry.report(SwapReport(CAMERA, model_id, "gate-1", outcome, "why", 40.0, at), at)


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    found = Seen(tmp_path)
    yield found
    found.cloud.close()


def test_the_newest_frame_is_the_picture_and_says_when_it_is_labelled(seen: Seen) -> None:
    assert seen.read().pictures == {}
    seen.store(1)
    first = seen.read().pictures[CAMERA]
    seen.store(2)
    newest = seen.read().pictures[CAMERA]
    assert newest["id"] != first["id"]
    assert newest["labelled"] == 0
    seen.cloud.lifecycle.label({newest["id"]: Detections.empty()})
    assert seen.read().pictures[CAMERA]["labelled"] == 1


def test_of_many_cameras_pictures_are_read_a_few_at_a_time_and_then_all_are_there(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.page.recent.READ_S", -1.0)
    names = ("a", "b", "c")
    for seq, name in enumerate(names, 1):
        seen.cloud.frames.add(EDGE, *hard_frame(seq, name))
    for known in (1, 2, 3, 3):
        seen.recent.read(names, seen.cloud.frames.counts(), seen.clock.now())
        assert len(seen.recent.pictures) == known


def test_the_last_swap_counts(seen: Seen) -> None:
    seen.swap("live")
    assert seen.read().swaps[CAMERA]["outcome"] == "live"
    seen.swap("rolled-back")
    assert seen.read().swaps[CAMERA]["outcome"] == "rolled-back"


def test_a_round_that_failed_is_told_until_a_later_one_ended(seen: Seen) -> None:
    turn = seen.cloud.rounds.start(CAMERA, "manual", seen.clock.now())
    seen.cloud.rounds.end(turn.id, "failed", {}, "it died", seen.clock.now())
    assert seen.read().failed[CAMERA]["reason"] == "it died"
    seen.clock.advance(60)
    later = seen.cloud.rounds.start(CAMERA, "manual", seen.clock.now())
    seen.cloud.rounds.end(later.id, "refused", {}, "", seen.clock.now())
    assert seen.read().failed == {}


def test_what_a_model_gained_by_its_gate_is_known_once_the_camera_runs_it(seen: Seen) -> None:
    turn = seen.cloud.rounds.start(CAMERA, "manual", seen.clock.now())
    report = {"map_before": 0.5, "map_after": 0.6, "gain_low": 0.02, "newest_capture": seen.clock.now() - 30}
    seen.cloud.rounds.end(turn.id, "ready", report)
    model = seen.cloud.publisher.publish_round(turn.id, CAMERA, seen.cloud.artefact())
    assert seen.read().gains == {}
    seen.swap("live", model.model_id)
    gain = seen.read().gains[CAMERA]
    assert (gain["map_before"], gain["map_after"], gain["gain_low"]) == (0.5, 0.6, 0.02)
    assert seen.recent.lags == {CAMERA: 30.0}


def test_a_camera_that_is_gone_is_forgotten(seen: Seen) -> None:
    seen.store(1)
    seen.swap("live")
    seen.read()
    seen.recent.read([], {}, seen.clock.now())
    assert (seen.recent.pictures, seen.recent.swaps) == ({}, {})
