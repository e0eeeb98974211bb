from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Set
from functools import partial

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from culling.common.errors import ManifestError, ModelError
from culling.common.wire.manifest import Manifest
from culling.edge.model import hotswap
from culling.edge.model.hotswap import MAX_ATTEMPTS, NEXT, Candidate, Outcome, SlotRecord, State

CAMERA = "gate"
TRIED = (State.STAGED, State.WARMING, State.SWITCHED, State.PROBATION)


def manifest(number: int, model_id: str | None = None) -> Manifest:
    return Manifest(
        model_id=model_id or f"m{number}",
        camera=CAMERA,
        counter=number,
        sha256=f"{number:064x}",
        size=1,
        scale=1.0,
        long_side=640,
        classes=("person",),
        parent=None,
        created=0.0,
        expires=1e9,
    )


def offered(number: int, record: SlotRecord | None = None) -> SlotRecord:
    return hotswap.offer(record or SlotRecord(), manifest(number), at=1.0)


def brought_to(state: State, record: SlotRecord | None = None, number: int = 1) -> SlotRecord:
    """Return `record` with candidate `m<number>` in `state`, tried once if it is beyond its download."""
    record = offered(number, record)
    for step in (State.DOWNLOADING, *TRIED):
        if record.candidate and record.candidate.state is state:
            return record
        if step is State.STAGED:
            record = hotswap.attempt(record)
        record = hotswap.advance(record, step)
    return record


def gone_live(number: int = 1, record: SlotRecord | None = None) -> SlotRecord:
    return hotswap.conclude(brought_to(State.PROBATION, record, number), "live", "passed", CAMERA, 2.0, 30.0)


class TestSteps:
    def test_the_way_to_live_is_told_with_the_model_it_replaced(self) -> None:
        record = gone_live(2, gone_live(1))

        assert (record.live, record.previous, record.candidate) == ("m2", "m1", None)
        assert [(report.model_id, report.previous, report.outcome) for report in record.reports] == [
            ("m1", None, "live"),
            ("m2", "m1", "live"),
        ]
        assert record.reports[1].gap_ms == 30.0

    @pytest.mark.parametrize("state", [State.OFFERED, State.DOWNLOADING, State.STAGED, State.WARMING])
    def test_before_it_takes_over_a_model_can_be_rejected(self, state: State) -> None:
        record = hotswap.conclude(brought_to(state, gone_live(1), 2), "rejected", "slow", CAMERA, 2.0)

        assert (record.live, record.refused, record.candidate) == ("m1", ("m2",), None)
        assert record.reports[-1].outcome == "rejected"

    @pytest.mark.parametrize("state", [State.SWITCHED, State.PROBATION])
    def test_after_it_took_over_it_is_rolled_back(self, state: State) -> None:
        record = hotswap.conclude(brought_to(state, gone_live(1), 2), "rolled-back", "errors", CAMERA, 2.0)

        assert (record.live, record.refused) == ("m1", ("m2",))
        assert record.reports[-1].outcome == "rolled-back"

    def test_steps_that_the_table_does_not_have_are_mistakes(self) -> None:
        for state in [State.OFFERED, State.DOWNLOADING, *TRIED]:
            record = brought_to(state)
            for other in set(State) - NEXT[state]:
                with pytest.raises(AssertionError):
                    hotswap.advance(record, other)

    def test_every_state_leads_to_an_end(self) -> None:
        ends = {state for state in State if not NEXT[state]}

        assert ends == {State.LIVE, State.REJECTED, State.ROLLED_BACK}
        reachable = {State.OFFERED}
        for _ in State:
            reachable |= {follower for state in reachable for follower in NEXT[state]}
        assert reachable == set(State)

    def test_a_report_stays_until_it_was_sent(self) -> None:
        record = gone_live(2, gone_live(1))

        left = hotswap.reported(record, record.reports[0])

        assert [report.model_id for report in left.reports] == ["m2"]
        assert hotswap.reported(left, record.reports[0]) == left

    def test_the_record_survives_its_own_file(self) -> None:
        record = brought_to(State.WARMING, gone_live(1), 2)

        assert msgspec.json.decode(msgspec.json.encode(record), type=SlotRecord) == record


