"""When a camera's pace is halved and doubled, and what becomes of that over restarts, edges and operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from culling.cloud.control.steering.accuracy import MeasuredAccuracy
from culling.cloud.control.steering.pace import Fresh, Pacer, decide
from culling.cloud.control.upkeep import Upkeep
from culling.cloud.evaluation.accuracy import Accuracy, Estimate
from culling.cloud.evaluation.drift import Fall, Watched
from culling.cloud.page import views
from culling.cloud.settings import PaceSettings
from culling.cloud.store.desired import DesiredState, DesiredStates, Paced
from culling.cloud.store.people.deeds import Deeds
from culling.common.metrics import Metrics
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state, detections, hard_frame

EDGE = "e" * 40
MODEL = f"{CAMERA}-1"
NOW = 1_800_000_000.0
ON = PaceSettings(on=True)
CAR = detections((0, 0, 20, 20, 0.9, 2))
FALL = Fall("22-02", Estimate(0.7, 0.6, 0.8), 0.92, False)


def measured(low: float, high: float, *falls: Fall, looked: float = 50.0, model_id: str = MODEL) -> MeasuredAccuracy:
    ap50 = Estimate((low + high) / 2, low, high)
    return MeasuredAccuracy(
        model_id, NOW, Accuracy(60, 60, ap50, {}, None, Estimate(0, 0, 1)), Watched(looked, falls) if falls else None
    )


ENOUGH = Fresh(ON.audits, 90.0)
RIGHT, WRONG, UNSURE = measured(0.91, 0.97), measured(0.6, 0.78), measured(0.79, 0.91)


# The rule


@pytest.mark.parametrize(
    ("found", "times"),
    [
        (RIGHT, 0.5),
        (WRONG, 2.0),
        (UNSURE, 1.0),
        (measured(0.89, 0.99), 1.0),  # .94 is above .9, and may be chance
        (measured(0.5, 0.81), 1.0),  # .65 is below .8, and may be chance
        (measured(0.91, 0.97, FALL), 2.0),
    ],
)
def test_only_what_chance_does_not_explain_changes_a_pace(found: MeasuredAccuracy, times: float) -> None:
    new = decide(Paced(), found, ENOUGH, NOW, ON)
    assert new is not None
    assert (new.times, new.judged) == (times, ENOUGH.newest)
    assert new.since == (0.0 if times == 1.0 else NOW)
    assert bool(new.why) == (times != 1.0)


def test_the_reason_says_what_was_measured() -> None:
    for found, why in (
        (RIGHT, "AP50 0.94 (0.91 to 0.97) is certainly above 0.9"),
        (WRONG, "AP50 0.69 (0.60 to 0.78) is certainly below 0.8"),
        (measured(0.91, 0.97, FALL), "worse at 22-02 UTC: 0.70 (0.60 to 0.80), was 0.92"),
    ):
        new = decide(Paced(), found, ENOUGH, NOW, ON)
        assert new is not None
        assert new.why == why


def test_too_few_new_audits_are_no_reason_to_judge_again() -> None:
    assert decide(Paced(), RIGHT, Fresh(ON.audits - 1, 90.0), NOW, ON) is None


def test_where_nothing_was_to_be_seen_nothing_is_judged() -> None:
    nothing = MeasuredAccuracy(MODEL, NOW, Accuracy(60, 60, None, {}, None, Estimate(0, 0, 1)), None)
    assert decide(Paced(), nothing, ENOUGH, NOW, ON) is None


@pytest.mark.parametrize(("found", "bound"), [(RIGHT, 0.125), (WRONG, 4.0)])
def test_at_a_bound_a_pace_stays_since_it_came_there(found: MeasuredAccuracy, bound: float) -> None:
    paced = Paced(bound, since=7.0, why="before")
    new = decide(paced, found, ENOUGH, NOW, ON)
    assert new == Paced(bound, 7.0, "before", ENOUGH.newest)


def test_bounds_that_were_drawn_closer_hold_with_the_next_judgement() -> None:
    new = decide(Paced(4.0, 7.0), UNSURE, ENOUGH, NOW, PaceSettings(on=True, most=3.0))
    assert new is not None
    assert (new.times, new.since, new.why) == (3.0, NOW, "as the settings bound it")


def test_a_look_that_found_a_fall_doubles_once_and_no_halving_follows_while_it_stands() -> None:
    fell = measured(0.91, 0.97, FALL)
    first = decide(Paced(0.25), fell, ENOUGH, NOW, ON)
    assert first is not None
    assert (first.times, first.looked) == (0.5, 50.0)
    again = decide(first, fell, Fresh(ON.audits, 99.0), NOW, ON)
    assert again is not None
    assert (again.times, again.judged) == (0.5, 99.0)
    later = decide(again, measured(0.91, 0.97, FALL, looked=60.0), ENOUGH, NOW, ON)
    assert later is not None
    assert later.times == 1.0


# The service

FEW = 3
"""Audits by which a camera is judged anew here: enough to count."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now=NOW)


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[CloudState]:
    state = CloudState(tmp_path, clock, pace={"on": True, "audits": FEW})
    state.enroll()
    hear(state)
    yield state
    state.close()


