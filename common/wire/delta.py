"""What changed between two models, byte for byte: a way for a model to travel, and no reason to believe it.

The edge holds what it makes of a delta against the hash in the signed manifest, as any file that came whole.

    4 bytes: length of the header · header: a MessagePack map (`Header`) · blocks, until the target is whole

A block is three little-endian numbers of 4 bytes (bytes of the target, words of it that changed, bytes of its gaps),
the length of what follows, and that: zlib, the gaps and then the first, second, third and fourth bytes of the changes.
It reads target and base at the same place, as words of 4 bytes. A gap counts the words before one that changed, 255
stands for as many and none that did. A change is the difference of two words, folded so that small ones of either sign
are small numbers: of two floats that lie close, the upper bytes are then zero. A base that is too short goes on in
zeros, and so does a block's last word.

Models of one shape have their tensors at the same places, but not at multiples of four: so blocks are cut where the
tensors' floats begin, which is seen by the byte of them that changes least.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from culling.common.errors import ProtocolError
from culling.common.wire.messages import MAX_MODEL, Sha256, plain

MAX_BLOCK = 1 << 20
"""Bytes of the target: making or reading a block takes some ten times as much memory."""

CELL = 1 << 14
"""Bytes that are looked at to see where floats begin: far fewer than any tensor that counts has."""

_LENGTH = struct.Struct("<I")
_BLOCK = struct.Struct("<IIII")
_MAX_HEADER = 1024
MAX_START = _LENGTH.size + _MAX_HEADER
"""Bytes from which `read_header` can read it."""

_SKIP = 255

Words = NDArray[np.uint32]
Bytes = NDArray[np.uint8]


class Header(msgspec.Struct, frozen=True):
    """Which bytes a delta makes of which, by their SHA-256; `size` is the target's, `body` that of all blocks."""

    base: Sha256
    target: Sha256
    size: Annotated[int, Meta(ge=1, le=MAX_MODEL)]
    body: Annotated[int, Meta(ge=0, le=MAX_MODEL)]
    spec: Literal[1] = 1


def make(base: bytes, target: bytes) -> bytes:
    """Return the delta that makes `target` of `base`; it may be longer than `target`."""
    old, new = np.frombuffer(base, np.uint8), np.frombuffer(target, np.uint8)
    body = b"".join(_packed(old[start:end], new[start:end]) for start, end in _blocks(old, new))
    of, to = (hashlib.sha256(data).hexdigest() for data in (base, target))
    header = msgspec.msgpack.encode(Header(of, to, len(target), len(body)))
    return _LENGTH.pack(len(header)) + header + body


def read_header(delta: BinaryIO) -> tuple[Header, int]:
    """Return the header at the beginning of a delta, and how many bytes the whole delta has.

    Raises ProtocolError("delta-damaged"), and OSError.
    """
    (length,) = _LENGTH.unpack(_exactly(delta, _LENGTH.size))
    if length > _MAX_HEADER:
        raise _damaged(f"a header of {length} bytes")
    try:
        header = msgspec.msgpack.decode(_exactly(delta, length), type=Header)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise _damaged(plain(str(error))) from None
    return header, _LENGTH.size + length + header.body


