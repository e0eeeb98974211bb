from __future__ import annotations

import base64
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from prometheus_client import CollectorRegistry, generate_latest

from culling.cloud.demo.cascade import (
    MOST_S,
    Answering,
    Wanted,
    median,
    plan_answers,
    read_answers,
    sentences,
    wanted,
)
from culling.cloud.demo.changes import divide
from culling.cloud.demo.plan import choose
from culling.cloud.demo.run import Demo, edge_settings, write_cloud_settings
from culling.cloud.settings import LabellingSettings, load_settings
from culling.common.config import checked
from culling.common.errors import SettingsError
from culling.common.metrics import Metrics
from culling.common.settings.command import settings_class
from culling.common.settings.keys import sections
from support.machines import GPU, QUIET, slower

PLAN = choose(QUIET, 3)
ANSWERING = Answering(verdicts=30, deadline_s=5.0, chosen=True, alone_s=1.5, beside_s=4.5)


def asked(*pairs: str) -> Wanted:
    found = wanted(divide(pairs))
    assert found is not None
    return found


# What is asked for


def test_without_questions_there_is_no_cascade() -> None:
    assert wanted(divide([])) is None
    assert wanted(divide(["cascade.share=0.5", "pace.on=true"])) is None


def test_a_cascade_is_asked_for_by_its_keys_or_as_a_section() -> None:
    assert asked("cascade.per_minute=30") == Wanted(30, 2.0, False)
    assert asked("cascade.per_minute=30", "cascade.deadline_s=4") == Wanted(30, 4.0, True)
    assert asked('cascade={"per_minute": 6, "deadline_s": 3}') == Wanted(6, 3.0, True)


def test_what_the_edge_would_refuse_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(SettingsError, match=r"--set cascade\.deadline_s: .*less than or equal to 30"):
        asked("cascade.per_minute=30", "cascade.deadline_s=31")
    assert wanted(divide(["cascade=30"])) is None, "what is no section at all is left to the edge"


# What is answered


def test_the_deadline_is_what_this_machines_teacher_keeps_within_the_settings_bounds() -> None:
    (most,) = (
        bound.le
        for bound in sections(settings_class("edge"))["cascade"].model_fields["deadline_s"].metadata
        if hasattr(bound, "le")
    )
    assert most == MOST_S
    for label_s, slowness, deadline_s in ((0.01, 1.0, 2.0), (1.0, 1.0, 9.0), (0.3, 10.0, 8.0), (60.0, 1.0, MOST_S)):
        found = plan_answers(Wanted(30, 2.0, False), LabellingSettings(), replace(PLAN, label_s=label_s), slowness)
        assert (found.deadline_s, found.chosen) == (deadline_s, True)


def test_a_deadline_and_verdicts_that_were_set_are_kept() -> None:
    told = Wanted(30, 1.0, True), LabellingSettings(verdicts_per_minute=600)
    assert plan_answers(*told, replace(PLAN, label_s=9.0), 1.0) == Answering(600, 1.0, False, 18.5, 72.5)


@pytest.mark.parametrize(("label_s", "verdicts"), [(0.1, 30), (2.0, 15), (100.0, 1)])
def test_answers_leave_the_teacher_time_to_label(label_s: float, verdicts: int) -> None:
    assert (
        plan_answers(Wanted(30, 2.0, False), LabellingSettings(), replace(PLAN, label_s=label_s), 1.0).verdicts
        == verdicts
    )


def test_a_teacher_that_is_too_slow_is_said_with_what_to_set() -> None:
    assert "too late" not in ANSWERING.told()
    assert "waits up to 5 s" in ANSWERING.told()
    slow = replace(ANSWERING, alone_s=9.0, beside_s=36.0).told()
    assert "Many answers will come too late: allow up to 30 s with --set cascade.deadline_s, or take a smaller" in slow
    slow = replace(ANSWERING, deadline_s=MOST_S, alone_s=9.0, beside_s=36.0).told()
    assert "Many answers beside a round will come too late: take a smaller teacher, such as --set teacher.kind" in slow