class TestOffers:
    def test_the_counter_and_hash_of_what_was_accepted_are_kept(self) -> None:
        record = hotswap.conclude(offered(7), "rejected", "bad", CAMERA, 1.0)

        assert (record.counter, record.sha256) == (7, f"{7:064x}")

    def test_a_newer_offer_takes_the_place_of_a_download(self) -> None:
        record = offered(2, brought_to(State.DOWNLOADING))

        assert record.candidate == Candidate("m2", State.OFFERED)

    @pytest.mark.parametrize("state", TRIED)
    def test_a_newer_offer_waits_for_the_verdict_on_a_model_being_tried(self, state: State) -> None:
        with pytest.raises(ManifestError, match="m2 waits for the verdict on m1") as raised:
            offered(2, brought_to(state))
        assert raised.value.reason == "busy"

    def test_the_previous_model_may_come_back_and_fail_and_is_then_no_longer_kept(self) -> None:
        twice = gone_live(2, gone_live(1))
        back = hotswap.offer(twice, manifest(3, "m1"), 3.0)

        record = hotswap.conclude(back, "rejected", "bad", CAMERA, 4.0)

        assert (record.live, record.previous, record.refused) == ("m2", None, ("m1",))

    @pytest.mark.parametrize("state", [State.OFFERED, State.DOWNLOADING, *TRIED])
    def test_the_same_offer_again_disturbs_nothing(self, state: State) -> None:
        record = brought_to(state)

        assert offered(1, record) == record

    def test_the_live_model_under_a_new_counter_is_not_fetched_again(self) -> None:
        record = hotswap.offer(gone_live(1), manifest(5, "m1"), 3.0)

        assert record.candidate is None
        assert record.counter == 5

    def test_a_refused_model_is_reported_again_but_once_at_a_time(self) -> None:
        refused = hotswap.conclude(offered(1), "rejected", "bad", CAMERA, 1.0)
        told = hotswap.reported(refused, refused.reports[0])

        record = hotswap.offer(told, manifest(1), 3.0)

        assert record.candidate is None
        assert [(report.outcome, report.reason) for report in record.reports] == [("rejected", "refused-before")]
        assert hotswap.offer(record, manifest(1), 4.0) == record


class TestBoot:
    @pytest.mark.parametrize("state", TRIED)
    def test_a_try_cut_short_starts_over_with_the_proven_model(self, state: State) -> None:
        record = hotswap.wake(brought_to(state, gone_live(1), 2), CAMERA, 5.0)

        assert record.candidate == Candidate("m2", State.DOWNLOADING)
        assert hotswap.boot_order(record) == ("m1", None)

    @pytest.mark.parametrize("state", TRIED)
    def test_the_last_try_cut_short_is_the_end_of_it(self, state: State) -> None:
        cut = msgspec.structs.replace(brought_to(state), attempts={"m1": MAX_ATTEMPTS})

        record = hotswap.wake(cut, CAMERA, 5.0)

        assert (record.candidate, record.refused) == (None, ("m1",))
        had_taken_over = state in (State.SWITCHED, State.PROBATION)
        assert record.reports[-1].outcome == ("rolled-back" if had_taken_over else "rejected")
        assert record.reports[-1].reason == "gave-up"

    def test_a_model_that_kills_its_check_three_times_is_given_up_too(self) -> None:
        record = brought_to(State.DOWNLOADING)
        for _ in range(MAX_ATTEMPTS):
            assert record.candidate is not None
            record = hotswap.wake(hotswap.attempt(record), CAMERA, 5.0)

        assert record.refused == ("m1",)

    def test_the_order_is_live_previous_initial(self) -> None:
        assert hotswap.boot_order(SlotRecord()) == (None,)
        assert hotswap.boot_order(gone_live(1)) == ("m1", None)
        assert hotswap.boot_order(gone_live(2, gone_live(1))) == ("m2", "m1", None)

    @pytest.mark.parametrize(("broken", "to"), [({"m2"}, "m1"), ({"m2", "m1"}, None)])
    def test_a_live_model_that_is_broken_is_rolled_back_and_told(self, broken: set[str], to: str | None) -> None:
        record = hotswap.fall_back(gone_live(2, gone_live(1)), broken, CAMERA, 6.0)

        assert (record.live, record.previous, record.refused) == (to, None, ("m2",))
        report = record.reports[-1]
        assert (report.model_id, report.previous, report.outcome) == ("m2", to, "rolled-back")

    def test_a_previous_model_that_is_broken_costs_the_live_one_nothing(self) -> None:
        record = hotswap.fall_back(gone_live(2, gone_live(1)), {"m1"}, CAMERA, 6.0)

        assert (record.live, record.previous, record.refused) == ("m2", None, ())

    def test_a_boot_on_which_all_is_well_changes_nothing(self) -> None:
        record = gone_live(1)

        assert hotswap.fall_back(hotswap.wake(record, CAMERA, 6.0), set(), CAMERA, 6.0) == record


