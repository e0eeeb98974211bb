"""The file of a stored frame: its JPEG, and behind it all that its row in the index says.

    JPEG · MessagePack of FrameRecord · length of that, 4 bytes big-endian · b"CULLFRM1"

Viewers stop at the end of the JPEG, so the file opens as a picture everywhere. With the record a frame outlives an
index that was lost, or restored from an older backup: its row can be written again from the file alone.
"""

from __future__ import annotations

import struct

import msgspec

from culling.common.wire.messages import HardFrame

_MAGIC = b"CULLFRM1"
_TAIL = struct.Struct(f">I{len(_MAGIC)}s")


class FrameRecord(msgspec.Struct, frozen=True):
    """What the row of a frame is made of: who sent it, when it came (seconds since the epoch), and its message."""

    edge_key: str
    received: float
    frame: HardFrame


_DECODER = msgspec.msgpack.Decoder(FrameRecord)


def seal(jpeg: bytes, record: FrameRecord) -> bytes:
    """Return the file of a frame."""
    body = msgspec.msgpack.encode(record)
    return b"".join((jpeg, body, _TAIL.pack(len(body), _MAGIC)))


def sealed_size(jpeg: bytes, record: FrameRecord) -> int:
    """Return how many bytes the file of a frame has."""
    return len(jpeg) + len(msgspec.msgpack.encode(record)) + _TAIL.size


def unseal(data: bytes) -> tuple[bytes, FrameRecord | None]:
    """Return the JPEG of a file and its record; None where it has none, as files of version 0.1, or a damaged one."""
    if len(data) < _TAIL.size or not data.endswith(_MAGIC):
        return data, None
    length, _ = _TAIL.unpack(data[-_TAIL.size :])
    end = len(data) - _TAIL.size - length
    if end < 0:
        return data, None
    try:
        return data[:end], _DECODER.decode(data[end : -_TAIL.size])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return data[:end], None
