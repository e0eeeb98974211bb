from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from culling.common.clock import SystemClock
from culling.common.errors import CullingError, ManifestError, ModelError, StorageError
from culling.common.frame import Detections
from culling.common.wire.manifest import Manifest, verify_model
from culling.edge.model.builder import Builder
from culling.edge.model.hotswap import MAX_ATTEMPTS, Candidate, SlotRecord, State
from culling.edge.model.shelf import RECORD
from culling.edge.model.student import Student
from culling.edge.model.vetting import NotVettedError
from support import tiny
from support.swapping import FRAME_S, KEY, QUICK, Rig

Rigging = Callable[..., Rig]
NEW = tiny.student(tag="new")
DARK = np.zeros((192, 320, 3), np.uint8)


@pytest.fixture
def rigging(tmp_path: Path) -> Iterator[Rigging]:
    rigs: list[Rig] = []

    def make(folder: Path = tmp_path, boot: bool = True, **wishes: Any) -> Rig:
        rigs.append(Rig(folder, **wishes))
        if boot:
            rigs[-1].slot.boot()
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(rigging: Rigging) -> Rig:
    return rigging()


def verdicts(rig: Rig) -> list[tuple[str, str, str]]:
    return [(report.model_id, report.outcome, report.reason) for report in rig.slot.reports()]


def state(rig: Rig) -> State | None:
    candidate = rig.slot.record.candidate
    return candidate.state if candidate else None


