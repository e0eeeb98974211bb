from __future__ import annotations

from dataclasses import replace

import pytest

from culling.cloud.round.zoo.students import siblings, students
from support import tiny
from support.cloud import CAMERA
from support.returning import Returning
from support.rounds import context_of, enter

SHOP = ("bottle", "person")


def named(returning: Returning, *cameras: str) -> list[str]:
    """Return the students that a round would try, those beside `cameras` among them."""
    context = replace(context_of(returning.cloud), siblings=cameras)
    return [one.model_id for one in students(context, returning.cloud.rounds.get(enter(returning.cloud))).usable]


def graph(tag: str) -> bytes:
    return tiny.student(tag=tag)


def test_the_last_of_each_hour_are_tried_but_not_the_one_in_use_nor_the_base(returning: Returning) -> None:
    for tag in ("a", "b", "c", "d", "e", "f"):
        returning.publish(graph(tag))
    assert named(returning) == ["gate-6", "gate-5", "gate-4", "gate-3"], "four are wanted"


@pytest.mark.parametrize("state", ["rejected", "revoked"])
def test_one_that_was_turned_down_is_never_tried(returning: Returning, state: str) -> None:
    cloud = returning.cloud
    gone = returning.publish(graph("a"))
    assert cloud.registry.withdraw(CAMERA, gone.model_id, state)  # type: ignore[arg-type]
    returning.publish(graph("b"))
    returning.publish(graph("c"))
    assert named(returning) == ["gate-3"]
    beside = returning.beside("yard", graph("a"))
    assert beside.model_id not in named(returning, "yard"), "nor at its sibling's"


def test_one_that_was_gone_back_from_is_never_tried(returning: Returning) -> None:
    returning.publish(graph("a"))
    returning.cloud.publisher.rollback(CAMERA)
    returning.publish(graph("b"))
    assert named(returning) == []


def test_one_that_finds_other_classes_is_never_tried(returning: Returning) -> None:
    returning.publish(tiny.student(classes=SHOP), classes=SHOP)
    returning.publish(graph("b"))
    returning.beside("yard", tiny.student(classes=SHOP, tag="yard"), classes=SHOP)
    assert named(returning, "yard") == []


@pytest.mark.parametrize(
    ("tag", "wanted"), [("a", {"family": "yolox"}), ("a", {"int8": True}), ("QuantizeLinear", {"int8": False})]
)
def test_one_that_no_round_would_make_any_more_is_left_out(
    returning: Returning, tag: str, wanted: dict[str, object]
) -> None:
    returning.publish(graph(tag))
    returning.publish(graph("b"))
    returning.set("student", **wanted)
    assert named(returning) == []


def test_siblings_come_after_the_camera_s_own_with_what_they_run_unless_that_is_where_all_began(
    returning: Returning,
) -> None:
    returning.publish(graph("a"))
    returning.publish(graph("b"))
    beside = returning.beside("yard", graph("c"))
    returning.beside("ramp", graph("a"))  # the camera's own
    cloud = returning.cloud
    cloud.enroll("new", edge="edge-new")
    cloud.publisher.publish("new", cloud.registry.models(CAMERA)[-1].artefact, "base")
    assert named(returning, "yard", "ramp", "new", "unheard-of") == ["gate-2", beside.model_id]
    returning.set(zoo=1)
    assert named(returning, "yard") == ["gate-2"]


def test_siblings_are_the_cameras_of_one_site_whose_edges_may_speak(returning: Returning) -> None:
    cloud = returning.cloud
    for camera in ("yard", "ramp", "far"):
        cloud.enroll(camera, edge=f"edge-{camera}")
    assert siblings(cloud.settings, cloud.index, CAMERA) == (), "an edge in no site is one of its own"
    returning.site("edge-1", "edge-yard", "edge-ramp")
    assert siblings(cloud.settings, cloud.index, CAMERA) == ("ramp", "yard")
    cloud.roster.revoke("edge-ramp")
    assert siblings(cloud.settings, cloud.index, CAMERA) == ("yard",)
    assert siblings(cloud.settings, cloud.index, "unheard-of") == ()
