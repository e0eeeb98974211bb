"""What may come in: whether a frame is what its message says, how many may be under way, and how much room is left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

from culling.cloud.settings import ServiceSettings
from culling.cloud.store.frames import Counts
from culling.common.errors import ProtocolError
from culling.common.wire.classes import MOST
from culling.common.wire.codec import jpeg_size
from culling.common.wire.ignored import check as check_places
from culling.common.wire.messages import HardFrame, from_wire

PROMPT_S = 0.02
"""A disk that takes this long per frame keeps up; a slower one shrinks the windows. Frames stored together share it."""

Lack: TypeAlias = Literal["disk-full", "quota"]


class Room:
    """What room the disk and each camera's quota have, as they were counted last, less what was let in since that count
    began: a frame that is stored while it goes on may be counted twice, until the next one.
    """

    def __init__(self, settings: ServiceSettings, quota_bytes: int) -> None:
        self.free_bytes = 0
        self.counts: dict[str, Counts] = {}
        self._settings = settings
        self._quota_bytes = quota_bytes
        self._store_s = 0.0
        self._since: list[tuple[str, int]] = []

    @property
    def full(self) -> bool:
        """Whether the disk is at its reserve, so that no frame is let in."""
        return self.free_bytes < self._settings.reserve_bytes

    def begin_count(self) -> None:
        """Note what is let in from now on: a count that begins now may miss it."""
        self._since = []

    def counted(self, free_bytes: int, counts: dict[str, Counts] | None) -> None:
        """Take what a count found; `counts` is None where only the disk was looked at."""
        self.free_bytes = free_bytes - sum(size for _, size in self._since)
        if counts is not None:
            self.counts = counts
            for camera, size in self._since:
                self._add(camera, size)
        self._since = []

    def let_in(self, camera: str, size: int) -> Lack | None:
        """Let a frame of `size` bytes in, or return what is lacking."""
        counts = self.counts.get(camera, Counts())
        if self.free_bytes - size < self._settings.reserve_bytes:
            return "disk-full"
        if counts.bytes + size > self._quota_bytes:
            return "quota"
        self._add(camera, size)
        self._since.append((camera, size))
        self.free_bytes -= size
        return None

    def _add(self, camera: str, size: int) -> None:
        counts = self.counts.get(camera, Counts())
        self.counts[camera] = replace(counts, bytes=counts.bytes + size, asking_others=counts.asking_others + 1)

    def note_pace(self, seconds: float, count: int) -> None:
        """Note how many seconds it took to make `count` frames durable, one or more, or to fail to."""
        self._store_s += (seconds / count - self._store_s) / 4

    def window(self, camera: str | None = None) -> int:
        """Return how many frames an edge may have unacknowledged, 1 to the settings' `window`.

        It falls in proportion to the camera's frames that wait for the teacher above `queue_high`, to the seconds that
        it lately took to store one above `PROMPT_S`, and from twice the disk's reserve down to the reserve.
        """
        settings = self._settings
        asking = self.counts.get(camera, Counts()).asking if camera else 0
        queue = settings.queue_high / max(asking, settings.queue_high)
        room = (self.free_bytes - settings.reserve_bytes) / max(settings.reserve_bytes, 1)
        pace = PROMPT_S / max(self._store_s, PROMPT_S)
        return max(1, int(settings.window * min(queue, room, pace, 1.0)))


def check_frame(frame: HardFrame, jpeg: bytes, classes: Callable[[str], int] = lambda model_id: MOST) -> None:
    """Raise ProtocolError unless `jpeg` is the picture that `frame` describes, by hash and by header.

    Labels have to be below `classes`, which returns the number of those that a model finds.
    """
    if hashlib.sha256(jpeg).hexdigest() != frame.sha256:
        raise ProtocolError("wrong-hash", "the picture is not the one that its message describes")
    if jpeg_size(jpeg) != (frame.width, frame.height):
        raise ProtocolError("wrong-size", f"the picture has another size than {frame.width} x {frame.height}")
    from_wire(frame.detections, classes(frame.model_id))
    if frame.shadow is not None:
        from_wire(frame.shadow.detections, classes(frame.shadow.model_id))
    check_places(frame.ignored)