@pytest.mark.parametrize("speed", [QUIET, GPU, slower(QUIET, 30)])
def test_a_plan_knows_how_long_a_label_takes_where_the_teacher_has_half_of_the_threads(speed: object) -> None:
    plan = choose(speed, 3)  # type: ignore[arg-type]
    assert plan.label_s * plan.min_new <= plan.collect_s


def test_the_service_answers_one_picture_at_a_time_and_only_where_a_cascade_is_wanted(tmp_path: Path) -> None:
    run = Demo(Path("v.mp4"), "gate", None, "real", tmp_path)
    write_cloud_settings(run, PLAN, ANSWERING)
    settings = load_settings(run.cloud_toml, {})
    assert (settings.labelling.verdicts_per_minute, settings.teacher.batch) == (30, 1)
    write_cloud_settings(run, PLAN)
    assert "batch" not in tomllib.loads(run.cloud_toml.read_text())["teacher"]
    assert load_settings(run.cloud_toml, {}).labelling.verdicts_per_minute == 0


def test_the_edge_writes_records_where_a_cascade_is_wanted_and_else_has_none_to_answer_for(tmp_path: Path) -> None:
    run = Demo(Path("v.mp4"), "gate", None, "real", tmp_path)
    key = base64.b64encode(bytes(32)).decode()
    public, secret = (part.decode() for part in zmq.curve_keypair())
    told = {"endpoint": "tcp://127.0.0.1:9", "server_key": public, "secret_key": secret, "signing_keys": [key]}
    enrolled = {"agent": {}, "cloud": told, "student": {"initial": "student.onnx"}, "camera": [{"name": "gate"}]}
    edge = settings_class("edge")

    written = checked(edge, edge_settings(run, PLAN, enrolled, ANSWERING), None).model_dump()
    assert written["cascade"]["deadline_s"] == ANSWERING.deadline_s
    assert [(one["kind"], one["path"]) for one in written["output"]] == [("jsonl", run.records)]
    assert "output" not in edge_settings(run, PLAN, enrolled)
    assert enrolled["agent"] == {}


# What came of it


def test_an_edges_metrics_tell_what_became_of_its_records() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, "edge")
    for camera, taken in (("gate", 3), ("yard", 5)):
        metrics.count("verdicts_taken", taken, camera=camera)
    for seconds in (0.6, 0.7, 4.0):
        metrics.observe("verdict_seconds", seconds, camera="gate")
    metrics.count("verdicts_missed", 2, camera="gate", reason="deadline")
    metrics.count("escalations_skipped", 4, camera="gate", reason="unanswered")
    metrics.count("output_records", 90, output="jsonl")
    metrics.count("output_records", 40, output="mqtt")
    assert read_answers(generate_latest(registry).decode(), "gate", ANSWERING) == {
        "deadline_s": 5.0,
        "records": 90,
        "by_teacher": 3,
        "median_s": 0.88,
        "in_vain": {"deadline": 2},
        "not_asked": {"unanswered": 4},
    }


def test_the_median_of_a_histogram_lies_within_its_bucket() -> None:
    assert median([]) is None
    assert median([(1.0, 0.0), (math.inf, 0.0)]) is None
    assert median([(1.0, 0.0), (2.0, 4.0), (math.inf, 4.0)]) == 1.5
    assert median([(1.0, 1.0), (2.0, 1.0), (math.inf, 4.0)]) == 2.0, "beyond the last bound nobody knows"


def test_what_came_of_it_is_told_in_one_line() -> None:
    told = {"deadline_s": 5.0, "records": 90, "by_teacher": 3, "median_s": 0.88}
    (line,) = sentences(told | {"in_vain": {"deadline": 2, "refused": 1}, "not_asked": {}})
    assert line.startswith(
        "Cascade: 90 records, 3 of them by the teacher (an answer took 0.9 s, median); 3 asked in vain (2 deadline, "
        "1 refused); 0 not asked though the student was unsure."
    )
    assert list(sentences(None)) == []


def test_where_most_answers_came_too_late_it_says_what_to_do() -> None:
    told = {"deadline_s": 5.0, "records": 9, "by_teacher": 0, "median_s": None, "in_vain": {"deadline": 2}}
    *_, line = sentences(told | {"not_asked": {}})
    assert line.startswith("Most answers took longer than 5 s: allow up to 30 s with --set cascade.deadline_s, or take")
