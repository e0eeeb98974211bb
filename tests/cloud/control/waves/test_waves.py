"""What the elected control does for students that are new to their cameras: over halts, restarts and silent edges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.control.actions import carry_out
from culling.cloud.control.control import SCHEDULE_S, Control
from culling.cloud.control.publish import Publisher, SupersededError
from culling.cloud.control.steering.accuracy import MeasuredAccuracy
from culling.cloud.control.waves.order import wave_of
from culling.cloud.control.waves.waves import TAKE_S, Waves
from culling.cloud.evaluation.accuracy import Accuracy, Estimate
from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.index import cameras, models
from culling.cloud.store.lifecycle import enter_labels
from culling.cloud.store.people.deeds import Deeds, operator
from culling.cloud.store.purge.purge import purge
from culling.cloud.store.requests import Request
from culling.cloud.store.waves.trials import Plan, Rollout, RolloutState, Trial, Trials
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.messages import Beside, SwapReport, to_wire
from support.clock import FakeClock
from support.cloud import CloudState, camera_state, detections, hard_frame

EDGE = "e" * 40
NAMES = ("gate", "yard", "ramp")
CAR = detections((0, 0, 20, 20, 0.9, 2))
NOTHING = detections()
AUDITS = 10
DEADLINE_S = 1000.0


class Fleet:
    """Three cameras of one edge, played; `waves` is what the elected control has."""

    def __init__(self, folder: Path, **waves: Any) -> None:
        self.clock = FakeClock(now=1_800_000_000.0)
        settings = {"shadow": 0.1, "audits": AUDITS, "deadline_s": DEADLINE_S, "waves": [0.3, 1.0], **waves}
        self.cloud = CloudState(folder, self.clock, waves=settings)
        self.cloud.enroll(*NAMES)
        self.metrics = Metrics(CollectorRegistry(), "cloud")
        for name in NAMES:
            self.cloud.publisher.publish(name, self.cloud.artefact(tag=name), "base")
            self.says(name)
        self.seq = 0
        self.restart()

    def restart(self) -> None:
        """Let another control take over."""
        shadows = self.cloud.settings.waves.shadow > 0
        files, key = self.cloud.files, self.cloud.keys.signing
        self.publisher = Publisher(self.cloud.index, files, key, 365.0, self.clock, shadows)
        settings, frames = self.cloud.settings, self.cloud.frames
        self.waves = Waves(self.cloud.index, frames, self.publisher, settings, self.metrics, self.clock)

    def says(self, camera: str, model_id: str | None = None, **changes: Any) -> None:
        """Have a camera's edge say what it runs."""
        state = camera_state(camera, model_id or f"{camera}-1", **{"shadow": "", **changes})
        self.cloud.roster.heard({camera: state}, {camera: self.clock.now()})

    def push(self, *names: str, rate: float = 0.1) -> int:
        names = names or NAMES
        students = {name: self.cloud.artefact(tag="pushed") for name in names}
        waves = self.cloud.settings.waves.waves
        plan = Plan("student.onnx", students, wave_of(names, waves), waves, rate)
        return Trials(self.cloud.index).begin(plan, operator(), self.clock.now())

    def publish(self, camera: str = "gate", tag: str = "new") -> str:
        """Publish a student as `culling cloud publish` does; return the answer."""
        payload = msgspec.to_builtins(self.cloud.artefact(tag=tag))
        return carry_out(Request(1, "publish", camera, payload), self.cloud.index, self.publisher)

    def audits(self, camera: str, beside: Detections, count: int = AUDITS, apart_s: float = 400.0) -> None:
        """Send and label audits of a camera, on which the student in use finds the car, and a shadow that."""
        (trial,) = [one for one in self.trials("shadow") if one.camera == camera]
        assert trial.model_id is not None
        self.sends(camera, trial.before, Beside(trial.model_id, to_wire(beside)), count, apart_s)

    def sends(
        self, camera: str, model_id: str | None, beside: Beside | None, count: int = AUDITS, apart_s: float = 400.0
    ) -> None:
        """Send and label audits of the student of that id, which finds the car."""
        for _ in range(count):
            self.seq += 1
            frame, jpeg = hard_frame(
                self.seq,
                camera,
                found=CAR,
                reason="audit",
                probability=0.01,
                model_id=model_id,
                shadow=beside,
                captured=self.clock.now() + self.seq * apart_s,
            )
            self.cloud.frames.add(EDGE, frame, jpeg)
        with self.cloud.index.write() as connection:
            rows = connection.exec_driver_sql("SELECT id FROM frames WHERE labels IS NULL").scalars().all()
            enter_labels(connection, dict.fromkeys(rows, CAR), self.clock.now())

    def reports(self, camera: str, outcome: Any = "live", reason: str = "passed") -> None:
        """Have the edge report on the student of the camera's trial."""
        (trial,) = [one for one in self.trials("shadow", "live") if one.camera == camera]
        assert trial.model_id is not None
        report = SwapReport(camera, trial.model_id, trial.before, outcome, reason, 0.0, self.clock.now())
        if outcome != "live":
            self.cloud.registry.withdraw(camera, trial.model_id, "rejected")
        self.cloud.registry.report(report, self.clock.now())

    def measures(self, camera: str, model_id: str, low: float, high: float, audits: int = AUDITS) -> None:
        """Have the accuracy of a camera's student measured, as the upkeep does."""
        found = Accuracy(audits, audits, Estimate((low + high) / 2, low, high), {}, None, Estimate(0.0, 0.0, 1.0))
        text = msgspec.json.encode(MeasuredAccuracy(model_id, self.clock.now(), found, None)).decode()
        with self.cloud.index.write() as connection:
            connection.execute(cameras.update().where(cameras.c.name == camera).values(accuracy=text))

    def trials(self, *states: str) -> list[Trial]:
        return Trials(self.cloud.index).trials(states)

    def states(self) -> dict[str, str]:
        return {one.camera: one.state for one in self.trials()}

    def turn(self, number: int, to: RolloutState) -> None:
        """Have a person bring a rollout into another state, and control go on from there."""
        states = ("running", "halted", "done")
        assert Trials(self.cloud.index).turn(number, states, to, operator(), self.clock.now(), "by hand", to)
        self.waves.tend()

    def live(self) -> dict[str, str]:
        return self.cloud.registry.live_ids()

    def rollout(self) -> Rollout:
        return Trials(self.cloud.index).rollouts()[-1]

    def passes(self, camera: str) -> None:
        """Take a camera's student from its shadow to the end of its probation."""
        self.audits(camera, CAR)
        self.waves.tend()
        self.reports(camera)
        self.waves.tend()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.cloud.close()


