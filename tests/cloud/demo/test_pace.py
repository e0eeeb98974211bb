from __future__ import annotations

from typing import Any

import pytest

from culling.cloud.control.steering.pace import SERVICE
from culling.cloud.demo.pace import read_pace, sentences
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import frames
from culling.cloud.store.people.deeds import Deed, Deeds
from culling.common.clock import SystemClock
from support.cloud import CAMERA, CloudState, detections, hard_frame

NOW = 1_800_000_000.0
BASE, NEXT = f"{CAMERA}-1", f"{CAMERA}-2"
CAR = detections((0, 0, 20, 20, 0.9, 2))
ESTIMATE = {"value": 0.86, "low": 0.82, "high": 0.9}


def on(cloud: CloudState, **pace: Any) -> CloudSettings:
    return cloud.settings.model_copy(update={"pace": cloud.settings.pace.model_copy(update={"on": True, **pace})})


def read(cloud: CloudState, settings: CloudSettings) -> dict[str, Any]:
    found = read_pace(cloud.index, settings, CAMERA, [BASE, NEXT], NOW, SystemClock())
    assert found is not None
    return found


def test_where_no_pace_is_wanted_nothing_is_told(cloud: CloudState) -> None:
    assert read_pace(cloud.index, cloud.settings, CAMERA, [BASE], NOW, SystemClock()) is None
    assert list(sentences(None)) == []


def test_orders_are_read_in_their_order_with_their_reasons(cloud: CloudState) -> None:
    for at, camera, before, times in ((120.0, CAMERA, 1.0, 0.5), (300.0, CAMERA, 0.5, 0.25), (310.0, "yard", 1.0, 2.0)):
        told = {"times": times, "before": before, "why": "AP50 0.94 (0.91 to 0.97) is certainly above 0.9"}
        Deeds(cloud.index).add(Deed(SERVICE, "pace", camera, what=told), NOW + at)
    Deeds(cloud.index).add(Deed(SERVICE, "profile", CAMERA, what={}), NOW)
    found = read(cloud, on(cloud))
    assert [(one["after_s"], one["from"], one["to"]) for one in found["orders"]] == [
        (120.0, 1.0, 0.5),
        (300.0, 0.5, 0.25),
    ]
    first, second, caveat = sentences(found)
    assert first == (
        "Pace: after 2.0 minutes from 1 to 0.5 times its budget: AP50 0.94 (0.91 to 0.97) is certainly above 0.9."
    )
    assert "after 5.0 minutes from 0.5 to 0.25" in second
    assert "minutes of video" in caveat


def test_without_an_order_each_student_says_by_how_many_audits_it_could_be_judged(cloud: CloudState) -> None:
    for seq in range(14):
        told = {"reason": "audit", "probability": 0.1, "model_id": BASE if seq < 11 else NEXT}
        cloud.frames.add("e" * 40, *hard_frame(seq, found=CAR, captured=NOW + 400.0 * seq, **told))
    stored = cloud.frames.select(CAMERA, frames.c.state == "stored", frames.c.captured, 99)
    cloud.lifecycle.label({frame.id: CAR for frame in stored})
    found = read(cloud, on(cloud))
    assert [(one["model"], one["audits"]) for one in found["students"]] == [(BASE, 11), (NEXT, 3)]
    assert found["students"][0]["ap50"]["value"] == 1.0
    (line,) = sentences(found)
    assert f"{BASE}: 11 labelled audits, of 12 that are needed" in line
    assert f"{NEXT}: 3 labelled audits, of 12 that are needed" in line


@pytest.mark.parametrize(
    ("student", "why"),
    [
        ({"audits": 1, "ap50": None}, "1 labelled audit, of 12 that are needed (pace.audits)"),
        ({"audits": 20, "ap50": None}, "20 labelled audits, on which the teacher sees nothing"),
        (
            {"audits": 20, "ap50": ESTIMATE},
            "AP50 0.86 (0.82 to 0.90) by 20 audits, neither certainly above 0.9 nor certainly below 0.8",
        ),
        (
            {"audits": 20, "ap50": ESTIMATE | {"low": 0.0, "high": 1.0}},
            "AP50 0.86 by 20 audits of the same five minutes, which may be chance",
        ),
        (
            {"audits": 20, "ap50": ESTIMATE | {"low": 0.91}},
            "AP50 0.86 (0.91 to 0.90) by 20 audits, which came too late: a camera is judged once a minute",
        ),
    ],
)
def test_why_nothing_was_ordered(student: dict[str, Any], why: str) -> None:
    pace = {"orders": [], "students": [{"model": "gate-1"} | student], "audits": 12}
    told = list(sentences(pace | {"halve_above": 0.9, "double_below": 0.8}))
    assert told == [f"Pace: no order was due. gate-1: {why}."]