def apply(delta: BinaryIO, base: BinaryIO, target: BinaryIO) -> None:
    """Write to `target` what `delta` makes of `base`, block by block. Nothing is proven by that but the length.

    Raises ProtocolError: `delta-damaged`, or `base-missing` when the base cannot be read; OSError of the other two.
    """
    header, _ = read_header(delta)
    at = 0
    while at < header.size:
        length, changed, gaps, packed = _BLOCK.unpack(_exactly(delta, _BLOCK.size))
        if not 0 < length <= min(MAX_BLOCK, header.size - at):
            raise _damaged(f"a block of {length} bytes at {at} of {header.size}")
        most = -(-length // 4)
        if changed > most or gaps > changed + most // _SKIP + 1 or packed > 2 * MAX_BLOCK:
            raise _damaged(f"{changed} changes in a block of {most} words")
        found = _inflated(_exactly(delta, packed), gaps + 4 * changed)
        target.write(_block(_part(base, at, length), found, gaps, changed))
        at += length
    if delta.read(1):
        raise _damaged("more than the whole target")


# Making one


def _blocks(old: Bytes, new: Bytes) -> Iterator[tuple[int, int]]:
    """Yield where each block begins and ends, so that its words are the floats of a tensor."""
    start, begins = 0, 0
    for at in range(0, len(new), CELL):
        found = _alignment(old[at : at + CELL], new[at : at + CELL])
        other = found is not None and found != begins
        begins = begins if found is None else found
        cut = min(at + (begins - at) % 4, len(new))
        if cut > start and (other or cut - start > MAX_BLOCK - CELL - 4):
            yield start, cut
            start = cut
    if start < len(new):
        yield start, len(new)


def _alignment(old: Bytes, new: Bytes) -> int | None:
    """Return where words begin, modulo 4: behind the byte that changes least. None where nothing changes."""
    length = min(len(old), len(new)) // 4 * 4
    counts = (old[:length] != new[:length]).reshape(-1, 4).sum(0)
    return (int(counts.argmin()) + 1) % 4 if counts.any() else None


def _packed(old: Bytes, new: Bytes) -> bytes:
    was, now = (_words(part, len(new)) for part in (old, new))
    places = np.flatnonzero(was != now)
    gaps = _gaps(places)
    planes = _folded(now[places] - was[places]).view(np.uint8).reshape(-1, 4).T
    data = _deflated([gaps, *planes])
    return _BLOCK.pack(len(new), len(places), len(gaps), len(data)) + data


def _deflated(parts: list[Bytes]) -> bytes:
    packer = zlib.compressobj()
    done = []
    for part in parts:  # each has numbers of its own kind, and so a code of its own
        done += [packer.compress(part.tobytes()), packer.flush(zlib.Z_FULL_FLUSH)]
    return b"".join((*done, packer.flush()))


def _gaps(places: NDArray[np.int64]) -> Bytes:
    between = np.diff(places, prepend=-1) - 1
    skips = between // _SKIP
    told = np.full(len(places) + int(skips.sum()), _SKIP, np.uint8)
    told[np.cumsum(skips + 1) - 1] = between % _SKIP
    return told


def _folded(change: Words) -> Words:
    return np.asarray((change << np.uint32(1)) ^ -(change >> np.uint32(31)), "<u4")


# Reading one


def _block(old: bytes, found: bytes, gaps: int, changed: int) -> bytes:
    """Return a block of the target."""
    told = np.frombuffer(found[:gaps], np.uint8)
    ends = told != _SKIP
    places = np.cumsum(np.where(ends, told.astype(np.int64) + 1, _SKIP))[ends] - 1
    words = _words(np.frombuffer(old, np.uint8), len(old))
    if len(places) != changed or (changed and places[-1] >= len(words)):
        raise _damaged("changes beyond their block")
    planes = np.frombuffer(found[gaps:], np.uint8).reshape(4, -1)
    folded = np.ascontiguousarray(planes.T).view("<u4").ravel()
    words[places] += (folded >> np.uint32(1)) ^ -(folded & np.uint32(1))
    return words.tobytes()[: len(old)]


def _part(base: BinaryIO, at: int, length: int) -> bytes:
    try:
        base.seek(at)
        return base.read(length).ljust(length, b"\0")
    except OSError as error:
        raise ProtocolError("base-missing", f"the model that a delta starts from cannot be read: {error}") from None


def _inflated(packed: bytes, length: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(packed, length + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from None
    if len(found) != length or not unpacker.eof or unpacker.unused_data:
        raise _damaged(f"a block of {len(found)} bytes instead of {length}")
    return found


def _exactly(delta: BinaryIO, length: int) -> bytes:
    if len(data := delta.read(length)) != length:
        raise _damaged("it is cut short")
    return data


def _words(part: Bytes, length: int) -> Words:
    """Return bytes as words, a writable copy: as many as `length` bytes need, with zeros behind what is there."""
    padded = np.zeros(-(-length // 4) * 4, np.uint8)
    padded[: len(part)] = part
    return padded.view("<u4")


def _damaged(why: str) -> ProtocolError:
    return ProtocolError("delta-damaged", f"a delta cannot be read: {why}")