# One camera


def test_a_new_student_is_signed_and_live_only_after_it_was_found_not_to_be_worse(fleet: Fleet) -> None:
    assert fleet.publish() == "gate-2 runs beside the live model first: see `culling cloud waves`"
    assert fleet.live()["gate"] == "gate-1"
    fleet.waves.tend()
    assert fleet.states() == {"gate": "shadow"}
    fleet.audits("gate", CAR)
    fleet.waves.tend()
    assert fleet.live()["gate"] == "gate-2"
    assert fleet.states() == {"gate": "live"}
    fleet.reports("gate")
    fleet.waves.tend()
    assert fleet.states() == {"gate": "passed"}
    actions = [(row["action"], row["by"]) for row in Deeds(fleet.cloud.index).all()]
    assert actions == [("trial", "service"), ("promote", "service")]
    assert fleet.metrics.by("outcome", "trials", camera="gate") == {"passed": 1}


def test_a_worse_one_goes_and_the_camera_keeps_its_student(fleet: Fleet) -> None:
    fleet.publish()
    fleet.audits("gate", NOTHING)
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, fleet.live()["gate"]) == ("failed", "gate-1")
    assert "certainly worse" in trial.why
    assert fleet.cloud.registry.find("gate", "gate-2") is None


def test_audits_of_another_shadow_judge_nobody(fleet: Fleet) -> None:
    fleet.publish()
    fleet.audits("gate", NOTHING, AUDITS - 1)
    fleet.waves.tend()
    fleet.publish(tag="another")
    fleet.waves.tend()
    first, second = fleet.trials()
    assert (first.state, first.why) == ("left", "another model, gate-3, was published")
    fleet.audits("gate", CAR, 1)
    fleet.waves.tend()
    assert second.state == "shadow"
    assert fleet.states() == {"gate": "shadow"}


