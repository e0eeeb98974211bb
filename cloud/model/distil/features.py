"""The teacher's feature pyramid of one picture in 8 bits, and as bytes: what is kept while a frame is labelled.

A value is rounded to a quarter of its channel's deviation, which moves what the box head says of a proposal by
thousandths; four bits a value are left of that once it is deflated. `LEVELS` are those that boxes are pooled from; the
coarsest one of the pyramid only has proposals.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

LEVELS = 4

STEPS = 4
"""Steps of a value for each standard deviation of its channel over the picture."""

LEAST_DEVIATION = 1e-6
"""A channel that says the same everywhere says nothing."""


CHECKSUM = 4
"""Bytes before all others."""


class _Packed(msgspec.Struct, array_like=True):
    """What a file holds after its checksum: `shapes` are (channels, height, width) of each level."""

    teacher: str
    size: tuple[int, int]
    shapes: list[tuple[int, int, int]]
    steps: bytes
    values: bytes


@dataclass(frozen=True)
class Features:
    """What the teacher with that hash computed of a picture, shown to it at `size` (height, width).

    `levels` are `(C, h, w)` int8, the finest first, in `steps` `(C,)` float32 of their own channel.
    """

    teacher: str
    size: tuple[int, int]
    levels: tuple[NDArray[np.int8], ...]
    steps: tuple[NDArray[np.float32], ...]

    def pack(self) -> bytes:
        """Return it as bytes."""
        values = b"".join(level.tobytes() for level in self.levels)
        deflater = zlib.compressobj(1, zlib.DEFLATED, strategy=zlib.Z_HUFFMAN_ONLY)  # nothing repeats in it
        deflated = deflater.compress(values) + deflater.flush()
        shapes = [(level.shape[0], level.shape[1], level.shape[2]) for level in self.levels]
        steps = b"".join(step.tobytes() for step in self.steps)
        packed = msgspec.msgpack.encode(_Packed(self.teacher, self.size, shapes, steps, deflated))
        return zlib.crc32(packed).to_bytes(CHECKSUM, "big") + packed


def rounded(teacher: str, size: tuple[int, int], levels: Sequence[NDArray[np.float32]]) -> Features:
    """Return the levels `(C, h, w)` of one picture, the finest first, in 8 bits."""
    steps = [np.maximum(level.std((1, 2)), LEAST_DEVIATION).astype(np.float32) / STEPS for level in levels]
    whole = [
        np.clip(np.rint(level / step[:, None, None]), -127, 127).astype(np.int8)
        for level, step in zip(levels, steps, strict=True)
    ]
    return Features(teacher, size, tuple(whole), tuple(steps))


def unpack(data: bytes) -> Features:
    """Return the features in `data`. Raises ValueError where these are no whole features."""
    if zlib.crc32(data[CHECKSUM:]).to_bytes(CHECKSUM, "big") != data[:CHECKSUM]:
        raise ValueError("features that are damaged")
    try:
        packed = msgspec.msgpack.decode(data[CHECKSUM:], type=_Packed)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no features: {error}") from None
    values, steps = _inflated(packed), np.frombuffer(bytearray(packed.steps), np.float32)
    levels, each, at, first = [], [], 0, 0
    for channels, height, width in packed.shapes:
        count = channels * height * width
        levels.append(values[at : at + count].reshape(channels, height, width))
        each.append(steps[first : first + channels])
        at, first = at + count, first + channels
    return Features(packed.teacher, packed.size, tuple(levels), tuple(each))


def _inflated(packed: _Packed) -> NDArray[np.int8]:
    """Return the values of all levels. Raises ValueError where they are not as many as the shapes say."""
    count = sum(channels * height * width for channels, height, width in packed.shapes)
    channels = sum(shape[0] for shape in packed.shapes)
    inflater = zlib.decompressobj()
    try:
        values = inflater.decompress(packed.values, count + 1)
    except zlib.error as error:
        raise ValueError(f"features that are damaged: {error}") from None
    if len(values) != count or len(packed.steps) != 4 * channels or len(packed.shapes) != LEVELS:
        raise ValueError("features of other shapes than they say")
    return np.frombuffer(bytearray(values), np.int8)  # which torch may have as its own
