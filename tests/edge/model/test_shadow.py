"""A model beside the one in use: what it looks at, what it costs the camera, how it goes and how it takes over."""

from __future__ import annotations

import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from culling.common.clock import Clock, SystemClock
from culling.common.errors import ManifestError, StorageError
from culling.common.wire.messages import Beside, from_wire
from culling.edge.model.hotswap import MAX_ATTEMPTS, State
from culling.edge.model.shadow import MOST_WAITING
from support import tiny
from support.swapping import QUICK, Rig

NEW = tiny.student(tag="new")


class Shadowing(Rig):
    """A rig whose offers are of shadows, and that counts what became of their frames."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        super().__init__(folder, clock)
        self.outcomes: Counter[str] = Counter()
        self.slot._on_shadow = lambda outcome: self.outcomes.update([outcome])
        self.slot._rng = random.Random(7)
        self.kept: list[Beside] = []

    def shadow(self, shipped: tiny.Shipped, share: float = 1.0) -> None:
        """Have a model run beside the one in use, as the updater does."""
        self.slot.offer(shipped.manifest, share)
        self.slot.downloading()
        self.slot.path(shipped.manifest.model_id, "onnx").write_bytes(shipped.model)
        self.slot.stage(shipped.manifest.model_id)
        self.wait()

    def look(self, here: bool = True) -> None:
        """Have it look at a frame that may become an audit; `here` is whether that is still held."""

        def keep(found: Beside) -> bool:
            self.kept.append(found)
            return here

        self.slot.look_beside(tiny.Still(tiny.picture(320, 192)), keep)
        self.wait()

    @property
    def candidate(self) -> State | None:
        candidate = self.slot.record.candidate
        return candidate.state if candidate else None


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Shadowing]:
    made = Shadowing(tmp_path)
    made.slot.boot()
    yield made
    made.close()


def verdicts(rig: Rig) -> list[tuple[str, str, str]]:
    return [(report.model_id, report.outcome, report.reason) for report in rig.slot.reports()]


def test_it_looks_at_frames_while_the_one_in_use_answers_them_all(rig: Shadowing) -> None:
    rig.shadow(rig.ship(NEW))
    assert set(rig.play(20)) == {"gate-1"}
    assert rig.outcomes == {"ran": 20}
    assert rig.slot.shadow == ("gate-2", 20)
    assert rig.slot.record.live is None
    assert verdicts(rig) == []


def test_its_share_of_the_frames_is_drawn_evenly(rig: Shadowing) -> None:
    rig.shadow(rig.ship(NEW), 0.25)
    rig.play(400)
    assert 70 < rig.outcomes["ran"] < 130


def test_what_it_finds_in_a_frame_that_may_become_an_audit_is_kept(rig: Shadowing) -> None:
    rig.shadow(rig.ship(NEW, scale=0.5), 0.1)
    rig.look()
    (kept,) = rig.kept
    assert kept.model_id == "gate-2"
    found = from_wire(kept.detections)
    assert found.boxes[:, 2].max() > 160, "in pixels of the frame, whatever the input"


def test_without_one_nothing_is_looked_at(rig: Shadowing) -> None:
    rig.look()
    assert (rig.kept, rig.outcomes) == ([], {})


def test_a_frame_that_left_meanwhile_or_a_disk_that_fails_is_counted(rig: Shadowing) -> None:
    rig.shadow(rig.ship(NEW), 0.1)
    rig.look(here=False)

    def full(found: Beside) -> bool:
        raise StorageError("full")

    rig.slot.look_beside(tiny.Still(tiny.picture(320, 192)), full)
    rig.wait()
    assert rig.outcomes == {"late": 1, "storage": 1}


def test_frames_that_find_no_place_are_left_out_and_counted_and_nobody_waits(rig: Shadowing) -> None:
    rig.shadow(rig.ship(NEW))
    hold = threading.Event()
    rig.builder.submit(lambda: hold.wait(30) and None)
    frame, student = tiny.Still(tiny.picture(320, 192)), rig.slot.current()
    assert student is not None
    for _ in range(10):
        rig.slot.observe(frame, student.infer([frame])[0], rig.fake.monotonic())
        rig.slot.look_beside(frame, lambda found: True)
    assert rig.outcomes == {"busy": 20 - MOST_WAITING}
    hold.set()
    rig.wait()
    assert rig.outcomes == {"busy": 20 - MOST_WAITING, "ran": MOST_WAITING}


def test_it_takes_over_between_two_frames_when_it_is_offered_for_use_and_is_on_probation_then(rig: Shadowing) -> None:
    shipped = rig.ship(NEW)
    rig.shadow(shipped)
    rig.play(3)
    assert not rig.slot.offer(shipped.manifest), "its file is here"
    rig.wait()
    assert rig.slot.shadow == ("", 0)
    assert rig.play(1) == ["gate-2"]
    assert rig.slot.on_probation
    rig.play(10)
    assert verdicts(rig) == [("gate-2", "live", "passed")]


def test_it_goes_when_it_is_offered_for_no_frame_and_is_never_tried_again(rig: Shadowing) -> None:
    shipped = rig.ship(NEW)
    rig.shadow(shipped)
    assert not rig.slot.offer(shipped.manifest, 0.0)
    rig.wait()
    rig.look()
    assert set(rig.play(3)) == {"gate-1"}
    assert (rig.slot.shadow, rig.kept, rig.candidate) == (("", 0), [], None)
    assert verdicts(rig) == [("gate-2", "rejected", "withdrawn")]
    assert not rig.slot.offer(shipped.manifest)
    assert not rig.slot.path("gate-2", "onnx").exists()


def test_one_that_is_withdrawn_while_it_is_fetched_never_runs(rig: Shadowing) -> None:
    shipped = rig.ship(NEW)
    assert rig.slot.offer(shipped.manifest, 0.5)
    assert rig.slot.shadow == ("gate-2", 0)
    assert not rig.slot.offer(shipped.manifest, 0.0)
    assert rig.slot.record.candidate is None


def test_an_offer_that_it_is_withdrawn_by_touches_neither_the_one_in_use_nor_one_on_probation(rig: Shadowing) -> None:
    shipped = rig.ship(NEW)
    rig.deliver(shipped)
    rig.play(1)
    assert not rig.slot.offer(shipped.manifest, 0.0)
    assert rig.candidate is State.PROBATION
    rig.play(10)
    assert not rig.slot.offer(shipped.manifest, 0.0)
    assert rig.running() == rig.slot.record.live == "gate-2"


def test_another_model_takes_its_place_at_once(rig: Shadowing) -> None:
    rig.shadow(rig.ship(NEW))
    rig.deliver(rig.ship(tiny.student(tag="third"), counter=3))
    assert rig.play(1) == ["gate-3"]
    assert rig.slot.shadow == ("", 0)


def test_its_counter_counts_as_any_other(rig: Shadowing) -> None:
    shipped = rig.ship(NEW, counter=5)
    rig.shadow(shipped)
    assert (rig.slot.trust({}).counter, rig.slot.trust({}).sha256) == (5, shipped.manifest.sha256)


def test_once_it_is_about_to_take_over_another_one_waits(rig: Shadowing) -> None:
    shipped = rig.ship(NEW)
    rig.shadow(shipped)
    rig.slot.offer(shipped.manifest)
    rig.wait()
    with pytest.raises(ManifestError, match="waits for the verdict"):
        rig.slot.offer(rig.ship(tiny.student(tag="third"), counter=3).manifest)


def test_one_that_does_not_find_what_its_golden_frames_promise_never_runs(rig: Shadowing) -> None:
    rig.shadow(rig.ship(tiny.student(tag="new", shift=1), golden_from=tiny.student()))
    assert verdicts(rig)[0][:2] == ("gate-2", "rejected")
    assert rig.slot.shadow == ("", 0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (tiny.student(floor=2.0), "always-empty"),
        (tiny.student(shift=1), "class-drift"),
    ],
)
def test_one_that_probation_would_not_pass_is_rejected_for_that_reason(
    rig: Shadowing, model: bytes, reason: str
) -> None:
    rig.shadow(rig.ship(model))
    assert set(rig.play(QUICK.samples + 6)) == {"gate-1"}
    assert verdicts(rig) == [("gate-2", "rejected", reason)]
    assert rig.candidate is None


def test_one_that_is_too_slow_for_the_camera_is_rejected(tmp_path: Path) -> None:
    rig = Shadowing(tmp_path, SystemClock())
    rig.slot.boot()
    rig.shadow(rig.ship(tiny.student(turns=4000)))
    rig.play(QUICK.samples + 1)
    assert verdicts(rig) == [("gate-2", "rejected", "slow")]
    rig.close()


def test_one_that_fails_on_frames_is_rejected_and_costs_none(rig: Shadowing) -> None:
    rig.shadow(rig.ship(tiny.student(nan_above=0.91)))
    assert set(rig.play(5, np.full((192, 320, 3), 250, np.uint8))) == {"gate-1"}
    assert verdicts(rig) == [("gate-2", "rejected", "not-finite")]
    assert rig.outcomes["failed"] == 1


def test_a_camera_without_a_model_takes_it_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, initial=None)
    rig.slot.boot()
    shipped = rig.ship(NEW)
    assert rig.slot.offer(shipped.manifest, 0.5)
    rig.slot.downloading()
    rig.slot.path("gate-2", "onnx").write_bytes(shipped.model)
    rig.slot.stage("gate-2")
    rig.wait()
    assert rig.play(1) == ["gate-2"]
    rig.close()


def test_any_number_of_restarts_is_borne_once_it_has_run_for_long_enough(rig: Shadowing, tmp_path: Path) -> None:
    rig.shadow(rig.ship(NEW))
    rig.play(QUICK.frames)
    for _ in range(MAX_ATTEMPTS + 2):
        after = Shadowing(tmp_path)
        after.slot.boot()
        after.wait()
        assert after.candidate is State.SHADOW
        after.play(QUICK.frames)
        assert after.slot.shadow == ("gate-2", QUICK.frames)
        after.close()


def test_one_that_takes_the_agent_down_with_it_is_tried_three_times(rig: Shadowing, tmp_path: Path) -> None:
    rig.shadow(rig.ship(NEW))
    for _ in range(MAX_ATTEMPTS - 1):
        after = Shadowing(tmp_path)
        after.slot.boot()
        after.wait()
        assert after.candidate is State.SHADOW
        after.close()
    last = Shadowing(tmp_path)
    last.slot.boot()
    assert verdicts(last) == [("gate-2", "rejected", "gave-up")]
    assert last.running() == "gate-1"
    last.close()


def test_a_restart_between_the_word_and_the_swap_takes_it_over(rig: Shadowing, tmp_path: Path) -> None:
    shipped = rig.ship(NEW)
    rig.shadow(shipped)
    hold = threading.Event()
    rig.builder.submit(lambda: hold.wait(30) and None)
    rig.slot.offer(shipped.manifest)
    copy = tmp_path / "cut"
    copy.mkdir()
    shutil.copytree(tmp_path / "gate", copy / "gate")
    hold.set()
    rig.wait()
    again = Shadowing(copy)
    again.slot.boot()
    again.wait()
    assert again.play(1) == ["gate-2"]
    again.close()
