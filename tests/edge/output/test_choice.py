from __future__ import annotations

from typing import Any

import numpy as np

from culling.common.detections import ZoneCounts
from culling.edge.output.choice import Choice
from support.outputs import seen, settings


def choice(**told: Any) -> Choice:
    return Choice(settings("stdout", **told))


def test_every_frame_has_a_record_by_default_also_an_empty_one() -> None:
    every = choice()
    assert [every.takes(seen(number, ())) for number in range(3)] == [True] * 3
    assert every.records([seen(0, ())])[0].detections == ()


def test_only_named_cameras_are_told_of() -> None:
    only = choice(cameras=["gate"])
    assert only.takes(seen())
    assert not only.takes(seen(camera="yard"))


def test_boxes_are_chosen_by_class_and_score() -> None:
    found = seen(0, ("person", "car", "car"), (0.9, 0.8, 0.3))
    assert [one.score for one in choice(classes=["car"]).records([found])[0].detections] == [0.8]
    assert len(choice(classes=["car"], score=0.0).records([found])[0].detections) == 2
    assert choice(classes=["unicorn"]).records([found])[0].detections == ()


def test_boxes_are_chosen_by_zone_and_other_zones_are_not_told_of() -> None:
    zones = {"yard": ZoneCounts({"person": 1}, {}, {}), "road": ZoneCounts({"car": 1}, {"car": 3, "bus": 1}, {})}
    inside = np.array([[True, False], [False, True]])
    found = seen(0, ("person", "car"), zones=zones, inside=inside)

    record = choice(zones=["road"], classes=["car"]).records([found])[0]

    assert [one.label for one in record.detections] == ["car"]
    assert record.zones == {"road": ZoneCounts({"car": 1}, {"car": 3}, {})}
    assert choice(zones=["road"]).records([seen()])[0].detections == (), "a camera without zones has nothing in one"


def test_a_change_is_another_count_of_what_is_told_of() -> None:
    change = choice(every="change", classes=["person"])
    frames = [("person",), ("person",), ("person", "car"), ("person", "person"), (), ()]
    assert [change.takes(seen(n, labels)) for n, labels in enumerate(frames)] == [True, False, False, True, True, False]


def test_another_model_and_another_count_in_a_zone_are_changes_too() -> None:
    change = choice(every="change")
    yard = {"yard": ZoneCounts({"person": 1}, {}, {})}
    assert change.takes(seen(0))
    assert change.takes(seen(1, zones=yard))
    assert not change.takes(seen(2, zones=yard))
    assert change.takes(seen(3, camera="yard")), "each camera changes for itself"


def test_once_a_second_is_once_a_second_at_any_frame_rate() -> None:
    for fps in (0.5, 3, 25, 30):
        second = choice(every="1s")
        taken = sum(second.takes(seen(n, at=1000 + n / fps)) for n in range(int(20 * fps)))
        assert taken == (20 if fps > 1 else 10), fps


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    second = choice(every="1s")
    assert second.takes(seen(0, at=1000.0))
    assert second.takes(seen(1, at=400.0))
    assert not second.takes(seen(2, at=400.5))
    assert second.takes(seen(3, at=401.5))


def test_what_is_due_is_known_before_what_is_found() -> None:
    second, change, gate = choice(every="1s"), choice(every="change"), choice(cameras=["gate"])
    assert [second.due("gate", 1000 + n / 4) for n in range(8)] == [True, False, False, False] * 2
    assert second.tells(seen(0, at=1000.0))
    assert change.due("gate", 1000.0)
    assert [change.tells(seen(n)) for n in range(2)] == [True, False]
    assert (gate.due("gate", 0.0), gate.due("yard", 0.0)) == (True, False)