@pytest.mark.parametrize(
    ("said", "why"),
    [({"shadow": None}, "its edge knows no shadows"), ({"model_id": "gate-0"}, "its edge runs gate-0 and not gate-1")],
)
def test_where_no_shadow_can_run_it_goes_live_as_ever_and_the_log_says_why(
    fleet: Fleet, said: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.says("gate", **said)
    assert fleet.publish() == "gate-2 is offered; live once the edge reports it"
    assert fleet.live()["gate"] == "gate-2"
    assert fleet.trials() == []
    assert why in capsys.readouterr().out


def test_one_that_its_edge_turned_down_has_failed_for_that_reason(fleet: Fleet) -> None:
    fleet.publish()
    fleet.reports("gate", "rejected", "slow")
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.why) == ("failed", "its edge turned it down: slow")
    assert fleet.live()["gate"] == "gate-1"


def test_what_cannot_be_judged_until_its_deadline_goes(fleet: Fleet) -> None:
    fleet.publish()
    fleet.audits("gate", CAR, 3)
    fleet.clock.advance(DEADLINE_S)
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, fleet.live()["gate"]) == ("failed", "gate-1")
    assert trial.why == "3 audits of 10 were labelled until its deadline: too few to judge by"


def test_an_edge_that_does_not_take_a_promoted_one_keeps_the_one_before(fleet: Fleet) -> None:
    fleet.publish()
    fleet.audits("gate", CAR)
    fleet.waves.tend()
    fleet.clock.advance(DEADLINE_S)
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert trial.why == "its edge did not take it until its deadline"
    model = fleet.cloud.registry.live()["gate"]
    assert model.artefact.sha256 == fleet.cloud.artefact(tag="gate").sha256


def test_what_is_gone_back_to_is_live_at_once_and_ends_the_shadow(fleet: Fleet) -> None:
    fleet.cloud.publisher.publish("gate", fleet.cloud.artefact(tag="second"), "round")
    fleet.says("gate", "gate-2")
    fleet.publish()
    fleet.publisher.rollback("gate")
    fleet.waves.tend()
    assert fleet.states() == {"gate": "left"}
    assert fleet.cloud.registry.live()["gate"].origin == "rollback"


def test_a_round_that_ends_while_another_student_runs_beside_is_refused(fleet: Fleet) -> None:
    turn = fleet.cloud.rounds.start("gate", "manual", fleet.clock.now())
    fleet.publish()
    with pytest.raises(SupersededError, match="gate-2 began to run beside"):
        fleet.publisher.publish_round(turn.id, "gate", fleet.cloud.artefact(tag="of a round"))
    assert Trials(fleet.cloud.index).busy() == {"gate"}


