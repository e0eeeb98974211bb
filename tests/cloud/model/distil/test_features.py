from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.model.distil.features import STEPS, Features, rounded, unpack

TEACHER = "a" * 64


def made(seed: int, spread: float = 1.0, shift: float = 0.0) -> Features:
    rng = np.random.default_rng(seed)
    levels = [(shift + spread * rng.standard_normal((3, 8 >> at, 16 >> at))).astype(np.float32) for at in range(4)]
    return rounded(TEACHER, (32, 64), levels)


@given(st.integers(0, 99), st.floats(1e-3, 1e3), st.floats(-5, 5))
def test_what_is_packed_comes_back_as_it_was(seed: int, spread: float, shift: float) -> None:
    features = made(seed, spread, shift * spread)
    again = unpack(features.pack())
    assert (again.teacher, again.size) == (TEACHER, (32, 64))
    for one, other in zip((*features.levels, *features.steps), (*again.levels, *again.steps), strict=True):
        np.testing.assert_array_equal(one, other)
        assert other.flags.writeable


@given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_a_value_is_off_by_an_eighth_of_its_channels_deviation_at_most(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    level = (spread * rng.standard_normal((2, 9, 7)) + spread * 3).astype(np.float32)
    features = rounded(TEACHER, (36, 28), [level] * 4)
    found = features.levels[0] * features.steps[0][:, None, None]
    deviation = level.std((1, 2))[:, None, None]
    assert (np.abs(found - level) <= deviation / STEPS / 2 * 1.01).all()


def test_a_channel_that_says_the_same_everywhere_is_no_trouble() -> None:
    features = rounded(TEACHER, (8, 8), [np.zeros((2, 2, 2), np.float32)] * 4)
    assert not any(level.any() for level in unpack(features.pack()).levels)


def test_packing_takes_about_half_of_a_byte_a_value() -> None:
    rng = np.random.default_rng(0)
    levels = [rng.standard_normal((16, 64 >> at, 64 >> at)).astype(np.float32) for at in range(4)]
    features = rounded(TEACHER, (256, 256), levels)
    assert len(features.pack()) < 0.6 * sum(level.size for level in features.levels)


@pytest.mark.parametrize("at", [0, 3, 40, 90, 200, -9, -1])
def test_damage_is_told_wherever_it_is(at: int) -> None:
    packed = bytearray(made(1).pack())
    packed[at] ^= 0xFF
    with pytest.raises(ValueError, match="damaged"):
        unpack(bytes(packed))


@pytest.mark.parametrize("data", [b"", b"\x00" * 4, b"nothing", b"\x00" * 100])
def test_what_are_no_features_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="features"):
        unpack(data)
