"""The edge's spans of a forwarded frame: from its capture until it may leave, and from its sending to its ack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from culling.common.wire.protocol import FrameKey, frame_id
from culling.edge.spool.rows import Leaving, Spooled

if TYPE_CHECKING:
    from culling.common.traces.spans import About, Traces


class Traced:
    """Knows the key by which the cloud knows this edge, which names its frames. Every time is seconds since the epoch.

    `left` belongs to the recorder's thread, the others to the forwarder's.
    """

    def __init__(self, traces: Traces, edge_key: str) -> None:
        self._traces = traces
        self._edge_key = edge_key
        self._sent: dict[FrameKey, float] = {}

    def left(self, camera: str, frames: Iterable[Leaving], at: float) -> None:
        """Note that frames are in the spool and may leave since `at`."""
        for one in frames:
            frame = frame_id(self._edge_key, one.boot, one.seq)
            about: About = {"camera": camera, "reason": one.reason, "bytes": one.size}
            self._traces.span("edge.forward", frame, one.captured, at, about, first=True)

    def sent(self, key: FrameKey, at: float) -> None:
        """Note that a frame was sent; when it is sent again, its span has begun already."""
        self._sent.setdefault(key, at)

    def ended(self, spooled: Spooled, at: float, refused: str = "") -> None:
        """Note that a frame was acknowledged, or `refused` for ever."""
        key = (spooled.boot, spooled.seq)
        began, frame = self._sent.pop(key, at), frame_id(self._edge_key, *key)
        about: About = {"camera": spooled.camera, "reason": spooled.reason}
        self._traces.span("edge.send", frame, began, at, about, failed=refused)
