from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.errors import ProtocolError
from culling.common.wire import delta
from culling.common.wire.delta import MAX_START, apply, make, read_header

FLOATS = np.random.default_rng(0).normal(size=400_000).astype(np.float32)


def applied(changes: bytes, base: bytes) -> bytes:
    """Return what a delta makes of `base`."""
    target = io.BytesIO()
    apply(io.BytesIO(changes), io.BytesIO(base), target)
    return target.getvalue()


def refusal(changes: bytes, base: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        applied(changes, base)
    return caught.value.reason


@given(st.integers(0, 2**32), st.integers(0, 40_000), st.integers(0, 40_000))
def test_what_is_made_of_a_delta_is_the_target_bit_for_bit(seed: int, before: int, after: int) -> None:
    chance = random.Random(seed)
    base = chance.randbytes(before)
    target = bytearray((base + chance.randbytes(after))[:after])
    for _ in range(chance.choice([0, 1, 5, 300])):
        if target:
            at = chance.randrange(len(target))
            target[at : at + chance.choice([1, 1, 40])] = chance.randbytes(chance.choice([0, 1, 1, 40]))
    target += b"" if target else b"x"
    assert applied(make(base, bytes(target)), base) == bytes(target)


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_floats_that_begin_anywhere_are_made_again_whole(start: int, share: float) -> None:
    rng = np.random.default_rng(1)
    moved = FLOATS * np.where(rng.random(len(FLOATS)) < share, 1.001, 1.0).astype(np.float32)
    base, target = (b"x" * start + part.tobytes() + b"end" for part in (FLOATS, moved))
    changes = make(base, target)
    assert applied(changes, base) == target
    assert len(changes) < {0.0: 1000, 0.01: len(target) * 0.012, 1.0: len(target) * 0.6}[share]


def test_tensors_that_begin_at_other_places_cost_no_more() -> None:
    half = len(FLOATS) // 2
    cut, moved = FLOATS[:half].tobytes(), (FLOATS * np.float32(1.001))[:half].tobytes()
    apart = make(cut + b"x" + cut, moved + b"x" + moved)
    together = make(cut + cut, moved + moved)
    assert len(apart) < len(together) * 1.02


def test_a_delta_names_both_models_and_its_own_length() -> None:
    base, target = b"one model", b"another model"
    changes = make(base, target)
    header, total = read_header(io.BytesIO(changes[:MAX_START]))
    names = tuple(hashlib.sha256(data).hexdigest() for data in (base, target))
    assert (header.base, header.target, header.size, total) == (*names, len(target), len(changes))


def test_it_needs_memory_for_a_block_and_not_for_the_model(tmp_path: Path) -> None:
    """A disk that was read a block at a time: no read of the base is longer."""
    longest = 0

    class Base(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal longest
            longest = max(longest, size or 0)
            return super().read(size)

    base = FLOATS.tobytes() * 3
    target = (FLOATS * np.float32(1.01)).tobytes() * 3
    made = io.BytesIO()
    apply(io.BytesIO(make(base, target)), Base(base), made)
    assert made.getvalue() == target
    assert 0 < longest <= delta.MAX_BLOCK


BASE = FLOATS[:20_000].tobytes()
TARGET = (FLOATS[:20_000] * np.float32(1.5)).tobytes()
WHOLE = make(BASE, TARGET)
START = read_header(io.BytesIO(WHOLE))[1] - read_header(io.BytesIO(WHOLE))[0].body
"""Where the first block begins."""


def block(at: int, number: int) -> bytes:
    """Return the delta with another number at a place of its first block's head."""
    changed = bytearray(WHOLE)
    changed[START + 4 * at : START + 4 * at + 4] = number.to_bytes(4, "little")
    return bytes(changed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: b"",
        lambda: WHOLE[:3],
        lambda: WHOLE[: START - 1],
        lambda: WHOLE[: START + 7],
        lambda: WHOLE[:-1],
        lambda: WHOLE + b"x",
        lambda: b"\xff" * 4 + WHOLE[4:],
        lambda: WHOLE[:4] + b"\xc1" * (START - 4) + WHOLE[START:],
        lambda: block(0, 0),
        lambda: block(0, len(TARGET) + 1),
        lambda: block(0, 4000),
        lambda: block(1, 2**32 - 1),
        lambda: block(1, 7),
        lambda: block(2, 2**32 - 1),
        lambda: block(2, 0),
        lambda: block(3, 2**32 - 1),
        lambda: block(3, 10),
        lambda: WHOLE[: START + 40] + bytes(200) + WHOLE[START + 240 :],
    ],
)
def test_one_that_is_damaged_is_refused(spoil: Callable[[], bytes]) -> None:
    assert refusal(spoil(), BASE) == "delta-damaged"


def test_one_that_unpacks_to_more_than_it_says_is_stopped() -> None:
    """A bomb: its first block is a thousand times as long as it may be."""
    bomb = delta._deflated([np.zeros(1 << 28 >> 4, np.uint8)])
    head = delta._BLOCK.pack(len(TARGET), 20_000, 20_000, len(bomb))
    assert refusal(WHOLE[:START] + head + bomb, BASE) == "delta-damaged"


def test_changes_beyond_their_block_are_refused() -> None:
    packed = delta._deflated([np.array([200], np.uint8), np.zeros(4, np.uint8)])
    head = delta._BLOCK.pack(8, 1, 1, len(packed))
    assert refusal(WHOLE[:START] + head + packed, BASE) == "delta-damaged"


def test_a_base_that_cannot_be_read_is_told_apart() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ProtocolError) as caught:
        apply(io.BytesIO(WHOLE), Broken(), io.BytesIO())
    assert caught.value.reason == "base-missing"


def test_of_another_base_it_makes_another_file_of_the_same_length() -> None:
    """Nothing is proven here: the hash in the manifest does that."""
    assert len(applied(WHOLE, b"another")) == len(TARGET)