def test_no_round_of_a_camera_starts_not_even_one_that_was_asked_for_until_its_trial_has_ended(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.publish()
    cloud = fleet.cloud
    control = Control(cloud.settings, cloud.index, cloud.keys.signing, fleet.metrics, fleet.clock)
    monkeypatch.setattr(control._runner, "start", lambda turn: None)
    cloud.requests.ask("round", "gate", fleet.clock.now())
    control._advance_rounds()
    assert cloud.rounds.all() == []
    fleet.reports("gate", "rejected", "slow")
    fleet.waves.tend()
    fleet.clock.advance(SCHEDULE_S)
    control._advance_rounds()
    assert [turn.camera for turn in cloud.rounds.all()] == ["gate"]


def test_a_camera_that_is_removed_ends_its_trial(fleet: Fleet) -> None:
    fleet.publish()
    fleet.cloud.roster.remove("gate", fleet.clock.now())
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.why) == ("left", "its camera was removed, or its edge revoked")


@pytest.mark.parametrize(("promoted", "state"), [(False, "left"), (True, "passed")])
def test_what_a_person_pinned_is_not_decided_on_by_anybody_else(fleet: Fleet, promoted: bool, state: str) -> None:
    fleet.publish()
    fleet.audits("gate", CAR)
    if promoted:
        fleet.waves.tend()
    live = fleet.live()["gate"]
    DesiredStates(fleet.cloud.index).change("gate", pinned=live)
    fleet.clock.advance(2 * DEADLINE_S)
    fleet.waves.tend()
    assert (fleet.live()["gate"], fleet.states()) == (live, {"gate": state})


# Several cameras


def test_the_next_wave_gets_it_once_the_one_before_has_passed(fleet: Fleet) -> None:
    fleet.push()
    fleet.waves.tend()
    assert fleet.states() == {"gate": "shadow", "yard": "waiting", "ramp": "waiting"}
    fleet.passes("gate")
    fleet.waves.tend()
    assert fleet.states() == {"gate": "passed", "yard": "shadow", "ramp": "shadow"}
    fleet.passes("yard")
    fleet.passes("ramp")
    fleet.waves.tend()
    assert (fleet.rollout().state, fleet.rollout().why) == ("done", "3 of 3 cameras passed")


def test_a_failure_halts_it_and_neither_a_restart_nor_time_takes_it_further(fleet: Fleet) -> None:
    fleet.push()
    fleet.waves.tend()
    fleet.audits("gate", NOTHING)
    fleet.waves.tend()
    fleet.waves.tend()
    assert (fleet.rollout().state, fleet.rollout().why) == ("halted", "1 of 1 camera failed, more than 10%")
    fleet.restart()
    fleet.clock.advance(10 * DEADLINE_S)
    fleet.waves.tend()
    assert fleet.states() == {"gate": "failed", "yard": "waiting", "ramp": "waiting"}
    assert fleet.live() == {name: f"{name}-1" for name in NAMES}
    assert fleet.metrics.total("rollouts_halted") == 1


def test_one_that_is_halted_in_the_middle_goes_on_after_a_restart_where_it_stood(fleet: Fleet) -> None:
    number = fleet.push()
    fleet.waves.tend()
    fleet.audits("gate", CAR)
    trials = Trials(fleet.cloud.index)
    assert trials.turn(number, ("running",), "halted", operator(), fleet.clock.now(), "by hand", "halt")
    fleet.restart()
    fleet.waves.tend()
    assert fleet.states() == {"gate": "shadow", "yard": "waiting", "ramp": "waiting"}, "no shadow takes a place now"
    assert trials.turn(number, ("halted",), "running", operator(), fleet.clock.now(), "by hand", "resume")
    fleet.restart()
    fleet.waves.tend()
    assert fleet.states()["gate"] == "live"
    fleet.reports("gate")
    fleet.waves.tend()
    assert fleet.states() == {"gate": "passed", "yard": "shadow", "ramp": "shadow"}


def test_a_halt_that_comes_while_control_is_at_it_lets_nothing_take_a_place_or_begin(fleet: Fleet) -> None:
    number = fleet.push("gate", "yard")
    fleet.waves.tend()
    fleet.audits("gate", CAR)
    shadow, waiting = fleet.trials()
    Trials(fleet.cloud.index).turn(number, ("running",), "halted", operator(), fleet.clock.now(), "by hand", "halt")
    fleet.waves._judge(shadow)
    fleet.waves._launch(waiting, next(row for row in fleet.cloud.roster.rows() if row.name == "yard"), None)
    assert fleet.states() == {"gate": "shadow", "yard": "waiting"}
    assert fleet.live() == {name: f"{name}-1" for name in NAMES}


