"""Live pictures for the page: asked of an edge one at a time while somebody looks, and kept with the ingest's tick.

That is one change of the index a second at most, however many cameras are looked at.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from culling.cloud.link.looks import Looks, Sight
from culling.cloud.store.index import Index
from culling.common.clock import Clock
from culling.common.errors import ProtocolError
from culling.common.metrics import Metrics
from culling.common.wire.codec import jpeg_size
from culling.common.wire.messages import FromCloud, LivePicture, Look, from_wire

log = structlog.get_logger(__name__)

ASK_S = 10.0
"""An edge sends the picture that it was asked for within this time; then it is asked again. Thin lines take seconds."""

MOST_PIXELS = 1280 * 1280
"""Four times what an edge sends: a browser decodes it."""

IGNORED = ("unasked", "malformed")
"""Why a picture is not kept."""

Carrier = Callable[[str], str | None]
"""Returns the key of the edge that would send a camera's pictures, None where none that is connected would."""


class LiveLink:
    """Used by the ingest's thread."""

    def __init__(self, index: Index, metrics: Metrics, clock: Clock, send: Callable[[str, FromCloud], bool]) -> None:
        self._looks = Looks(index)
        self._metrics = metrics
        self._clock = clock
        self._send = send
        self._asked: dict[str, float] = {}
        self._came: dict[str, Sight] = {}
        for reason in IGNORED:
            metrics.count("live_pictures_ignored", 0, reason=reason)

    def tick(self, carrier: Carrier) -> None:
        """Keep what came, and ask for what is looked at. Raises StorageError."""
        now, until = self._clock.now(), self._looks.until()
        if self._came or any(end <= now for end in until.values()):
            self._looks.keep(self._came, now)
            self._came = {}
        wanted = {camera for camera, end in until.items() if end > now}
        self._asked = {camera: at for camera, at in self._asked.items() if camera in wanted}
        for camera in wanted:
            self._ask(camera, carrier(camera))

    def take(self, picture: LivePicture, jpeg: bytes, classes: int) -> None:
        """Take a picture that was asked for; any other is ignored, and counted. `classes` is how many its model finds.

        Raises ProtocolError where it is not what it says.
        """
        if self._asked.pop(picture.camera, None) is None:
            self._metrics.count("live_pictures_ignored", reason="unasked")
            return
        try:
            jpeg_size(jpeg, MOST_PIXELS)
            if picture.detections is not None:
                from_wire(picture.detections, classes)
        except ProtocolError:
            self._metrics.count("live_pictures_ignored", reason="malformed")
            raise
        found = None if picture.detections is None else msgspec.msgpack.encode(picture.detections)
        size = {"width": picture.width, "height": picture.height}
        self._came[picture.camera] = Sight(
            picture.captured, self._clock.now(), picture.model_id, **size, detections=found, jpeg=jpeg
        )
        self._metrics.count("live_pictures", camera=picture.camera)

    def _ask(self, camera: str, edge_key: str | None) -> None:
        now = self._clock.monotonic()
        if edge_key is None or now - self._asked.get(camera, now - ASK_S) < ASK_S:
            return
        if self._send(edge_key, Look(camera, ASK_S)):
            self._asked[camera] = now
