"""A camera's live picture on the page, or in plain words why there is none."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from culling.cloud.evaluation.precision import STUDENT_FLOOR
from culling.cloud.link.looks import Looks, Sight
from culling.cloud.page import views
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import SILENT_S, CameraRow, Roster
from culling.cloud.weights.classes import CLASSES
from culling.common.wire.messages import WireDetections, from_wire

Row = dict[str, Any]

AWAY = "its edge is not connected: the picture comes as soon as it is"
FORBIDDEN = (
    "its edge does not allow it: set view.through_cloud = true in its edge.toml and restart the agent, or look at "
    "the edge's own page, http://127.0.0.1:9467 on its machine where view.enabled is set"
)
WAITING = "waiting for the first picture: it comes in a second or two, but never before a hard frame"


def live(index: Index, settings: CloudSettings, name: str, after: float, now: float) -> Row:
    """Return a camera's newest picture, and that somebody looks at it from now on.

    `why` says why there is none, or is "". `jpeg` is base64, None where the picture is still that captured at `after`;
    boxes are `[x1, y1, x2, y2, score, class]` in pixels of `width` × `height`. Raises InputError for an unknown camera.
    """
    row = Roster(index).require(name)
    if why := _why_not(row, now):
        return {"why": why, "jpeg": None}
    sight = Looks(index).look(name, now)
    if sight is None:
        return {"why": WAITING, "jpeg": None}
    return {"why": "", "at": sight.captured, **(_shown(index, settings, name, sight, after))}


def _why_not(row: CameraRow, now: float) -> str:
    if row.revoked or row.state is None or row.heard is None or now - row.heard > SILENT_S:
        return AWAY
    return "" if row.state.through_cloud else FORBIDDEN


def _shown(index: Index, settings: CloudSettings, name: str, sight: Sight, after: float) -> Row:
    if sight.captured == after:
        return {"jpeg": None}
    classes = Registry(index).classes(name, sight.model_id) or CLASSES
    boxes = []
    if sight.detections is not None:
        found = from_wire(msgspec.msgpack.decode(sight.detections, type=WireDetections), len(classes))
        boxes = views.boxes_of(found.above(STUDENT_FLOOR), classes)
    return {
        "jpeg": base64.b64encode(sight.jpeg).decode(),
        "width": sight.width,
        "height": sight.height,
        "model_id": sight.model_id,
        "student": boxes,
        "colours": {one: settings.set_like(classes).colour(one) for one in classes},
    }
