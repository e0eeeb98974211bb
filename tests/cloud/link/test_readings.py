from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.link import readings
from culling.cloud.link.readings import COUNT_S, Reading, Readings, Said
from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.frames import Counts
from culling.cloud.store.roster import Roster
from culling.common.errors import StorageError
from culling.common.metrics import Metrics
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state

NOTHING = Said({}, {}, {}, 0)


class Rig:
    """The readings of an index with one camera."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.cloud = CloudState(folder, self.clock)
        self.cloud.enroll()
        self.metrics = Metrics(CollectorRegistry(), "cloud")
        state = self.cloud
        self.readings = Readings(state.settings, state.index, state.frames, self.metrics, self.clock, None)

    def read(self, said: Said = NOTHING) -> Reading:
        self.readings.ask(said)
        self.readings.wait()
        reading = self.readings.take()
        assert reading is not None
        return reading


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.readings.close({})
    made.cloud.close()


def test_nothing_is_taken_that_was_not_asked_for(rig: Rig) -> None:
    assert rig.readings.idle
    assert rig.readings.take() is None
    rig.readings.ask(NOTHING)
    assert not rig.readings.idle
    rig.readings.wait()
    assert rig.readings.take() is not None
    assert rig.readings.idle


def test_a_reading_has_what_ingest_acts_on(rig: Rig) -> None:
    rig.cloud.publisher.publish(CAMERA, rig.cloud.artefact(tag="a"), "round")
    DesiredStates(rig.cloud.index).change(CAMERA, paused=True)
    reading = rig.read()
    assert [*reading.members.cameras.values()] == [{CAMERA}]
    assert reading.live == rig.cloud.registry.live_ids()
    assert reading.desired[CAMERA].paused
    assert reading.free_bytes > 0


def test_totals_are_read_once_in_a_while(rig: Rig) -> None:
    assert rig.read().counts is not None
    assert rig.read().counts is None
    rig.clock.advance(COUNT_S)
    assert rig.read().counts is not None


def test_what_is_said_is_written_and_shown(rig: Rig) -> None:
    word = (camera_state(seen=7), rig.clock.now())
    rig.read(Said({CAMERA: word}, {CAMERA: word}, {CAMERA: Counts(bytes=9)}, 3))
    (row,) = rig.cloud.roster.rows()
    assert (row.state, row.heard) == word
    assert rig.metrics.total("edges_connected") == 3
    assert rig.metrics.total("camera_live", camera=CAMERA) == 1


def test_what_fails_is_told_and_the_next_reading_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(folder: Path) -> int:
        raise StorageError(f"{folder}: the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(readings, "free_bytes", gone)
        with pytest.raises(StorageError, match="gone"):
            rig.read(replace(NOTHING, alive=2))
    assert rig.metrics.total("edges_connected") == 2, "what is known is shown all the same"
    assert rig.read().free_bytes > 0


def test_words_that_cannot_be_written_keep_nothing_from_being_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(Roster, "heard", full)
    word = (camera_state(), rig.clock.now())
    reading = rig.read(Said({CAMERA: word}, {CAMERA: word}, {}, 1))
    assert [*reading.members.cameras.values()] == [{CAMERA}]
    assert reading.counts is not None
    assert "full" in str(reading.unwritten)


def test_the_last_words_are_written_behind_what_is_being_read(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.readings.ask(NOTHING)
    rig.readings.close({CAMERA: (camera_state(seen=9), rig.clock.now())})
    (row,) = rig.cloud.roster.rows()
    rig.cloud.close()
    assert row.state is not None
    assert row.state.seen == 9