def hear(cloud: CloudState, pace: float | None = 1.0) -> None:
    """Have the edge say what it follows."""
    cloud.clock.advance(1.0)  # type: ignore[attr-defined]
    cloud.roster.heard({CAMERA: camera_state(model_id=MODEL, pace=pace)}, cloud.clock.now())


def audit(cloud: CloudState, first: int, count: int, **told: object) -> None:
    """Store labelled audits, one in ten minutes, of which the student found all."""
    names = []
    for seq in range(first, first + count):
        cloud.clock.advance(1.0)  # type: ignore[attr-defined]
        shot = {"reason": "audit", "probability": 0.1, "captured": NOW + 600.0 * seq, "found": CAR}
        frame, jpeg = hard_frame(seq, **{**shot, **told})  # type: ignore[arg-type]
        names.append(cloud.frames.add(EDGE, frame, jpeg))
    listed = {row["id"] for row in views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 10_000, None, None)}
    cloud.lifecycle.label({frame.id: CAR for frame in cloud.frames.get(listed) if frame.labels is None})


def pacer(cloud: CloudState, on: bool = True) -> Pacer:
    settings = cloud.settings.pace.model_copy(update={"on": on})
    return Pacer(cloud.index, settings, Metrics(CollectorRegistry(), "cloud"), cloud.clock)


def paced(cloud: CloudState) -> Paced | None:
    return DesiredStates(cloud.index).all().get(CAMERA, DesiredState()).paced


def times(cloud: CloudState) -> float:
    found = paced(cloud)
    return 1.0 if found is None else found.times


def test_a_pace_follows_the_audits_of_each_new_window(cloud: CloudState) -> None:
    subject, told = pacer(cloud), []
    for turn in range(4):
        audit(cloud, 100 * turn, FEW)
        subject.judge(CAMERA, RIGHT)
        told.append(times(cloud))
        hear(cloud, told[-1])
        subject.judge(CAMERA, RIGHT)
        assert times(cloud) == told[-1], "nothing new was labelled"
    assert told == [0.5, 0.25, 0.125, 0.125]


def test_what_was_ordered_is_in_the_audit_log_with_its_reason_and_only_then(cloud: CloudState) -> None:
    subject = pacer(cloud)
    for turn in range(5):
        audit(cloud, 100 * turn, FEW)
        subject.judge(CAMERA, WRONG)
        hear(cloud, times(cloud))
    rows = Deeds(cloud.index).all()
    assert [(row["who"], row["by"], row["action"], row["camera"]) for row in rows] == [
        ("pace", "service", "pace", CAMERA)
    ] * 2, "two steps to the bound, and silence there"
    why = "AP50 0.69 (0.60 to 0.78) is certainly below 0.8"
    assert [row["what"] for row in rows] == [
        {"times": 4.0, "before": 2.0, "why": why},
        {"times": 2.0, "before": 1.0, "why": why},
    ]


def test_another_control_does_not_halve_again_for_the_same_audits(cloud: CloudState) -> None:
    audit(cloud, 0, FEW)
    pacer(cloud).judge(CAMERA, RIGHT)
    before = paced(cloud)
    hear(cloud, 0.5)
    for _ in range(2):
        pacer(cloud).judge(CAMERA, RIGHT)
    assert paced(cloud) == before
    audit(cloud, 100, FEW)
    pacer(cloud).judge(CAMERA, RIGHT)
    assert times(cloud) == 0.25


def test_audits_of_another_student_count_for_nothing(cloud: CloudState) -> None:
    audit(cloud, 0, FEW, model_id="gate-7")
    pacer(cloud).judge(CAMERA, RIGHT)
    assert paced(cloud) is None


