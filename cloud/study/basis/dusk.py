"""Simulated dusk: what a camera would make of the same scene with less light. What is seen where does not change.

Scene light falls by `STOPS` at full darkness. The camera makes up for part of that by gain (`GAIN_STOPS`), which makes
its noise as many times larger; the rest is missing, and the picture is darker. The light turns from white to that of
street lamps. All of it is computed on linear light, with a display gamma of 2.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STOPS = 6.5
"""From an overcast day (about 1,000 lux) to a street under lamps (about 10)."""

GAIN_STOPS = 4.0
"""What gain makes up for; exposure time, which would smear what moves, is left as it is."""

LAMPS = (1.0, 0.86, 0.62)
"""Red, green and blue under warm lamps, of what white light would give."""

READ_NOISE = 0.0006
"""Deviation of a pixel that gets no light, of full scale, without gain."""

SHOT_NOISE = 0.004
"""The same of one at full scale: it grows with the root of the light."""

GAMMA = 2.2


def dusk(frame: NDArray[np.uint8], darkness: float, seed: int) -> NDArray[np.uint8]:
    """Return `frame`, `(H, W, 3)` RGB, as it would be at `darkness`: 0 leaves it as it is, 1 is night under lamps.

    The noise depends on `seed` alone: give each frame its own.
    """
    if darkness <= 0.0:
        return frame
    tint = np.asarray(LAMPS, np.float32) ** np.float32(darkness)
    light = (frame.astype(np.float32) / 255) ** GAMMA * tint * np.float32(2.0 ** (-STOPS * darkness))
    gain = np.float32(2.0 ** (GAIN_STOPS * darkness))
    noise = np.random.default_rng(seed).standard_normal(frame.shape, np.float32)
    noisy = gain * (light + noise * np.sqrt(READ_NOISE**2 + SHOT_NOISE**2 * light))
    return np.asarray(np.rint(255 * noisy.clip(0, 1) ** (1 / GAMMA)), np.uint8)