def test_a_purge_takes_what_waits_with_a_picture_of_the_camera(fleet: Fleet) -> None:
    fleet.push()
    purge(fleet.cloud.index, fleet.cloud.data_dir, "yard", None, fleet.clock.now())
    assert fleet.states() == {"gate": "waiting", "ramp": "waiting"}


def test_going_on_forgives_what_failed(fleet: Fleet) -> None:
    number = fleet.push()
    fleet.waves.tend()
    fleet.audits("gate", NOTHING)
    fleet.waves.tend()
    fleet.waves.tend()
    Trials(fleet.cloud.index).turn(number, ("halted",), "running", operator(), fleet.clock.now(), "by hand", "resume")
    fleet.waves.tend()
    assert fleet.states() == {"gate": "failed", "yard": "shadow", "ramp": "shadow"}


def test_it_can_be_taken_back_from_every_camera_that_has_it(fleet: Fleet) -> None:
    number = fleet.push()
    fleet.waves.tend()
    fleet.passes("gate")
    fleet.waves.tend()
    Trials(fleet.cloud.index).turn(
        number, ("running",), "back", operator(), fleet.clock.now(), "it is late", "rollback"
    )
    fleet.restart()
    fleet.waves.tend()
    assert fleet.states() == dict.fromkeys(NAMES, "back")
    assert fleet.rollout().state == "done"
    live = fleet.cloud.registry.live()
    for name in NAMES:
        assert live[name].artefact.sha256 == fleet.cloud.artefact(tag=name).sha256
    assert live["gate"].counter == 3, "it was signed anew"


def test_two_rollouts_never_share_a_camera(fleet: Fleet) -> None:
    fleet.push()
    with pytest.raises(InputError, match="camera gate is in wave 1 of rollout 1 still"):
        fleet.push("gate")


def test_a_camera_that_was_pinned_meanwhile_is_left_alone(fleet: Fleet) -> None:
    fleet.push()
    DesiredStates(fleet.cloud.index).change("gate", pinned="gate-1")
    fleet.waves.tend()
    assert fleet.live()["gate"] == "gate-1"
    (trial,) = fleet.trials("left")
    assert trial.why == "the camera is pinned to gate-1"


def test_the_file_of_what_waits_is_kept(fleet: Fleet) -> None:
    fleet.push()
    assert fleet.cloud.artefact(tag="pushed").sha256 in fleet.cloud.registry.wanted_files()


# Acts of a person on one camera


def test_what_a_rollout_publishes_over_another_trial_is_why_that_ended_whatever_its_edge_says_of_it(
    fleet: Fleet,
) -> None:
    fleet.publish()
    fleet.push()
    trial = fleet.trials("shadow")[0]
    fleet.waves._advance(fleet.rollout(), {row.name: row for row in fleet.cloud.roster.rows()}, {})
    report = SwapReport("gate", "gate-2", "gate-1", "rejected", "withdrawn", 0.0, fleet.clock.now())
    fleet.cloud.registry.report(report, fleet.clock.now())
    fleet.waves.tend()
    (first, *_) = fleet.trials()
    assert (first.id, first.state, first.why) == (trial.id, "left", "another model, gate-3, was published")


