"""Golden frames: a picture that travels with a model, and what the model must find in it wherever it runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from culling.cloud.store.frames import FrameStore
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.common.errors import ProtocolError
from culling.common.graph import Graph, see
from culling.common.scaler import input_size, resize
from culling.common.wire.codec import decode_jpeg, encode_jpeg
from culling.common.wire.manifest import Golden
from culling.common.wire.messages import to_wire

GOLDEN_SIDE = 640
"""The golden frame travels in every manifest, so it is shrunk to this many pixels at most."""

RECENT = 8
"""How many held-out frames are tried, newest first, for one that can be decoded."""


def golden_frame(graph: Graph, image: NDArray[np.uint8], scale: float, long_side: int) -> Golden:
    """Return `image`, shrunk, with what `graph` finds in it at that scale."""
    shrink = min(1.0, GOLDEN_SIDE / max(image.shape[:2]))
    height, width = (max(2, round(side * shrink)) for side in image.shape[:2])
    jpeg = encode_jpeg(resize(image, height, width))
    found = see(graph, decode_jpeg(jpeg), input_size(width, height, scale, long_side))
    return Golden(jpeg=jpeg, detections=to_wire(found))


def newest_picture(store: FrameStore, lifecycle: FrameLifecycle, camera: str) -> NDArray[np.uint8] | None:
    """Return the newest held-out picture of a camera, `(H, W, 3)`; None where there is none that can be used."""
    for frame in lifecycle.newest_held_out(camera, RECENT):
        if (jpeg := store.jpeg(frame)) is None:
            continue
        try:
            return decode_jpeg(jpeg)
        except ProtocolError:  # only its header was checked on arrival
            store.put_aside(frame)
    return None
