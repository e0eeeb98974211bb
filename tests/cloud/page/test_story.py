from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from culling.cloud.page.story import span, story, verdict

AT = datetime(2026, 11, 28, 14, 5).timestamp()
TURN: dict[str, Any] = {
    "state": "published", "labelled": 512, "kept": 128, "replayed": 42, "scale": 0.729, "train_s": 512.0,
    "scale_why": "scale 0.73: AP50 -0.007 on 170 labelled frames", "ended": "all of 640 steps, best after 300",
    "map_before": 0.58, "map_after": 0.61, "gain_low": 0.012, "frames": 64, "blocks": 9, "model_id": "gate-2",
    "swap": "live", "swap_gap_ms": 41.0, "swap_at": AT, "model_state": "live", "model_lag_s": 1140.0,
    "bill": {"told": "2.51 PFLOP"},
}  # fmt: skip


def test_a_round_is_told_in_the_order_of_its_stages() -> None:
    assert story(TURN) == [
        "128 of 512 labelled frames were chosen, with 42 of earlier rounds.",
        "Scale 0.73: AP50 -0.007 on 170 labelled frames.",
        "Trained for 9 min: all of 640 steps, best after 300.",
        "AP50 0.580 → 0.610 (+0.030) on 64 held-out frames in 9 blocks of time; at least +0.012.",
        "gate-2 is live at the edge since 28 Nov 14:05, with a gap of 41 ms, 19 min after the last frame it learnt"
        " from.",
        "It cost 2.51 PFLOP.",
    ]


@pytest.mark.parametrize(
    ("became", "told"),
    [
        (
            {"model_state": "replaced"},
            "gate-2 went live at the edge at 28 Nov 14:05, with a gap of 41 ms, 19 min after the last frame it learnt"
            " from; another model is in its place now.",
        ),
        (
            {"model_state": "gone", "model_gone": "was gone back from at 28 Nov 15:00", "model_lag_s": None},
            "gate-2 went live at the edge at 28 Nov 14:05, with a gap of 41 ms; it was gone back from at 28 Nov 15:00.",
        ),
        ({"model_state": "replaced", "swap": None}, "The edge never took gate-2; another model is in its place now."),
        (
            {"model_state": "replaced", "swap": "rolled-back"},
            "gate-2 was rolled back at the edge, 28 Nov 14:05; another model is in its place now.",
        ),
    ],
)
def test_a_model_is_told_of_by_what_became_of_it(became: dict[str, Any], told: str) -> None:
    assert story(TURN | became)[-2] == told


def test_a_round_tells_how_many_of_its_frames_a_person_labelled() -> None:
    (told, *_) = story(TURN | {"of_people": 3})
    assert told == "128 of 512 labelled frames were chosen, with 42 of earlier rounds; a person labelled 3 of these."


def test_what_a_round_did_not_come_to_is_left_out() -> None:
    assert story({"state": "failed", "reason": "it died three times"}) == []
    assert story({"state": "published", "model_id": "gate-2", "model_state": "live"}) == [
        "gate-2 waits for the edge to take it."
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "it was certainly better than the student in use"),
        ({"verdict": "AP50 +0.030, at least +0.012"}, "AP50 +0.030, at least +0.012"),
        ({"state": "refused", "reason": "nothing to teach"}, "nothing to teach"),
        ({"state": "running"}, ""),
    ],
)
def test_a_verdict_is_a_sentence(changes: dict[str, Any], told: str) -> None:
    assert verdict(TURN | changes) == told


@pytest.mark.parametrize(("seconds", "told"), [(9, "9 s"), (512, "9 min"), (7200, "2.0 h")])
def test_times_are_told_as_people_read_them(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_a_round_tells_first_which_earlier_students_it_tried() -> None:
    tried = {"told": "gate-2 makes 0.95 of the mistakes of the student in use"}
    assert story(TURN | {"zoo": tried})[0] == "Gate-2 makes 0.95 of the mistakes of the student in use."
