"""Live pictures for the cloud's page, of edges whose `view.through_cloud` allows it; nothing is done for nobody.

The cloud asks for one picture at a time (`Look`), and again once it has it. So that hard frames never wait for a
picture, none is made while they wait or are on their way, and a picture that cannot leave at once is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from culling.common.clock import Clock
from culling.common.metrics import Metrics
from culling.common.wire.messages import LivePicture, Look, to_wire
from culling.edge.view.frames import LiveFrames, Shown
from culling.edge.view.settings import ViewSettings

EVERY_S = 1.0
"""A second at least lies between two pictures of a camera, however often one is asked for."""

LONG_SIDE, QUALITY, MAX_FPS = 640, 70, 2.0
"""Some 60 kB of a busy scene. Twice as many pictures are kept ready as leave, so that each is fresh."""

NO_MODEL = "none"


@dataclass
class _Asked:
    until: float
    due: float
    last: int = 0  # the number of the picture that was sent last


class Abroad:
    """Belongs to the forwarder's thread, but for `live`, which the camera path fills; None where it is not allowed.

    `names` returns those of the agent's cameras.
    """

    def __init__(self, allowed: bool, names: Callable[[], Collection[str]], metrics: Metrics, clock: Clock) -> None:
        settings = ViewSettings(max_fps=MAX_FPS, long_side=LONG_SIDE, jpeg_quality=QUALITY)
        self.live = LiveFrames(settings, metrics, clock) if allowed else None
        self._names = names
        self._metrics = metrics
        self._clock = clock
        self._asked: dict[str, _Asked] = {}

    @property
    def allowed(self) -> bool:
        """Whether the cloud may ask."""
        return self.live is not None

    def look(self, look: Look) -> None:
        """Take that somebody looks at a camera; one that there is not, or a look that is not allowed, is counted."""
        if self.live is None or look.camera not in self._names():
            self._metrics.count("messages_refused", reason="look-not-allowed")
            return
        now = self._clock.monotonic()
        asked = self._asked.setdefault(look.camera, _Asked(now, now))
        asked.until = now + look.seconds
        self.live.want(look.camera, look.seconds)

    def due(self) -> list[str]:
        """Return the cameras of which a picture is wanted now."""
        now = self._clock.monotonic()
        return [camera for camera, asked in self._asked.items() if asked.due <= now < asked.until]

    def skip(self, camera: str, reason: str) -> None:
        """Count a picture that is not sent; the next one is due in a second."""
        self._asked[camera].due = self._clock.monotonic() + EVERY_S
        self._metrics.count("live_pictures_skipped", camera=camera, reason=reason)

    def picture(self, camera: str) -> tuple[LivePicture, bytes] | None:
        """Return the newest picture of a camera that is due; None where none has come since the last one."""
        asked = self._asked[camera]
        shown = None if self.live is None else self.live.newest(camera, asked.last, 0.0)
        if shown is None:
            return None
        asked.last = shown.number
        return _message(shown), shown.jpeg

    def sent(self, camera: str) -> None:
        """Note that a picture left: another one is sent when it is asked for, in a second at the earliest."""
        now = self._clock.monotonic()
        self._asked[camera].until, self._asked[camera].due = now, now + EVERY_S
        self._metrics.count("live_pictures_sent", camera=camera)


def _message(shown: Shown) -> LivePicture:
    frame, seen = shown.frame, shown.seen
    same = seen is not None and (seen.width, seen.height) == (frame.width, frame.height)
    return LivePicture(
        frame.camera,
        max(0.0, frame.captured),
        NO_MODEL if seen is None else seen.model,
        frame.width,
        frame.height,
        to_wire(seen.found) if seen is not None and same else None,
    )