def test_another_model_for_one_camera_says_what_becomes_of_the_wave_and_is_no_failure(fleet: Fleet) -> None:
    fleet.push()
    fleet.waves.tend()
    answer = fleet.publish(tag="another")
    assert answer.endswith("; the trial of gate-2 in wave 1 of rollout 1 ends there, and counts neither way")
    assert fleet.publish("ramp").endswith(
        "; wave 2 of rollout 1 still brings its student there: `culling cloud waves halt 1` stops that"
    )
    fleet.waves.tend()
    assert fleet.rollout().state == "running"
    states = [(one.camera, one.state) for one in fleet.trials() if one.rollout is not None]
    assert states == [("gate", "left"), ("yard", "shadow"), ("ramp", "waiting")], "as many at once as at first"
    fleet.passes("yard")
    fleet.waves.tend()
    assert [one.state for one in fleet.trials() if one.rollout is not None] == ["left", "passed", "shadow"]


def test_one_that_came_in_use_before_its_wave_began_is_not_tried(fleet: Fleet) -> None:
    fleet.push()
    fleet.cloud.publisher.publish("gate", fleet.cloud.artefact(tag="pushed"), "manual")
    fleet.waves.tend()
    (trial,) = fleet.trials("left")
    assert (trial.camera, trial.why) == ("gate", "gate-2, which is in use, is this student already")
    assert fleet.live()["gate"] == "gate-2"


def test_going_back_from_it_by_hand_is_a_failure_and_the_answer_says_so(fleet: Fleet) -> None:
    fleet.push()
    fleet.waves.tend()
    fleet.audits("gate", CAR)
    fleet.waves.tend()
    answer = carry_out(Request(1, "rollback", "gate", {}), fleet.cloud.index, fleet.publisher)
    assert answer.endswith("; the trial of gate-2 in wave 1 of rollout 1 ends there, and counts as failed")
    fleet.waves.tend()
    (trial,) = fleet.trials("failed")
    assert trial.why == "it was gone back from, to gate-3"
    assert fleet.rollout().state == "halted"


def test_a_pin_says_that_the_camera_is_left_out(fleet: Fleet) -> None:
    fleet.push()
    fleet.waves.tend()
    answers = [
        carry_out(Request(1, "pin", camera, {}), fleet.cloud.index, fleet.publisher) for camera in ("gate", "yard")
    ]
    assert answers == [
        "gate is pinned to gate-1; the trial of gate-2 in wave 1 of rollout 1 ends there, and counts neither way",
        "yard is pinned to yard-1; wave 2 of rollout 1 leaves it out while it is pinned",
    ]


# Students that are signed anew


def test_a_trial_goes_on_where_its_student_is_signed_anew_and_a_rollback_takes_it_back_all_the_same(
    fleet: Fleet,
) -> None:
    number = fleet.push("gate", "yard")
    fleet.waves.tend()
    fleet.audits("gate", CAR)
    fleet.waves.tend()
    fleet.publisher.renew("gate")
    fleet.waves.tend()
    (trial,) = fleet.trials("live")
    assert (trial.model_id, trial.before) == ("gate-3", "gate-1")
    fleet.reports("gate")
    fleet.waves.tend()
    assert fleet.states()["gate"] == "passed"
    fleet.publisher.renew("gate")
    assert fleet.cloud.artefact(tag="gate").sha256 in fleet.cloud.registry.wanted_files(), "it is gone back to"
    fleet.turn(number, "back")
    assert fleet.states() == {"gate": "back", "yard": "back"}
    assert fleet.cloud.registry.live()["gate"].artefact.sha256 == fleet.cloud.artefact(tag="gate").sha256
    assert fleet.rollout().why == "by hand"


def test_a_shadow_is_signed_anew_with_the_live_one_and_its_audits_still_count(fleet: Fleet) -> None:
    fleet.publish()
    fleet.audits("gate", CAR, AUDITS - 1)
    fleet.publisher.renew("gate")
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.model_id, trial.before) == ("shadow", "gate-4", "gate-3")
    assert {model.model_id: model.state for model in fleet.cloud.registry.models("gate")} == {
        "gate-4": "shadow",
        "gate-3": "live",
        "gate-2": "retired",
        "gate-1": "retired",
    }
    fleet.audits("gate", CAR, 1)
    fleet.waves.tend()
    assert fleet.live()["gate"] == "gate-4"


