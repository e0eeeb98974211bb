"""What an audit tells of the frames before it: the answers that would stand for it had its student looked less often.

It travels as bytes of a HardFrame, which are read apart from it: an audit whose echo is damaged still counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from msgspec import Meta

from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.wire.messages import MAX_ECHO, WireDetections, from_wire, plain, to_wire

AGES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
"""Seconds before the audit, from one frame on: what is between two of them is taken for the mean of both."""

MOST_BOXES = 100
"""The best boxes of each answer that travel."""


@dataclass(frozen=True)
class Echo:
    """`found` are the newest answers of at least each of `AGES`, in pixels of the audit's frame; of each, `changes` is
    by how many grey levels the cell of the thumbnail that changed most did, over all frames since, the audit included.

    Of `rate` frames a second the student could have looked at each. `stood` is the answer that stood for the audit by
    the profile in force; None: that had it looked at.
    """

    rate: float
    changes: tuple[int, ...]
    found: tuple[Detections, ...]
    stood: Detections | None = None

    def among(self, own: Sequence[str], wanted: Sequence[str]) -> Echo:
        """Return it with labels by the list `wanted`, as `Detections.among` does."""
        stood = None if self.stood is None else self.stood.among(own, wanted)
        return replace(self, found=tuple(one.among(own, wanted) for one in self.found), stood=stood)


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    rate: Annotated[float, Meta(gt=0, le=1000)]
    changes: Annotated[tuple[Annotated[int, Meta(ge=0, le=255)], ...], Meta(min_length=len(AGES), max_length=len(AGES))]
    found: Annotated[tuple[WireDetections, ...], Meta(min_length=len(AGES), max_length=len(AGES))]
    stood: WireDetections | None = None


def encode(echo: Echo) -> bytes:
    """Return an echo as it travels and is kept; b"" for one that is larger than any message may carry."""
    stood = None if echo.stood is None else _best(echo.stood)
    data = msgspec.msgpack.encode(_Wire(echo.rate, echo.changes, tuple(map(_best, echo.found)), stood))
    return data if len(data) <= MAX_ECHO else b""


def decode(data: bytes, class_count: int = 256) -> Echo:
    """Return the echo in `data`. Raises ProtocolError("malformed") for a damaged one."""
    try:
        told = msgspec.msgpack.decode(data, type=_Wire)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError("malformed", plain(f"an echo cannot be read: {error}")) from None
    stood = None if told.stood is None else from_wire(told.stood, class_count)
    return Echo(told.rate, told.changes, tuple(from_wire(one, class_count) for one in told.found), stood)


def _best(found: Detections) -> WireDetections:
    return to_wire(Detections(found.boxes[:MOST_BOXES], found.scores[:MOST_BOXES], found.labels[:MOST_BOXES]))
