"""The alerts of a fleet: what is wrong now and since when, what was lately, and what to do about it.

What is over is forgotten when the service stops; Prometheus keeps it for longer. The runbook says more of each, under
its name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from math import inf
from typing import Any

from culling.cloud.page.standing import URGENT

KEPT = 200
"""Alerts that are over and still told of."""

SETTLED_S = 300.0
"""By then whatever was wrong before a service started has shown again."""

DISK_FREE = 2_000_000_000
"""Bytes, as in CullingDiskNearlyFull."""

TO_DO = {
    "CullingCameraSilent": "Look at the edge and its line; run culling edge check there.",
    "CullingCameraNotLive": "Look at the camera; a frozen one is mended by a restart.",
    "CullingCameraHardlyLookedAt": "Set max_fps for the camera, or have a lighter student made: student.int8 = true.",
    "CullingForwardedRateOutOfBand": "Lower its budget: culling cloud budget CAMERA FRAMES.",
    "CullingOutputDown": "culling edge check there; the edge's log says why. It comes back by itself.",
    "CullingAccuracyFell": "Look at the picture; then culling cloud rounds CAMERA --start.",
    "CullingRollback": "Nothing at once: it runs the model before. See what was published under rounds.",
    "CullingRoundFailed": "culling cloud rounds shows the reason; after being killed, mostly lower round.batch.",
    "CullingLabellingFailing": "culling cloud check; if it was killed, lower teacher.batch.",
    "CullingDiskNearlyFull": "Make room; or lower store.quota_bytes or store.retention_days.",
}
"""What to do about each alert, in a line."""

Row = dict[str, Any]


class Watchman:
    """Remembers since when each trouble is there, and those that are over. Used from one thread at a time.

    What it finds soon after it `started`, in epoch seconds, may have been there for `longer`.
    """

    def __init__(self, started: float = -inf) -> None:
        self._started = started
        self._open: dict[str, dict[str, Row]] = {}
        self._past: deque[Row] = deque(maxlen=KEPT)

    def note(self, camera: str, found: Sequence[Row], now: float) -> list[Row]:
        """Take what is wrong with a camera now; return the same, each with its `since` and `longer`."""
        before = self._open.get(camera, {})
        for alert, gone in before.items():
            if alert not in {one["alert"] for one in found}:
                self._past.append({"camera": camera, **gone, "until": now})
        told = [{**one, **self._since(one, before.get(one["alert"]), now)} for one in found]
        self._open[camera] = {one["alert"]: one for one in told}
        return told

    def _since(self, one: Row, before: Row | None, now: float) -> Row:
        if one["since"] is not None:
            return {"since": float(one["since"]), "longer": False}
        if before is not None:
            return {"since": before["since"], "longer": before["longer"]}
        return {"since": now, "longer": now - self._started <= SETTLED_S}

    def forget(self, camera: str) -> None:
        """Drop a camera that is gone."""
        self._open.pop(camera, None)

    def alerts(self, cameras: Collection[str] | None = None) -> dict[str, list[Row]]:
        """Return the alerts of some cameras, None: of all; those that ring `now`, and those `before` that are over,
        newest first.
        """
        ringing = [{"camera": camera, **one} for camera, mine in list(self._open.items()) for one in mine.values()]
        both = {"now": sorted(ringing, key=lambda one: -one["since"]), "before": list(reversed(list(self._past)))}
        return {
            when: [_told(one) for one in found if cameras is None or one["camera"] in cameras]
            for when, found in both.items()
        }


def _told(one: Row) -> Row:
    return {**one, "page": one["alert"] in URGENT, "do": TO_DO[one["alert"]].replace("CAMERA", one["camera"])}


def service_alerts(problem: str, disk_free: int, now: float) -> list[Row]:
    """Return what is wrong with the service itself: why nothing is labelled (`problem`), and its disk."""
    found = []
    if problem:
        found.append(("CullingLabellingFailing", "nothing is labelled", problem))
    if disk_free < DISK_FREE:
        found.append(("CullingDiskNearlyFull", "disk nearly full", f"{disk_free / 1e9:.1f} GB are free"))
    return [_told({"camera": "", "alert": a, "word": word, "cause": why, "since": now}) for a, word, why in found]
