"""Frames of a camera as its lane hands them on."""

from __future__ import annotations

import av
import numpy as np

from culling.edge.camera.camera import Frame


def frame(seq: int = 0, camera: str = "gate") -> Frame:
    """Return a frame of noise, 64 × 48 pixels."""
    noise = np.random.default_rng(seq).integers(0, 255, (48, 64, 3), np.uint8)
    return Frame(camera, seq, seq / 25, 1e9 + seq, 0.0, av.VideoFrame.from_ndarray(noise, format="rgb24"))