class TestSwap:
    def test_it_happens_between_two_frames_and_no_frame_is_lost(self, rig: Rig) -> None:
        before = rig.play(3)
        rig.deliver(rig.ship(NEW))
        assert rig.running() == "gate-1"
        after = rig.play(10)

        assert before == ["gate-1"] * 3
        assert after == ["gate-2"] * 10
        assert verdicts(rig) == [("gate-2", "live", "passed")]

    def test_the_report_tells_the_gap_and_the_time(self, rig: Rig) -> None:
        rig.play(3)
        rig.deliver(rig.ship(NEW))
        rig.fake.advance(0.5)
        rig.play(10)

        (report,) = rig.slot.reports()
        assert report.gap_ms == pytest.approx(1000 * (FRAME_S + 0.5))
        assert report.at == pytest.approx(rig.fake.now(), abs=1)

    def test_frames_for_which_the_last_result_stood_make_no_gap(self, rig: Rig) -> None:
        rig.play(3)
        rig.deliver(rig.ship(NEW))
        rig.fake.advance(0.5)
        rig.slot.stands(rig.fake.monotonic())
        rig.play(10)

        (report,) = rig.slot.reports()
        assert report.gap_ms == pytest.approx(1000 * FRAME_S)

    def test_it_is_on_probation_until_the_verdict(self, rig: Rig) -> None:
        rig.play(1)
        assert not rig.slot.on_probation
        rig.deliver(rig.ship(NEW))
        rig.play(1)
        assert rig.slot.on_probation
        rig.play(9)
        assert not rig.slot.on_probation

    def test_it_may_change_the_input_size(self, rig: Rig) -> None:
        rig.play(1)
        rig.deliver(rig.ship(NEW, scale=0.5))

        assert rig.play(10) == ["gate-2"] * 10
        student = rig.slot.current()
        assert student is not None
        assert student.input_size(320, 192) == (96, 160)

    def test_a_defect_while_it_is_made_ready_is_no_verdict_on_it(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        met: list[Exception] = []
        rig.builder._on_defect = met.append
        with monkeypatch.context() as broken:
            broken.setattr(Student, "warm", lambda *_: {}["shape"])
            rig.deliver(rig.ship(NEW))
        assert [type(error) for error in met] == [KeyError]
        assert rig.slot.record.candidate is None
        assert rig.slot.record.refused == ()
        assert rig.errors == ["not-vetted"]

        rig.deliver(rig.ship(NEW))

        assert set(rig.play(10)) == {"gate-2"}

    def test_as_many_frames_are_warmed_for_as_cameras_may_bring_at_once(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        warmed: list[tuple[int, ...]] = []
        monkeypatch.setattr("culling.common.graph.Graph.warm", lambda self, *shape: warmed.append(shape))
        asked: list[tuple[str, tuple[int, int]]] = []

        def together(manifest: Manifest, size: tuple[int, int]) -> int:
            asked.append((manifest.model_id, size))
            return 4

        rig.slot._together = together
        rig.slot.boot()

        rig.deliver(rig.ship(tiny.student(tag="next")))

        assert {model for model, _ in asked} == {"gate-2"}
        assert {batch for batch, *_ in warmed} == {1, 2, 4}
        assert len(warmed) == 3 * len({size for _, size in asked})

    def test_a_camera_shares_a_batch_with_those_that_run_its_model_on_its_size(self, rig: Rig) -> None:
        rig.slot.boot()
        current = rig.slot.current()
        assert current is not None
        size = current.input_size(160, 128)
        assert rig.slot.may_run(current.manifest, size), "a camera that has shown no frame yet may have any size"
        rig.slot.observe(tiny.Still(tiny.picture(160, 128)), Detections.empty(), 0.0)
        another = rig.ship(tiny.student(tag="another"))

        assert rig.slot.may_run(current.manifest, size)
        assert not rig.slot.may_run(current.manifest, (640, 640)), "its frames have another size"
        assert not rig.slot.may_run(another.manifest, size), "it runs another model"
        rig.slot.offer(another.manifest)
        assert rig.slot.may_run(another.manifest, size), "it is about to"

    def test_the_shapes_to_come_are_warm_before_it(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        warmed: list[tuple[int, ...]] = []
        monkeypatch.setattr("culling.common.graph.Graph.warm", lambda self, *shape: warmed.append(shape))
        rig.play(1)
        rig.deliver(rig.ship(NEW))

        assert (1, 192, 320) in warmed

    def test_twenty_swaps_keep_only_the_files_of_two_models(self, rig: Rig) -> None:
        for counter in range(2, 22):
            rig.deliver(rig.ship(tiny.student(tag=str(counter)), counter))
            assert set(rig.play(9)) == {f"gate-{counter}"}

        assert rig.slot.record.live == "gate-21"
        files = {path.name for path in (rig.folder / "gate").iterdir()}
        kept = {f"gate-{number}.{kind}" for number in (20, 21) for kind in ("onnx", "manifest")}
        assert files == {RECORD} | kept

    def test_a_model_of_another_class_list_takes_over_between_two_frames_and_gives_way_again(self, rig: Rig) -> None:
        shop = ("bottle", "person")
        assert rig.play(2) == ["gate-1"] * 2
        rig.deliver(rig.ship(tiny.student(classes=shop), classes=shop))
        assert rig.play(9) == ["gate-2"] * 9
        current = rig.slot.current()
        assert current is not None
        assert current.classes == shop
        rig.deliver(rig.ship(tiny.student(tag="back"), counter=3))
        assert rig.play(9) == ["gate-3"] * 9
        assert [outcome for _, outcome, _ in verdicts(rig)] == ["live", "live"]

    def test_frames_never_wait_for_a_model_being_made(self, rig: Rig) -> None:
        go_on, holding = threading.Event(), threading.Event()

        def hold() -> None:
            holding.set()
            go_on.wait(20)

        rig.builder.submit(hold)
        assert holding.wait(5)
        frame = tiny.Still(tiny.picture(320, 192))
        for _ in range(5):
            student = rig.slot.between_frames(rig.fake.monotonic())
            assert student is not None
            rig.slot.observe(frame, student.infer([frame])[0], rig.fake.monotonic())
        go_on.set()

    def test_without_an_initial_model_the_first_one_comes_from_the_cloud(self, rigging: Rigging) -> None:
        rig = rigging(initial=None)
        assert rig.play(1) == ["none"]

        rig.deliver(rig.ship(NEW))

        assert rig.play(9) == ["gate-2"] * 9
        assert verdicts(rig) == [("gate-2", "live", "passed")]

    def test_a_first_model_that_fails_is_taken_away_again(self, rigging: Rigging) -> None:
        rig = rigging(initial=None)
        rig.deliver(rig.ship(tiny.student(nan_above=0.91)))

        rig.play(1, np.full((192, 320, 3), 255, np.uint8))

        assert rig.running() is None
        rig.wait()
        assert verdicts(rig) == [("gate-2", "rolled-back", "not-finite")]


class TestRejection:
    """A bad model never sees a frame, and what runs is not disturbed."""

    def rejected(self, rig: Rig, shipped: tiny.Shipped) -> str:
        rig.deliver(shipped)
        assert rig.play(2) == ["gate-1"] * 2
        ((model_id, outcome, reason),) = verdicts(rig)
        assert (model_id, outcome) == ("gate-2", "rejected")
        assert rig.slot.record.refused == ("gate-2",)
        assert not rig.slot.path("gate-2", "onnx").exists()
        return reason

    def test_other_bytes_than_declared(self, rig: Rig) -> None:
        shipped = rig.ship(NEW)
        mixed = tiny.Shipped(tiny.student(tag="xyz"), shipped.manifest, shipped.signed)
        with pytest.raises(ManifestError):
            verify_model(mixed.manifest, mixed.model)

        assert "gate-2" in self.rejected(rig, mixed)

    def test_other_things_in_the_golden_frame(self, rig: Rig) -> None:
        assert "golden frame 0" in self.rejected(rig, rig.ship(tiny.student(shift=1), golden_from=NEW))

    def test_no_numbers(self, rig: Rig) -> None:
        assert "not numbers" in self.rejected(rig, rig.ship(tiny.student(nan_above=0.1), golden_from=NEW))

    @pytest.mark.parametrize("hostile", [tiny.foreign, tiny.external, tiny.crowded, tiny.failing])
    def test_a_hostile_file_even_when_it_is_signed(self, rig: Rig, hostile: Callable[[], bytes]) -> None:
        assert self.rejected(rig, rig.ship(hostile(), golden_from=NEW))

    def test_one_that_its_vetting_refuses(self, rigging: Rigging) -> None:
        def refuse(model: Path, sizes: list[tuple[int, int]]) -> None:
            raise ModelError(f"{model.stem} is bad at {sizes}")

        rig = rigging(vet=refuse)

        assert self.rejected(rig, rig.ship(NEW)) == "gate-2 is bad at [(128, 160)]"

    def test_one_that_really_never_ends(self, rigging: Rigging) -> None:
        from culling.edge.model.vetting import Limits, vet

        rig = rigging(vet=lambda model, sizes: vet(model, sizes, Limits(wall_s=1.5)))

        assert "did not answer" in self.rejected(rig, rig.ship(tiny.forever(), golden_from=NEW))

    def test_it_is_not_tried_again_but_told_again(self, rig: Rig) -> None:
        shipped = rig.ship(tiny.student(shift=1), golden_from=NEW)
        self.rejected(rig, shipped)
        rig.slot.reported(rig.slot.reports()[0])

        assert not rig.slot.offer(shipped.manifest)

        assert verdicts(rig) == [("gate-2", "rejected", "refused-before")]


class TestRollback:
    """A model that passes its golden frame and goes wrong on the camera's own."""

    def rolled_back(self, rig: Rig, rgb: Any = None, frames: int = 12) -> str:
        played = rig.play(frames, rgb)
        rig.wait()
        assert rig.running() == played[-1] == "gate-1"
        ((model_id, outcome, reason),) = verdicts(rig)
        assert (model_id, outcome) == ("gate-2", "rolled-back")
        assert rig.slot.record.live is None
        return reason

    def test_results_that_are_no_numbers(self, rig: Rig) -> None:
        rig.deliver(rig.ship(tiny.student(nan_above=0.91)))

        assert self.rolled_back(rig, np.full((192, 320, 3), 255, np.uint8)) == "not-finite"

    def test_frames_it_fails_on(self, rig: Rig) -> None:
        rig.deliver(rig.ship(NEW))
        rig.play(1)
        for _ in range(3):
            rig.slot.failed(ModelError("out of memory"), rig.fake.monotonic())

        assert self.rolled_back(rig) == "errors"

    def test_never_finding_anything(self, rig: Rig) -> None:
        blind = tiny.student(floor=2.0)
        rig.deliver(rig.ship(blind))

        assert self.rolled_back(rig) == "always-empty"

    def test_nothing_is_held_against_a_model_while_the_road_is_empty(self, rig: Rig) -> None:
        rig.deliver(rig.ship(NEW))

        assert rig.play(12, DARK)[-1] == "gate-2"
        assert verdicts(rig) == [("gate-2", "live", "passed")]

    def test_other_classes_for_the_same_things(self, rig: Rig) -> None:
        rig.deliver(rig.ship(tiny.student(shift=1)))

        assert self.rolled_back(rig) == "class-drift"

    def test_twice_the_time(self, rigging: Rigging) -> None:
        rig = rigging(clock=SystemClock())
        rig.deliver(rig.ship(tiny.student(turns=300)))

        assert self.rolled_back(rig) == "slow"

    def test_the_model_before_a_live_one_comes_back(self, rig: Rig) -> None:
        rig.deliver(rig.ship(NEW))
        rig.play(10)
        rig.deliver(rig.ship(tiny.student(floor=2.0), 3))

        assert rig.play(10)[-1] == "gate-2"
        rig.wait()
        assert rig.slot.record.live == "gate-2"


class TestPowerCuts:
    """The power goes right after any write; what was on disk then must boot."""

    def snapshots(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[Path]:
        """Return a copy of the slot's folder as it was after each write of `act`."""
        from culling.common.atomic import write_atomic

        taken: list[Path] = []

        def write(path: Path, data: bytes, mode: int = 0o644) -> None:
            write_atomic(path, data, mode)
            taken.append(rig.folder / f"cut-{len(taken)}")
            shutil.copytree(rig.folder / "gate", taken[-1] / "gate")

        monkeypatch.setattr("culling.edge.model.shelf.write_atomic", write)
        act()
        monkeypatch.undo()
        return taken

    def test_from_every_moment_of_a_swap_the_next_boot_works_and_ends_it(
        self, rig: Rig, rigging: Rigging, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shipped = rig.ship(NEW)

        def swap() -> None:
            rig.deliver(shipped)
            rig.play(10)
            rig.wait()

        cuts = self.snapshots(rig, monkeypatch, swap)

        seen = set()
        for cut in cuts:
            record = msgspec.json.decode((cut / "gate" / RECORD).read_bytes(), type=SlotRecord)
            seen.add(record.candidate.state if record.candidate else record.live)
            after = rigging(folder=cut)
            assert after.running() == record.live or after.running() == "gate-1"
            after.wait()
            if not after.slot.path("gate-2", "onnx").exists():
                after.deliver(shipped)
            after.play(10)
            after.wait()
            assert after.slot.record.live == "gate-2"
            assert ("gate-2", "live", "passed") in verdicts(after)
        assert seen == {None, *set(State) - {State.LIVE, State.REJECTED, State.ROLLED_BACK, State.SHADOW}, "gate-2"}

    @pytest.mark.parametrize("reached", [State.STAGED, State.WARMING, State.SWITCHED, State.PROBATION])
    def test_a_model_that_always_cuts_the_power_is_tried_three_times_and_reported(
        self, rig: Rig, rigging: Rigging, monkeypatch: pytest.MonkeyPatch, reached: State
    ) -> None:
        shipped = rig.ship(NEW)
        cut = self._cut(rig, monkeypatch, reached, lambda: rig.deliver(shipped))
        for _ in range(MAX_ATTEMPTS - 1):
            again = rigging(folder=cut, boot=False)
            cut = self._cut(again, monkeypatch, reached, again.slot.boot)

        after = rigging(folder=cut)

        assert after.running() == "gate-1"
        outcome = "rolled-back" if reached in (State.SWITCHED, State.PROBATION) else "rejected"
        assert verdicts(after) == [("gate-2", outcome, "gave-up")]
        assert not after.slot.offer(shipped.manifest)

    def _cut(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, reached: State, act: Callable[[], object]) -> Path:
        """Return what was on disk when `act`, and the frames after it, had brought the candidate to `reached`."""

        def go_on() -> None:
            act()
            rig.wait()
            assert "gate-2" in rig.play(2)

        return next(cut for cut in self.snapshots(rig, monkeypatch, go_on) if self._state(cut) is reached)

    @staticmethod
    def _state(cut: Path) -> State | None:
        record = msgspec.json.decode((cut / "gate" / RECORD).read_bytes(), type=SlotRecord)
        return record.candidate.state if record.candidate else None


class TestBoot:
    def live(self, rig: Rig) -> None:
        for counter in (2, 3):
            rig.deliver(rig.ship(tiny.student(tag=str(counter)), counter))
            rig.play(10)
        rig.wait()
        assert (rig.slot.record.live, rig.slot.record.previous) == ("gate-3", "gate-2")

    def test_the_live_model_comes_back(self, rig: Rig, rigging: Rigging) -> None:
        self.live(rig)

        assert rigging().running() == "gate-3"

    @pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
    def test_where_it_is_damaged_the_previous_one_starts_and_that_is_told(
        self, rig: Rig, rigging: Rigging, damage: str
    ) -> None:
        self.live(rig)
        path = rig.slot.path("gate-3", "manifest" if damage == "manifest" else "onnx")
        path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-100])

        after = rigging()

        assert after.running() == after.slot.record.live == "gate-2"
        assert verdicts(after)[-1] == ("gate-3", "rolled-back", "did-not-start")

    def test_where_both_are_damaged_the_initial_one_starts(self, rig: Rig, rigging: Rigging) -> None:
        self.live(rig)
        for model_id in ("gate-2", "gate-3"):
            rig.slot.path(model_id, "onnx").write_bytes(b"")

        assert rigging().running() == "gate-1"

    def test_where_even_that_is_damaged_the_agent_hears_of_it(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path)
        (tmp_path / "initial.onnx").write_bytes(b"")

        with pytest.raises(ManifestError, match="has 0 bytes"):
            rig.slot.boot()
        rig.close()

    def test_a_lost_record_costs_no_frames(self, rig: Rig, rigging: Rigging) -> None:
        self.live(rig)
        (rig.folder / "gate" / RECORD).write_bytes(b"{torn")

        after = rigging()

        assert after.play(1) == ["gate-1"]
        assert after.errors == ["storage"]
        assert (rig.folder / "gate" / f"{RECORD}.corrupt").read_bytes() == b"{torn"
        assert rigging().errors == [], "the new record is sound"

    def test_a_record_that_cannot_even_be_read_is_set_aside_too(self, rig: Rig, rigging: Rigging) -> None:
        self.live(rig)
        (rig.folder / "gate" / RECORD).unlink()
        (rig.folder / "gate" / RECORD).mkdir()

        after = rigging()

        assert after.play(1) == ["gate-1"]
        assert after.errors == ["storage"]
        assert (rig.folder / "gate" / f"{RECORD}.corrupt").is_dir()
        after.deliver(after.ship(NEW, 4))
        assert after.play(10)[-1] == "gate-4"

    @pytest.mark.parametrize("unread", [{"gate-3"}, {"gate-2", "gate-3"}])
    def test_a_model_that_cannot_be_read_this_time_keeps_its_place(
        self, rig: Rig, rigging: Rigging, monkeypatch: pytest.MonkeyPatch, unread: set[str]
    ) -> None:
        self.live(rig)
        before = rig.slot.record
        read_bytes = Path.read_bytes

        def read(path: Path) -> bytes:
            if path.stem in unread:
                raise OSError(5, "Input/output error")
            return read_bytes(path)

        monkeypatch.setattr(Path, "read_bytes", read)
        for_now = rigging()
        assert for_now.running() == ("gate-2" if len(unread) == 1 else "gate-1")
        assert for_now.slot.record == before
        monkeypatch.undo()

        assert rigging().running() == "gate-3"

    def test_a_provider_that_fails_at_boot_condemns_no_model(
        self, rig: Rig, rigging: Rigging, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.live(rig)
        monkeypatch.setattr(Builder, "build", out_of_memory("gate-3"))
        assert rigging().running() == "gate-2"
        monkeypatch.undo()

        after = rigging()

        assert after.running() == "gate-3"
        assert after.slot.record.refused == ()

    def test_reports_wait_for_the_cloud_across_a_restart(self, rig: Rig, rigging: Rigging) -> None:
        self.live(rig)
        rig.slot.reported(rig.slot.reports()[0])

        assert verdicts(rigging()) == [("gate-3", "live", "passed")]


def out_of_memory(model_id: str) -> Callable[..., Student]:
    build = Builder.build

    def fail(builder: Builder, manifest: Manifest, model: bytes) -> Student:
        if manifest.model_id == model_id:
            raise ModelError("the model failed on a batch: out of memory")
        return build(builder, manifest, model)

    return fail


class TestDisk:
    """A disk that is full stops the swapping, never the detecting."""

    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        def refuse(path: Path, data: bytes, mode: int = 0o644) -> None:
            raise StorageError(f"cannot write {path}: No space left on device")

        return lambda: monkeypatch.setattr("culling.edge.model.shelf.write_atomic", refuse)

    def test_an_offer_that_cannot_be_written_is_not_taken(self, rig: Rig, full: Callable[[], None]) -> None:
        full()
        with pytest.raises(StorageError):
            rig.slot.offer(rig.ship(NEW).manifest)

        assert rig.slot.record == SlotRecord()

    def test_a_try_that_cannot_be_counted_is_not_made(self, rig: Rig, full: Callable[[], None]) -> None:
        shipped = rig.ship(NEW)
        assert rig.slot.offer(shipped.manifest)
        rig.slot.downloading()
        rig.slot.path("gate-2", "onnx").write_bytes(shipped.model)
        full()
        rig.slot.stage("gate-2")
        rig.wait()

        assert rig.play(2) == ["gate-1"] * 2
        assert rig.errors == ["storage"]
        assert state(rig) is None

    def test_after_that_the_same_offer_starts_over(
        self, rig: Rig, full: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.test_a_try_that_cannot_be_counted_is_not_made(rig, full)
        monkeypatch.undo()

        rig.deliver(rig.ship(NEW))

        assert rig.play(10)[-1] == "gate-2"

    def test_tries_cut_short_by_the_disk_end_in_a_verdict_and_not_in_the_agents_death(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shipped = rig.ship(NEW)

        def vanish(model: Path, sizes: object) -> None:
            model.unlink()

        monkeypatch.setattr(rig.slot, "_vet", vanish)
        for _ in range(MAX_ATTEMPTS):
            rig.deliver(shipped)
            assert state(rig) is None
            assert verdicts(rig) == []
        monkeypatch.setattr(rig.slot, "_vet", lambda model, sizes: None)
        rig.deliver(shipped)

        assert verdicts(rig) == [("gate-2", "rejected", "gave-up")]
        assert rig.builder.failure is None
        assert rig.play(1) == ["gate-1"]

    def test_a_verdict_that_cannot_be_written_holds_until_the_next_boot(
        self, rig: Rig, full: Callable[[], None]
    ) -> None:
        rig.deliver(rig.ship(NEW))
        full()

        assert rig.play(10)[-1] == "gate-2"
        assert rig.slot.record.live == "gate-2"
        assert set(rig.errors) == {"storage"}


class TestOffers:
    def test_what_was_accepted_bounds_what_will_be(self, rig: Rig) -> None:
        assert rig.slot.trust({}).counter == 1  # the initial model's
        rig.slot.offer(rig.ship(NEW, 7).manifest)

        trust = rig.slot.trust({})
        assert (trust.camera, trust.counter) == ("gate", 7)
        assert trust.sha256 == rig.ship(NEW, 7).manifest.sha256

    def test_the_initial_model_is_not_fetched(self, rig: Rig) -> None:
        assert not rig.slot.offer(tiny.ship(tiny.student(), KEY).manifest)

    def test_the_live_model_is_not_fetched_again(self, rig: Rig) -> None:
        shipped = rig.ship(NEW)
        rig.deliver(shipped)
        rig.play(10)

        assert not rig.slot.offer(shipped.manifest)

    def test_a_candidate_that_waits_for_its_first_frame_is_not_fetched_again(self, rig: Rig) -> None:
        shipped = rig.ship(NEW)
        rig.deliver(shipped)
        assert state(rig) is State.SWITCHED

        assert not rig.slot.offer(shipped.manifest)
        with pytest.raises(ManifestError, match="waits for the verdict"):
            rig.slot.offer(rig.ship(NEW, 3).manifest)

    def test_a_newer_offer_while_a_model_is_looked_at_makes_it_give_way(self, rigging: Rigging) -> None:
        looked, go_on = threading.Event(), threading.Event()

        def slow_look(model: Path, sizes: list[tuple[int, int]]) -> None:
            looked.set()
            assert go_on.wait(20)

        rig = rigging(vet=slow_look)
        shipped, newer = rig.ship(NEW), rig.ship(NEW, 3)
        rig.slot.offer(shipped.manifest)
        rig.slot.downloading()
        rig.slot.path("gate-2", "onnx").write_bytes(shipped.model)
        rig.slot.stage("gate-2")
        assert looked.wait(10)
        assert not rig.slot.offer(shipped.manifest)

        assert rig.slot.offer(newer.manifest)
        go_on.set()
        rig.wait()

        assert rig.slot.record.candidate is not None
        assert rig.slot.record.candidate.model_id == "gate-3"
        assert rig.slot.reports() == ()
        rig.deliver(newer)
        assert rig.play(10)[-1] == "gate-3"

    def test_the_verdict_on_a_superseded_model_is_not_given_to_the_newer_one(self, rigging: Rigging) -> None:
        rig, go_on = self.superseded(rigging, ModelError("bad"))

        go_on.set()
        rig.wait()

        assert verdicts(rig) == []
        assert rig.slot.record.refused == ()
        assert rig.slot.record.candidate == Candidate("gate-3", State.OFFERED)

    def test_nor_is_a_disk_that_failed_it_held_against_the_newer_one(self, rigging: Rigging) -> None:
        rig, go_on = self.superseded(rigging, StorageError("no room"))

        go_on.set()
        rig.wait()

        assert rig.slot.record.candidate == Candidate("gate-3", State.OFFERED)

    def test_the_end_of_a_superseded_model_does_not_hide_that_the_newer_one_is_being_made(
        self, rigging: Rigging
    ) -> None:
        looked, go_on = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
        places = iter(range(2))

        def look(model: Path, sizes: list[tuple[int, int]]) -> None:
            place = next(places)
            looked[place].set()
            assert go_on[place].wait(20)

        rig = rigging(vet=look)
        self.put(rig, rig.ship(NEW))
        assert looked[0].wait(20)
        newer = rig.ship(tiny.student(tag="newer"), 3)
        self.put(rig, newer)
        go_on[0].set()
        assert looked[1].wait(20)

        assert not rig.slot.offer(newer.manifest), "it is in the builder's hands"
        go_on[1].set()
        rig.wait()
        assert rig.play(10)[-1] == "gate-3"

    def test_one_that_is_offered_again_while_it_is_looked_at_goes_on(self, rigging: Rigging) -> None:
        rig, go_on = self.superseded(rigging, None)
        renewed = msgspec.structs.replace(rig.ship(NEW).manifest, counter=4)

        assert not rig.slot.offer(renewed), "its file is here"
        go_on.set()
        rig.wait()

        assert rig.builder.failure is None
        assert rig.play(10)[-1] == "gate-2"

    @staticmethod
    def superseded(rigging: Rigging, error: CullingError | None) -> tuple[Rig, threading.Event]:
        """Return a rig in which gate-3 was offered while gate-2 was looked at, with `error` for a result."""
        looked, go_on = threading.Event(), threading.Event()

        def look(model: Path, sizes: list[tuple[int, int]]) -> None:
            looked.set()
            assert go_on.wait(20)
            if error is not None and model.stem == "gate-2":
                raise error

        rig = rigging(vet=look)
        TestOffers.put(rig, rig.ship(NEW))
        assert looked.wait(20)
        assert rig.slot.offer(rig.ship(tiny.student(tag="newer"), 3).manifest)
        return rig, go_on

    @staticmethod
    def put(rig: Rig, shipped: tiny.Shipped) -> None:
        """Deliver a model without waiting for what becomes of it."""
        assert rig.slot.offer(shipped.manifest)
        rig.slot.downloading()
        rig.slot.path(shipped.manifest.model_id, "onnx").write_bytes(shipped.model)
        rig.slot.stage(shipped.manifest.model_id)


class TestNotVetted:
    """A look that was ended from outside says nothing about the model."""

    def test_the_model_is_tried_again_when_it_is_next_offered(self, rigging: Rigging) -> None:
        looks = iter([NotVettedError("ended by SIGKILL")])

        def look(model: Path, sizes: list[tuple[int, int]]) -> None:
            for error in looks:
                raise error

        rig = rigging(vet=look)
        rig.deliver(rig.ship(NEW))
        assert verdicts(rig) == []
        assert rig.errors == ["not-vetted"]
        assert rig.slot.path("gate-2", "onnx").exists(), "it need not be fetched again"

        rig.deliver(rig.ship(NEW))

        assert rig.play(10)[-1] == "gate-2"

    def test_but_not_for_ever(self, rigging: Rigging) -> None:
        def look(model: Path, sizes: list[tuple[int, int]]) -> None:
            raise NotVettedError("ended by SIGKILL")

        rig = rigging(vet=look)
        for _ in range(MAX_ATTEMPTS + 1):
            assert verdicts(rig) == []
            rig.deliver(rig.ship(NEW))

        assert verdicts(rig) == [("gate-2", "rejected", "gave-up")]


def test_the_defaults_end_a_bad_probation_within_ten_seconds() -> None:
    from culling.edge.model.probation import ProbationRules

    rules = ProbationRules()

    assert rules.sure_samples * rules.spacing_s < 10
    assert QUICK.samples >= QUICK.sure_samples
