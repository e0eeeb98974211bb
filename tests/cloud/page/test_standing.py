from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.page.alerts import TO_DO, Watchman, service_alerts
from culling.cloud.page.standing import URGENT, sentence, standing, troubles

NOW = 1_800_000_000.0
ROOT = Path(__file__).parents[3]


def row(**changes: Any) -> dict[str, Any]:
    fine = {"camera": "gate", "edge": "edge-1", "state": "live", "told": "live", "heard": NOW - 1, "rate": 0.01}
    return {**fine, "worse": [], "keeping_up": {"enough": True, "told": "10 of 10 frames/s"}, **changes}


def stands(**changes: Any) -> tuple[str, str]:
    one = row(**changes)
    told = standing(one, troubles(one, NOW))
    return told["word"], told["cause"]


SLOW = {"enough": False, "told": "1 of 10 frames/s"}
SWAP = {"outcome": "rolled-back", "model_id": "gate-3", "reason": "empty", "at": NOW - 600}
FAILED = {"id": 7, "reason": "it died three times", "at": NOW - 600}


@pytest.mark.parametrize(
    ("changes", "word", "cause"),
    [
        ({}, "fine", ""),
        ({"state": "down"}, "lost", "nothing is heard of its edge edge-1"),
        ({"state": "down", "told": "connecting"}, "no picture", "its edge says: connecting"),
        ({"state": "frozen"}, "frozen", "the stream runs, and the picture does not change"),
        ({"keeping_up": SLOW}, "too slow", "its student looks at 1 of 10 frames/s"),
        ({"rate": 0.4}, "forwards too much", "40% of its frames leave"),
        ({"outputs": {"mqtt": "down"}}, "output down", "output mqtt: down"),
        ({"worse": ["worse: 0.48 (0.42 to 0.53), was 0.63"]}, "got worse", "0.48 (0.42 to 0.53), was 0.63"),
        ({"swap": SWAP}, "rolled back", "gate-3: empty"),
        ({"swap": {**SWAP, "outcome": "live"}}, "fine", ""),
        ({"swap": {**SWAP, "at": NOW - 90_000}}, "fine", ""),
        ({"failed_round": FAILED}, "round failed", "round 7: it died three times"),
        ({"state": "unseen"}, "never seen", "its edge edge-1 has not connected since it was enrolled"),
        (
            {"state": "unseen", "edge_is": "here"},
            "never seen",
            "its edge edge-1 is connected and has not spoken of it: is the camera in its settings?",
        ),
        (
            {"state": "unseen", "edge_is": "away"},
            "never seen",
            "its edge edge-1 is not connected now, and never spoke of it",
        ),
        (
            {"state": "down", "awaited": True},
            "awaited",
            "the service has just started, and its edge edge-1 has not greeted it yet",
        ),
        ({"state": "ended"}, "ended", "its source has come to its end"),
        ({"state": "revoked", "keeping_up": SLOW}, "revoked", "its edge may not connect any more"),
        ({"paused": True, "obeys": True}, "paused", "somebody paused it: it detects, and chooses no frames"),
    ],
)
def test_a_camera_stands_in_one_word_with_its_cause(changes: dict[str, Any], word: str, cause: str) -> None:
    assert stands(**changes) == (word, cause)


def test_what_needs_a_person_most_comes_first() -> None:
    kinds = [{"state": "down"}, {"keeping_up": SLOW}, {"state": "unseen"}, {"paused": True, "obeys": True}, {}]
    ranks = [standing(row(**one), troubles(row(**one), NOW))["rank"] for one in kinds]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)


def test_a_trouble_lasts_since_it_was_first_seen_and_is_told_of_when_it_is_over() -> None:
    watchman, slow = Watchman(), troubles(row(keeping_up=SLOW), NOW)
    watchman.note("gate", slow, NOW)
    (still,) = watchman.note("gate", slow, NOW + 60)
    assert still["since"] == NOW
    (now,) = watchman.alerts()["now"]
    assert (now["camera"], now["alert"], now["page"]) == ("gate", "CullingCameraHardlyLookedAt", False)
    watchman.note("gate", [], NOW + 90)
    told = watchman.alerts()
    assert told["now"] == []
    assert [(one["alert"], one["since"], one["until"]) for one in told["before"]] == [
        ("CullingCameraHardlyLookedAt", NOW, NOW + 90)
    ]


def test_what_is_found_right_after_a_start_may_have_been_there_for_longer() -> None:
    watchman, slow = Watchman(NOW - 10), troubles(row(keeping_up=SLOW), NOW)
    told = watchman.note("gate", slow, NOW)
    assert (told[0]["since"], told[0]["longer"]) == (NOW, True)
    assert watchman.note("gate", slow, NOW + 900)[0]["longer"], "it stays so"
    one = {"camera": "gate", "standing": standing(row(keeping_up=SLOW), told)}
    assert sentence([one], NOW + 30) == "0 of 1 camera fine; gate too slow for 30 s or longer"
    assert not watchman.note("yard", slow, NOW + 900)[0]["longer"]


def test_a_lost_camera_is_lost_since_it_was_last_heard() -> None:
    (told,) = Watchman().note("gate", troubles(row(state="down", heard=NOW - 720), NOW), NOW)
    assert told["since"] == NOW - 720


def test_the_service_tells_of_itself() -> None:
    told = service_alerts("the teacher is missing", 10**9, NOW)
    assert [(one["alert"], one["cause"]) for one in told] == [
        ("CullingLabellingFailing", "the teacher is missing"),
        ("CullingDiskNearlyFull", "1.0 GB are free"),
    ]
    assert service_alerts("", 10**12, NOW) == []


def test_every_alert_has_the_name_of_a_rule_and_stands_in_the_runbook() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    named = set(re.findall(r"Culling\w+", (ROOT / "docs" / "runbook.md").read_text()))
    for alert in TO_DO:
        assert f"alert: {alert}\n" in rules
        assert alert in named
    for alert in URGENT:
        assert re.search(rf"alert: {alert}\n(?:(?!alert:).)*severity: page", rules, re.DOTALL)


def fleet(*words: tuple[str, int, float | None]) -> list[dict[str, Any]]:
    return [
        {"camera": f"cam-{at}", "standing": {"word": word, "rank": rank, "since": since, "cause": ""}}
        for at, (word, rank, since) in enumerate(words)
    ]


def test_a_fleet_is_one_sentence() -> None:
    fine = ("fine", 5, None)
    assert sentence([], NOW) == "no camera is enrolled yet"
    assert sentence(fleet(fine), NOW) == "1 of 1 camera fine"
    lost, slow, unseen = ("lost", 0, NOW - 720), ("too slow", 1, NOW - 30), ("never seen", 2, None)
    told = sentence(fleet(fine, slow, lost, unseen, unseen), NOW)
    assert told == "1 of 5 cameras fine; cam-2 lost for 12 min; cam-1 too slow for 30 s; cam-3 never seen; and 1 more"
    assert re.search(r"rolled back at \d\d:\d\d$", sentence(fleet(("rolled back", 1, NOW)), NOW))