def test_a_shadow_that_expired_before_its_edge_took_it_goes_on_with_its_trial_until_its_deadline(fleet: Fleet) -> None:
    fleet.publish()
    fleet.clock.advance(DEADLINE_S - 1)
    for model_id in ("gate-2", "gate-3"):
        carry_out(Request(1, "renew", "gate", {"model_id": model_id}), fleet.cloud.index, fleet.publisher)
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.model_id, trial.before) == ("shadow", "gate-4", "gate-1")
    assert fleet.live()["gate"] == "gate-1"
    fleet.clock.advance(TAKE_S)
    fleet.waves.tend()
    assert fleet.states() == {"gate": "shadow"}, "its edge has time to take it"
    fleet.clock.advance(1)
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.why) == (
        "failed",
        "0 audits of 10 were labelled until its deadline: too few to judge by",
    )


def test_one_that_its_edge_turned_down_since_it_was_signed_anew_is_not_left_under_its_earlier_id(fleet: Fleet) -> None:
    fleet.publish()
    fleet.audits("gate", CAR)
    fleet.waves.tend()
    fleet.publisher.renew("gate")
    fleet.waves.tend()
    fleet.reports("gate", "rejected", "slow")
    assert fleet.live()["gate"] == "gate-1", "never its own earlier id"
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.why) == ("failed", "its edge turned it down: slow")
    assert fleet.live()["gate"] == "gate-1"


def test_one_that_its_edge_turned_down_just_before_it_was_signed_anew_goes_under_its_new_id(fleet: Fleet) -> None:
    fleet.publish()
    fleet.audits("gate", CAR)
    fleet.waves.tend()
    fleet.publisher.renew("gate")
    fleet.reports("gate", "rejected", "slow")
    assert fleet.live()["gate"] == "gate-3"
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.why) == ("failed", "its edge turned it down: slow")
    assert fleet.cloud.registry.live()["gate"].artefact.sha256 == fleet.cloud.artefact(tag="gate").sha256


def test_a_trial_ends_however_often_its_student_is_signed_anew(fleet: Fleet) -> None:
    """An edge that never takes it is offered it anew each time that its signature expires."""
    fleet.publish()
    fleet.audits("gate", CAR)
    fleet.waves.tend()
    fleet.clock.advance(DEADLINE_S - 1)
    fleet.publisher.renew("gate")
    fleet.waves.tend()
    fleet.clock.advance(TAKE_S)
    fleet.waves.tend()
    assert fleet.states() == {"gate": "live"}, "its edge has time to take it"
    fleet.publisher.renew("gate")
    fleet.waves.tend()
    fleet.clock.advance(1)
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.why) == ("failed", "its edge did not take it until its deadline")
    assert fleet.cloud.registry.live()["gate"].artefact.sha256 == fleet.cloud.artefact(tag="gate").sha256


def test_what_a_rollback_leaves_out_is_told_and_may_be_taken_back_later(fleet: Fleet) -> None:
    number = fleet.push(rate=0.9)
    for _ in range(2):
        fleet.waves.tend()
        for trial in fleet.trials("shadow"):
            fleet.passes(trial.camera)
    DesiredStates(fleet.cloud.index).change("gate", pinned="gate-2")
    fleet.cloud.publisher.publish("ramp", fleet.cloud.artefact(tag="another"), "manual")
    with fleet.cloud.index.write() as connection:
        connection.execute(models.delete().where(models.c.model_id == "yard-1"))
    fleet.turn(number, "back")
    assert fleet.states() == {"gate": "passed", "yard": "passed", "ramp": "passed"}
    told = "gate keeps it, since it is pinned to gate-2; yard keeps it, since there is none before it"
    assert (fleet.rollout().state, fleet.rollout().why) == ("done", f"by hand; {told}")
    assert fleet.live()["ramp"] == "ramp-3", "another one"
    DesiredStates(fleet.cloud.index).change("gate", pinned=None)
    fleet.turn(number, "back")
    assert fleet.states() == {"gate": "back", "yard": "passed", "ramp": "passed"}