class TestAbandoning:
    @pytest.mark.parametrize("state", [State.DOWNLOADING, State.STAGED, State.WARMING])
    def test_an_abandoned_try_is_no_verdict_but_counts(self, state: State) -> None:
        record = hotswap.abandon(brought_to(state, gone_live(1), 2))

        assert (record.candidate, record.refused, record.live) == (None, (), "m1")
        again = offered(2, record)
        assert again.candidate == Candidate("m2", State.OFFERED)
        assert again.attempts == ({} if state is State.DOWNLOADING else {"m2": 1})

    def test_after_the_last_try_there_is_no_other(self) -> None:
        record = SlotRecord()
        for _ in range(MAX_ATTEMPTS):
            record = hotswap.abandon(brought_to(State.WARMING, record))

        with pytest.raises(ModelError, match=r"^gave-up$"):
            hotswap.attempt(offered(1, record))


class Swaps(RuleBasedStateMachine):
    """Models come and go, and the power fails whenever it likes; only what was written survives."""

    @initialize()
    def install(self) -> None:
        self.disk = msgspec.json.encode(SlotRecord())
        self.record = SlotRecord()
        self.running: str | None = None
        self.proven: set[str | None] = {None}
        self.tries: Counter[str] = Counter()
        self.ended: dict[str, Outcome] = {}
        self.told: list[tuple[str, str]] = []
        self.number = 0

    def write(self, record: SlotRecord) -> None:
        self.record, self.disk = record, msgspec.json.encode(record)

    def state(self) -> State | None:
        return self.record.candidate.state if self.record.candidate else None

    def end(self, outcome: Outcome) -> None:
        assert self.record.candidate is not None
        model_id = self.record.candidate.model_id
        self.write(hotswap.conclude(self.record, outcome, "why", CAMERA, 1.0))
        self.ended[model_id] = outcome
        if outcome == "live":
            self.proven.add(model_id)
        self.running = self.record.live

    @rule(ago=st.integers(0, 3), share=st.sampled_from([None, 0.5]))
    def offer_a_model(self, ago: int, share: float | None) -> None:
        """Offer a new model, or one from some offers ago once more, for use or to run beside the one in use."""
        self.number += 1
        model_id = f"m{max(1, self.number - ago)}"
        with contextlib.suppress(ManifestError):  # busy
            self.write(hotswap.offer(self.record, manifest(self.number, model_id), 1.0, share))

    @rule(ago=st.integers(0, 3))
    def withdraw_a_model(self, ago: int) -> None:
        """Say that a model is not to run beside the one in use, whether it does or not."""
        model_id, was = f"m{max(1, self.number - ago)}", hotswap.shadow(self.record)
        before = self.record
        self.write(hotswap.withdraw(self.record, model_id, CAMERA, 1.0))
        if was == model_id:
            self.ended[model_id] = "rejected"
        else:
            assert self.record == before, "no other model is touched"

    @precondition(lambda self: self.state() is State.SHADOW)
    @rule(failed=st.booleans())
    def run_beside(self, failed: bool) -> None:
        """The model beside the one in use runs on many frames, or fails."""
        assert self.record.candidate is not None
        assert self.running != self.record.candidate.model_id, "it answers no frame"
        if failed:
            self.end("rejected")
        else:
            self.write(hotswap.settle(self.record))
            self.tries[self.record.candidate.model_id] = 0

    @precondition(lambda self: self.state() is State.SHADOW and hotswap.shadow(self.record) is None)
    @rule()
    def take_over(self) -> None:
        assert self.record.candidate is not None
        self.write(hotswap.advance(self.record, State.SWITCHED))
        self.running = self.record.candidate.model_id

    @precondition(lambda self: self.state() is State.OFFERED)
    @rule()
    def start_the_download(self) -> None:
        self.write(hotswap.advance(self.record, State.DOWNLOADING))

    @precondition(lambda self: self.state() is State.DOWNLOADING)
    @rule(cut=st.booleans())
    def try_it(self, cut: bool) -> None:
        assert self.record.candidate is not None
        try:
            self.write(hotswap.attempt(self.record))
        except ModelError:
            assert self.tries[self.record.candidate.model_id] == MAX_ATTEMPTS
            self.end("rejected")
            return
        self.tries[self.record.candidate.model_id] += 1
        if cut:
            self.cut_the_power()
        else:
            self.write(hotswap.advance(self.record, State.STAGED))

    @precondition(lambda self: self.state() in (State.STAGED, State.WARMING, State.SWITCHED))
    @rule()
    def go_on(self) -> None:
        state = self.state()
        if state is State.WARMING:
            self.write(hotswap.take_place(self.record, alone=False))
        else:
            self.write(hotswap.advance(self.record, State.WARMING if state is State.STAGED else State.PROBATION))
        if self.state() is State.SWITCHED and self.record.candidate:
            self.running = self.record.candidate.model_id

    @precondition(lambda self: self.state() in (State.DOWNLOADING, State.STAGED, State.WARMING))
    @rule()
    def reject_it(self) -> None:
        self.end("rejected")

    @precondition(lambda self: self.state() in (State.DOWNLOADING, State.STAGED, State.WARMING))
    @rule()
    def abandon_it(self) -> None:
        """As when the disk fails: what is on it stays as it was."""
        self.record = hotswap.abandon(self.record)

    @precondition(lambda self: self.state() in (State.SWITCHED, State.PROBATION))
    @rule()
    def roll_it_back(self) -> None:
        self.end("rolled-back")

    @precondition(lambda self: self.state() is State.PROBATION)
    @rule()
    def let_it_live(self) -> None:
        self.end("live")

    @rule()
    def tell_the_cloud(self) -> None:
        for report in self.record.reports:
            self.told.append((report.model_id, report.outcome))
            self.write(hotswap.reported(self.record, report))

    @rule(broken=st.sets(st.integers(0, 1)), unread=st.sets(st.integers(0, 1)))
    def cut_the_power(self, broken: Set[int] = frozenset(), unread: Set[int] = frozenset()) -> None:
        """Boot from what is on disk; of the models in `boot_order`, those at the places `broken` are so for good, those
        at the places `unread` cannot be read this time.
        """
        on_disk = msgspec.json.decode(self.disk, type=SlotRecord)
        record = hotswap.wake(on_disk, CAMERA, 2.0)
        if on_disk.candidate is not None and record.candidate is None:
            self.ended[on_disk.candidate.model_id] = record.reports[-1].outcome
        found: set[str] = set()
        for place, model in enumerate(hotswap.boot_order(record)):
            self.running = model
            if model is None or place not in broken | unread:
                break
            if place in broken:
                found.add(model)
        if record.live in found:
            self.ended[record.live] = "rolled-back"
        self.write(hotswap.fall_back(record, found, CAMERA, 2.0))
        assert record.live in found or self.record.live == record.live, "what could not be read keeps its place"

    @invariant()
    def only_proven_models_are_kept_for_the_next_boot(self) -> None:
        on_disk = msgspec.json.decode(self.disk, type=SlotRecord)
        assert set(hotswap.boot_order(on_disk)) <= self.proven
        assert hotswap.boot_order(on_disk)[-1] is None

    @invariant()
    def no_model_is_tried_more_than_three_times(self) -> None:
        assert max(self.tries.values(), default=0) <= MAX_ATTEMPTS

    @invariant()
    def no_refused_model_runs_or_waits(self) -> None:
        candidate = self.record.candidate
        assert self.running not in self.record.refused
        assert candidate is None or candidate.model_id not in self.record.refused

    @invariant()
    def every_verdict_was_told_or_waits_to_be(self) -> None:
        waiting = [(report.model_id, report.outcome) for report in self.record.reports]
        for end in self.ended.items():
            assert end in [*self.told, *waiting]


Swaps.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSwaps = Swaps.TestCase


def test_a_hundred_swaps_leave_a_small_record() -> None:
    record = SlotRecord()
    for number in range(1, 300):
        end = partial(hotswap.conclude, brought_to(State.PROBATION, record, number), reason="x", camera=CAMERA, at=1.0)
        record = end(outcome="rolled-back" if number % 2 else "live")

    assert len(msgspec.json.encode(record)) < 60_000
    assert record.attempts == {}