def test_without_a_measured_accuracy_a_pace_stays(cloud: CloudState) -> None:
    audit(cloud, 0, FEW)
    pacer(cloud).judge(CAMERA, None)
    assert paced(cloud) is None


@pytest.mark.parametrize("word", [0.5, None])
def test_an_order_that_the_edge_does_not_follow_is_not_built_on(cloud: CloudState, word: float | None) -> None:
    """Its edge is away, has been started anew and does not know yet, or is of a version that knows no pace."""
    hear(cloud, word)
    audit(cloud, 0, FEW)
    subject = pacer(cloud)
    with capture_logs() as logs:
        for _ in range(3):
            subject.judge(CAMERA, RIGHT)
    assert paced(cloud) is None
    behind = [entry["camera"] for entry in logs if entry["event"] == "pace_unknown"]
    assert behind == ([CAMERA] if word is None else []), "told once"


def test_a_budget_that_a_person_gave_goes_before_a_pace_until_it_is_given_back(cloud: CloudState) -> None:
    subject, states = pacer(cloud), DesiredStates(cloud.index)
    audit(cloud, 0, FEW)
    subject.judge(CAMERA, RIGHT)
    states.change(CAMERA, frames_per_window=60)
    assert states.all()[CAMERA].pace == 1.0
    hear(cloud, 1.0)
    audit(cloud, 100, FEW)
    subject.judge(CAMERA, RIGHT)
    assert times(cloud) == 0.5, "nobody judged it meanwhile"
    states.change(CAMERA, frames_per_window=None)
    assert states.all()[CAMERA].pace == 0.5


def test_a_camera_that_is_gone_is_judged_no_more(cloud: CloudState) -> None:
    audit(cloud, 0, FEW)
    subject = pacer(cloud)
    cloud.roster.revoke("edge-1")
    subject.judge(CAMERA, RIGHT)
    assert paced(cloud) is None
    cloud.roster.remove(CAMERA, NOW)
    subject.judge(CAMERA, RIGHT)
    DesiredStates(cloud.index).take_pace(CAMERA, Paced(0.5), NOW)
    assert DesiredStates(cloud.index).all() == {}, "not even by one that was about to be kept"


def test_off_by_default_and_what_was_on_ends(cloud: CloudState) -> None:
    audit(cloud, 0, FEW)
    pacer(cloud).judge(CAMERA, RIGHT)
    assert times(cloud) == 0.5
    subject = pacer(cloud, on=False)
    subject.judge(CAMERA, RIGHT)
    subject.tend()
    assert paced(cloud) is None
    assert Deeds(cloud.index).all()[0]["what"] == {"times": 1.0, "before": 0.5, "why": "[pace] is off"}
    assert not PaceSettings().on


def test_in_the_end_control_measures_judges_and_shows_it(cloud: CloudState) -> None:
    metrics = Metrics(CollectorRegistry(), "cloud")
    for turn in range(3):  # an hour and a half each: the intervals of a student that is always right are narrow
        audit(cloud, 20 * turn, 20)
    kept = Upkeep(cloud.settings, cloud.index, cloud.frames, cloud.files, metrics, cloud.clock)
    for step in kept.steps:
        step()
    assert times(cloud) == 0.5
    assert metrics.by("camera", "pace") == {CAMERA: 0.5}
    [row] = views.cameras(cloud.index, cloud.clock.now(), cloud.settings)
    assert row["pace"] is not None
    assert row["pace"]["told"].endswith("is certainly above 0.9; its edge has still to take it")


# What is shown


def shown(cloud: CloudState) -> str:
    [row] = views.cameras(cloud.index, cloud.clock.now(), cloud.settings)
    return "" if row["pace"] is None else str(row["pace"]["told"])


def test_status_says_how_a_pace_stands_and_why(cloud: CloudState) -> None:
    states = DesiredStates(cloud.index)
    assert shown(cloud) == "as its budget"
    states.take_pace(CAMERA, Paced(0.5, NOW, "it is right"), NOW)
    hear(cloud, 0.5)
    assert shown(cloud) == "0.5 times its budget: it is right"
    states.change(CAMERA, frames_per_window=12)
    assert shown(cloud) == "as the budget that it was given, which goes before its pace"
    hear(cloud, None)
    assert shown(cloud) == "as its budget: culling at its edge knows no pace, upgrade it"
    cloud.roster.revoke("edge-1")
    assert shown(cloud) == ""