# Without shadows


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, shadow=0.0)
    yield made
    made.cloud.close()


def test_without_shadows_a_student_is_live_at_once_and_has_no_trial(plain: Fleet) -> None:
    plain.publish()
    assert plain.live()["gate"] == "gate-2"
    assert plain.trials() == []


def test_without_shadows_a_wave_goes_by_probation_where_nothing_was_measured_before(plain: Fleet) -> None:
    plain.push()
    plain.waves.tend()
    assert plain.live()["gate"] == "gate-2"
    plain.reports("gate")
    plain.waves.tend()
    assert plain.states()["gate"] == "passed"
    told = "its edge kept it; the one before was never measured (no shadow: [waves] shadow is 0)"
    assert plain.trials()[0].why == told


def test_without_shadows_what_was_measured_of_the_one_before_counts_since_it_was_signed_anew(plain: Fleet) -> None:
    plain.sends("gate", "gate-1", None)
    plain.publisher.renew("gate")
    plain.says("gate", "gate-2")
    plain.push()
    plain.waves.tend()
    trial = plain.trials()[0]
    assert (trial.before, trial.measured) == ("gate-2", pytest.approx(1.0, abs=0.3))
    assert "the one before has AP50" in trial.why
    plain.reports("gate")
    plain.waves.tend()
    assert plain.states()["gate"] == "live", "probation alone is not enough"


@pytest.mark.parametrize(
    ("low", "high", "state", "why"),
    [
        (0.70, 0.79, "failed", "is certainly below that of the one before, 0.800 or more"),
        (0.70, 0.81, "passed", "not below"),
    ],
)
def test_without_shadows_a_wave_goes_by_measured_accuracy_where_the_one_before_was_measured(
    plain: Fleet, low: float, high: float, state: str, why: str
) -> None:
    plain.measures("gate", "gate-1", 0.80, 0.90)
    plain.push()
    plain.waves.tend()
    plain.says("gate", "gate-2")
    plain.reports("gate")
    plain.waves.tend()
    assert plain.states()["gate"] == "live", "nothing was measured of it yet"
    plain.measures("gate", "gate-2", low, high, audits=AUDITS - 1)
    plain.waves.tend()
    assert plain.states()["gate"] == "live", "too little was"
    plain.measures("gate", "gate-2", low, high)
    plain.waves.tend()
    trial = plain.trials()[0]
    assert trial.state == state
    assert why in trial.why
    assert plain.cloud.registry.live()["gate"].origin == ("rollback" if state == "failed" else "manual")


def test_without_shadows_what_was_not_measured_until_its_deadline_goes_back(plain: Fleet) -> None:
    plain.measures("gate", "gate-1", 0.80, 0.90)
    plain.push()
    plain.waves.tend()
    plain.says("gate", "gate-2")
    plain.reports("gate")
    plain.clock.advance(DEADLINE_S)
    plain.waves.tend()
    assert plain.trials()[0].why == "too few of its audits were labelled until its deadline"
    assert plain.cloud.registry.live()["gate"].origin == "rollback"
    assert plain.metrics.by("by", "rollbacks", camera="gate") == {"waves": 1}


def test_a_shadow_that_the_settings_want_no_more_goes(fleet: Fleet) -> None:
    fleet.publish()
    off = fleet.cloud.settings.waves.model_copy(update={"shadow": 0.0})
    fleet.cloud.settings = fleet.cloud.settings.model_copy(update={"waves": off})
    fleet.restart()
    fleet.waves.tend()
    (trial,) = fleet.trials()
    assert (trial.state, trial.why) == ("failed", "[waves] shadow is 0")
