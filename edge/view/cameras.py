"""What the view says of a camera: its picture with what was found in it, or in plain words why there is none."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from culling.common.clock import Clock
from culling.common.detections import Record
from culling.common.metrics import Metrics
from culling.edge.output.sink import CameraNow
from culling.edge.view.frames import Shown
from culling.edge.view.pace import Pace

LEAST = 0.1
"""Score below which a box is not sent: whoever looks chooses from there up."""
LENGTH = struct.Struct(">I")
STATES = {
    "connecting": "The camera gives no picture: it is being opened, again and again until it answers.",
    "frozen": "The camera sends one and the same picture, which is not looked at: restart the camera if this lasts.",
    "ended": "The file has been played to its end.",
    "failed": "The file cannot be played: the agent's log says why.",
    "stopped": "The agent is ending.",
}
NO_MODEL = "There is no model yet, so nothing is found: the cloud sends one, or `culling edge install` brings one."
SILENT = "The camera is live, but no new picture has come through: its frames wait for the student, or none came."


class Live(msgspec.Struct, frozen=True):
    """What goes before a JPEG; without a new picture `number` is 0 and no JPEG follows.

    `at` is when the picture was taken, `now` the agent's time, both in seconds since the epoch; `pace` says how the
    student keeps up, and is empty while that is not known. `why` is a sentence for people, empty while all is well.
    """

    now: float
    state: str
    why: str
    pace: str
    number: int = 0
    at: float = 0.0
    width: int = 0
    height: int = 0
    record: Record | None = None


def why(camera: CameraNow, new: bool) -> str:
    """Return why a camera shows nothing, or nothing new, or finds nothing; empty while all is well."""
    if camera.state in STATES:
        return STATES[camera.state]
    if not camera.classes:
        return NO_MODEL
    return "" if new else SILENT


def to_send(camera: CameraNow, shown: Shown | None, pace: Pace, metrics: Metrics, clock: Clock) -> bytes:
    """Return what a viewer gets: four bytes that hold the length of `Live` in JSON, that, and the JPEG."""
    picture: dict[str, Any] = {}
    if shown is not None:
        frame = shown.frame
        size = {"width": frame.width, "height": frame.height}
        picture = {"number": shown.number, "at": frame.captured, "record": _record(shown), **size}
    inferred = metrics.total("frames_inferred", camera=camera.name)
    dropped = metrics.by("reason", "frames_dropped", camera=camera.name)
    head = msgspec.json.encode(
        Live(
            now=clock.now(),
            state=camera.state,
            why=why(camera, shown is not None),
            pace=pace.rates(camera.name, inferred, dropped, clock.monotonic()),
            **picture,
        )
    )
    return LENGTH.pack(len(head)) + head + (shown.jpeg if shown is not None else b"")


def _record(shown: Shown) -> Record | None:
    """Return what was found, or stands for what was found; not where that was in pixels of another size."""
    seen, frame = shown.seen, shown.frame
    if seen is None or (seen.width, seen.height) != (frame.width, frame.height):
        return None
    return seen.record(seen.found.scores >= LEAST, seen.zones)
