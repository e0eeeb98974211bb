"""Which profile a camera is ordered by its audits, and what becomes of that over hours, falls, restarts and edges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from structlog.testing import capture_logs

from culling.cloud.control.steering.accuracy import MeasuredAccuracy, Measurer
from culling.cloud.control.steering.profile import Heard, Profiler, decide
from culling.cloud.control.upkeep import Upkeep
from culling.cloud.evaluation.accuracy import Accuracy, Estimate
from culling.cloud.evaluation.drift import Fall, Watched
from culling.cloud.page import views
from culling.cloud.profile.options import FULL
from culling.cloud.profile.score import EVERY, Scored
from culling.cloud.settings import ProfileSettings
from culling.cloud.settings.profile import MOST
from culling.cloud.store.desired import DesiredState, DesiredStates, Profiled
from culling.cloud.store.people.deeds import Deeds
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.echo import AGES, encode
from culling.common.wire.profile import NONE, Profile
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state, detections, hard_frame
from support.echoes import echo

EDGE = "e" * 40
MODEL = f"{CAMERA}-1"
NOW = 1_800_000_000.0
CAR, GONE = detections((0, 0, 20, 20, 0.9, 2)), detections((40, 20, 60, 40, 0.9, 2))
FALL = Fall("22-02", Estimate(0.7, 0.6, 0.8), 0.92, False)
FEW, LEAST = 3, 24
SLOW = Scored(Profile(1.0, 0, echo=True), 0.04, -0.001, -0.002)
SLOWER = Scored(Profile(0.5, 0, echo=True), 0.02, -0.003, -0.005)


def fell(looked: float = 50.0, *falls: Fall) -> MeasuredAccuracy:
    ap50 = Estimate(0.7, 0.6, 0.8)
    accuracy = Accuracy(60, 60, ap50, {}, None, Estimate(0, 0, 1))
    return MeasuredAccuracy(MODEL, NOW, accuracy, Watched(looked, falls or (FALL,)))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now=NOW)


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[CloudState]:
    sites = {"yards": {"edges": ["edge-1", "edge-2", "edge-3", "edge-4"]}}
    state = CloudState(tmp_path, clock, profile={"on": True, "audits": FEW, "least": LEAST}, sites=sites)
    state.enroll()
    hear(state)
    yield state
    state.close()


def hear(cloud: CloudState, profile: Profile | None = NONE, camera: str = CAMERA) -> None:
    """Have the edge say what it follows."""
    cloud.clock.advance(1.0)  # type: ignore[attr-defined]
    cloud.roster.heard({camera: camera_state(camera, model_id=MODEL, profile=profile)}, cloud.clock.now())


def audit(cloud: CloudState, first: int, count: int, age: float = 0.25, stood: Detections | None = None) -> None:
    """Store labelled audits, one in ten minutes, whose answers of up to `age` seconds are right."""
    names = []
    for seq in range(first, first + count):
        cloud.clock.advance(1.0)  # type: ignore[attr-defined]
        told = encode(echo([CAR if each <= age else GONE for each in AGES], stood=stood))
        shot = {"reason": "audit", "probability": 0.1, "captured": NOW + 600.0 * seq, "found": CAR, "echo": told}
        frame, jpeg = hard_frame(seq, **shot)  # type: ignore[arg-type]
        cloud.frames.add(EDGE, frame, jpeg)
    listed = {row["id"] for row in views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 10_000, None, None)}
    names = [frame for frame in cloud.frames.get(listed) if frame.labels is None]
    cloud.lifecycle.label({frame.id: CAR for frame in names})


def profiler(cloud: CloudState, on: bool = True) -> Profiler:
    profile = cloud.settings.profile.model_copy(update={"on": on})
    settings = cloud.settings.model_copy(update={"profile": profile})
    return Profiler(cloud.index, cloud.frames, settings, Metrics(CollectorRegistry(), "cloud"), cloud.clock)


def wanted(cloud: CloudState, camera: str = CAMERA) -> Profile:
    return DesiredStates(cloud.index).all().get(camera, DesiredState()).profile


def profiled(cloud: CloudState, camera: str = CAMERA) -> Profiled | None:
    return DesiredStates(cloud.index).all().get(camera, DesiredState()).profiled


def test_a_camera_begins_with_every_frame_and_echoes_and_its_audits_then_choose(cloud: CloudState) -> None:
    subject = profiler(cloud)
    subject.tend()
    assert wanted(cloud) == FULL
    audit(cloud, 0, LEAST - 1)
    subject.judge(CAMERA, None)
    assert wanted(cloud) == FULL, "too few"
    audit(cloud, 100, 9)
    subject.judge(CAMERA, None)
    assert wanted(cloud) == Profile(4.0, 0, echo=True)
    [deed] = Deeds(cloud.index).all()
    assert (deed["who"], deed["by"], deed["action"], deed["camera"]) == ("profile", "service", "profile", CAMERA)
    chosen = "4 frames/s, 16% of its frames: AP50 +0.000, at least +0.000"
    assert deed["what"] == {"profile": chosen, "before": "every frame", "why": "by 32 audits"}


def test_while_its_own_audits_do_not_decide_it_is_said_what_they_lack(cloud: CloudState) -> None:
    subject = profiler(cloud)
    subject.tend()
    begun = profiled(cloud)
    assert begun is not None
    assert begun.why == "its own audits are waited for"
    audit(cloud, 0, LEAST - 1)
    subject.judge(CAMERA, None)
    waits = profiled(cloud)
    assert waits is not None
    assert waits.why == "23 labelled audits of 23 blocks of time; 24 of 5 are needed"
    assert (waits.own, waits.judged, waits.since) == (False, begun.judged, begun.since)
    assert shown(cloud).startswith(f"every frame ({waits.why})")


def test_nothing_is_judged_again_before_more_audits_were_labelled_by_another_control_either(cloud: CloudState) -> None:
    profiler(cloud).tend()
    audit(cloud, 0, 30)
    profiler(cloud).judge(CAMERA, None)
    before = profiled(cloud)
    assert before is not None
    assert before.own
    audit(cloud, 100, FEW - 1, age=2.0)
    profiler(cloud).judge(CAMERA, None)
    assert profiled(cloud) == before
    audit(cloud, 200, 1, age=2.0)
    profiler(cloud).judge(CAMERA, None)
    after = profiled(cloud)
    assert after is not None
    assert (after.whole.profile, after.since) == (before.whole.profile, before.since), "the same, since it began"
    assert after.judged > before.judged


def test_where_what_stands_got_worse_a_profile_is_taken_back(cloud: CloudState) -> None:
    subject = profiler(cloud)
    subject.tend()
    audit(cloud, 0, 30, age=2.0)
    subject.judge(CAMERA, None)
    assert wanted(cloud).rate == 0.5
    audit(cloud, 100, 30, age=0.01)
    subject.judge(CAMERA, None)
    assert wanted(cloud) == FULL


def test_of_no_more_audits_than_are_looked_at_may_a_decision_be_asked() -> None:
    assert ProfileSettings(least=MOST).least == MOST
    with pytest.raises(ValidationError, match="less than or equal to 240"):
        ProfileSettings(least=MOST + 1)


def test_a_fall_takes_a_profile_back_once_and_while_it_stands_none_is_chosen() -> None:
    settings = ProfileSettings(on=True)
    chosen = Profiled(SLOW, SLOW, (SLOW,) * 24, "by 60 audits", 7.0, True, 90.0)
    heard = Heard((), settings.audits, 99.0)
    taken = decide(chosen, heard, fell(), NOW, settings)
    assert taken is not None
    assert (taken.now, taken.whole, taken.hours, taken.since) == (EVERY, EVERY, (), NOW)
    assert taken.why == "worse at 22-02 UTC: 0.70 (0.60 to 0.80), was 0.92"
    assert decide(taken, heard, fell(), NOW, settings) is None
    assert decide(taken, heard, fell(60.0), NOW + 1, settings) is not None, "another look found it too"


def test_each_hour_has_its_own_and_is_turned_to(cloud: CloudState, clock: FakeClock) -> None:
    subject, states = profiler(cloud), DesiredStates(cloud.index)
    hours = tuple(SLOWER if hour < 6 else SLOW for hour in range(24))
    states.take_profile(CAMERA, Profiled(SLOW, SLOWER, hours, "by 60 audits", NOW, True), NOW)
    assert int(NOW // 3600) % 24 == 8
    clock.advance(16 * 3600)
    assert wanted(cloud) == SLOW.profile
    subject.tend()
    assert wanted(cloud) == SLOWER.profile
    clock.advance(6 * 3600)
    subject.tend()
    assert wanted(cloud) == SLOW.profile
    assert Deeds(cloud.index).all() == [], "an hour that passes is no deed"


def test_a_new_camera_begins_with_what_its_sites_others_chose_most(cloud: CloudState) -> None:
    states = DesiredStates(cloud.index)
    for place, (whole, own) in enumerate([(SLOW, True), (SLOWER, True), (SLOW, True), (SLOWER, False)]):
        camera = f"yard-{place}"
        cloud.enroll(camera, edge=f"edge-{2 + place}")
        states.take_profile(camera, Profiled(whole, whole, own=own), NOW)
    profiler(cloud).tend()
    assert wanted(cloud) == SLOW.profile
    begun = profiled(cloud)
    assert begun is not None
    assert (begun.own, begun.why) == (False, "its site's cameras chose it most")
    audit(cloud, 200, FEW)
    profiler(cloud).judge(CAMERA, None)
    assert profiled(cloud) == begun, "that its own are too few is not why it has this one"
    audit(cloud, 0, 30)
    profiler(cloud).judge(CAMERA, None)
    assert wanted(cloud).rate == 4.0, "its own decide as soon as there are enough"


def test_cameras_of_another_site_have_no_say(cloud: CloudState) -> None:
    cloud.enroll("far", edge="edge-9")
    DesiredStates(cloud.index).take_profile("far", Profiled(SLOW, SLOW, own=True), NOW)
    profiler(cloud).tend()
    assert wanted(cloud) == FULL


def test_an_edge_that_knows_no_profile_keeps_its_own_and_is_named_once(cloud: CloudState) -> None:
    hear(cloud, None)
    subject = profiler(cloud)
    with capture_logs() as logs:
        for _ in range(3):
            subject.tend()
            subject.judge(CAMERA, None)
    assert profiled(cloud) is None
    assert [entry["camera"] for entry in logs if entry["event"] == "profile_unknown"] == [CAMERA]


def test_off_by_default_and_what_was_on_ends(cloud: CloudState) -> None:
    assert not ProfileSettings().on
    profiler(cloud).tend()
    subject = profiler(cloud, on=False)
    subject.tend()
    subject.judge(CAMERA, None)
    assert profiled(cloud) is None
    assert wanted(cloud) == NONE


def test_a_camera_that_is_gone_is_judged_no_more(cloud: CloudState) -> None:
    cloud.roster.revoke("edge-1")
    profiler(cloud).tend()
    assert profiled(cloud) is None
    cloud.roster.remove(CAMERA, NOW)
    DesiredStates(cloud.index).take_profile(CAMERA, Profiled(), NOW)
    assert DesiredStates(cloud.index).all() == {}


def test_a_profile_of_another_version_is_as_none(cloud: CloudState) -> None:
    DesiredStates(cloud.index).change(CAMERA, profiled='{"now": 3}')
    assert profiled(cloud) is None


def test_accuracy_is_that_of_what_stood(cloud: CloudState) -> None:
    audit(cloud, 0, 12)
    measurer = Measurer(cloud.index, cloud.frames, cloud.settings, cloud.clock)
    before = measurer.measure(CAMERA, MODEL)
    assert before is not None
    assert before.now.ap50 is not None
    assert before.now.ap50.value == 1.0
    audit(cloud, 100, 60, stood=GONE)
    after = measurer.measure(CAMERA, MODEL)
    assert after is not None
    assert after.now.ap50 is not None
    assert after.now.ap50.value == 0.0, "though the student's own look, for the audit, was right"


def test_in_the_end_control_begins_judges_and_shows_it(cloud: CloudState) -> None:
    metrics = Metrics(CollectorRegistry(), "cloud")
    audit(cloud, 0, 30)
    kept = Upkeep(cloud.settings, cloud.index, cloud.frames, cloud.files, metrics, cloud.clock)
    for step in kept.steps:
        step()
    assert wanted(cloud).rate == 4.0
    cloud.clock.advance(61.0)  # type: ignore[attr-defined]
    for step in kept.steps:
        step()
    assert metrics.by("camera", "profile_looks") == {CAMERA: pytest.approx(0.16)}
    chosen = "4 frames/s, 16% of its frames: AP50 +0.000, at least +0.000 (by 30 audits)"
    assert shown(cloud) == f"{chosen}; its edge has still to take it"
    hear(cloud, wanted(cloud))
    assert shown(cloud) == chosen


def shown(cloud: CloudState) -> str:
    [row] = views.cameras(cloud.index, cloud.clock.now(), cloud.settings)
    return "" if row["profile"] is None else str(row["profile"]["told"])


def test_status_says_how_a_profile_stands_and_why(cloud: CloudState) -> None:
    states = DesiredStates(cloud.index)
    assert shown(cloud) == "every frame"
    mixed = Profiled(SLOW, SLOW, (SLOW,) * 23 + (SLOWER,), "by 60 audits", NOW, True)
    states.take_profile(CAMERA, mixed, NOW)
    hear(cloud, SLOW.profile)
    told = "1 frames/s, 4% of its frames: AP50 -0.001, at least -0.002 (by 60 audits)"
    assert shown(cloud) == f"{told}; other hours have another"
    states.take_profile(CAMERA, replace(mixed, now=EVERY, hours=(), why=FALL.told()), NOW)
    hear(cloud, FULL)
    assert shown(cloud) == "every frame (worse at 22-02 UTC: 0.70 (0.60 to 0.80), was 0.92)"
    hear(cloud, None)
    assert shown(cloud).startswith("every frame: culling at its edge knows no profile")
    cloud.roster.revoke("edge-1")
    assert shown(cloud) == ""
