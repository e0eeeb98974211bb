"""Numbered frames of a video file, upright, as labels count them: from 0, in decoding order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from culling.common.errors import CameraError
from culling.common.scaler import upright

BUNDLED_CLIP = Path(__file__).parent / "clip" / "campus.mp4"

FED = 0.6
"""The fraction of a clip that students learn from; what follows is held back for measuring."""


def count_frames(video: Path) -> int:
    """Return how many frames the file holds, counted by its packets: its header may be missing or wrong.

    Raises `CameraError` if it is no video.
    """
    try:
        with av.open(f"file:{video}") as container:
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    except (av.FFmpegError, IndexError) as error:
        raise _unreadable(video, error) from None


def frame_rate(video: Path) -> float:
    """Return the frames per second that the file announces, 25 where it does not.

    Raises `CameraError` if it is no video.
    """
    try:
        with av.open(f"file:{video}") as container:
            return float(container.streams.video[0].average_rate or 25)
    except (av.FFmpegError, IndexError) as error:
        raise _unreadable(video, error) from None


def read_frames(video: Path, wanted: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield number and picture, `(H, W, 3)` RGB, of the frames in `wanted`, in order, without those that do not decode.

    Raises `CameraError` if the file is no video.
    """
    left = set(wanted)
    try:
        with av.open(f"file:{video}") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, picture in enumerate(container.decode(stream)):
                if number in left:
                    left.remove(number)
                    yield number, upright(picture)
                if not left:
                    return
    except (av.FFmpegError, IndexError) as error:
        raise _unreadable(video, error) from None


def _unreadable(video: Path, error: Exception) -> CameraError:
    reason = getattr(error, "strerror", None) or "it has no video stream"
    return CameraError(f"{video}: cannot be read as a video: {reason}")
