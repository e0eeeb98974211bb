"""A student in 8 bits, for edges without a GPU: more than twice as fast there, and less than half of the bytes to send.

Weights are scaled by output channel, activations by the ranges that they have on the camera's own frames (static
quantisation); boxes are decoded and suppressed in floats. Whether the student is as good as before is for the round's
gate to say, which judges this very graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from onnx import load_model_from_string
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from culling.common.errors import CameraError
from culling.common.graph import check
from culling.common.scaler import input_size, resize
from culling.common.video import count_frames, read_frames

CALIBRATED = 32
"""Enough frames to take the ranges of activations from."""

OPERATORS = ("Conv", "Gemm")


class _Frames(CalibrationDataReader):
    def __init__(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        self._left = iter(frames)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        frame = next(self._left, None)
        return None if frame is None else {"frames": frame[None]}


def quantise(model: bytes, frames: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return the student `model`, ONNX, with its convolutions and its box head in 8 bits.

    Ranges are taken from `frames`, at most `CALIBRATED` of them, each `(height, width, 3)` RGB of an input's size.
    Raises ModelError for a graph that is no student.
    """
    check(model)
    proto = load_model_from_string(model)
    # Unmarked, onnxruntime advises a pass of its own, which repeats the export's work and whose result no edge loads.
    add_pre_process_metadata(proto)
    with TemporaryDirectory(prefix="culling-int8-") as folder:
        done = Path(folder) / "int8.onnx"
        quantize_static(
            proto,
            done,
            _Frames(frames[:CALIBRATED]),
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            # CPUs without VNNI sum 8-bit products in 16 bits, which overflow unless weights have 7 bits.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        data = done.read_bytes()
    check(data)
    return data


def calibration_frames(video: Path) -> list[NDArray[np.uint8]]:
    """Return `CALIBRATED` frames spread over a video, as a student's input. Raises CameraError if it is no video."""
    numbers = np.linspace(0, count_frames(video) - 1, CALIBRATED).astype(int)
    pictures = (frame for _, frame in read_frames(video, set(numbers.tolist())))
    frames = [resize(frame, *input_size(frame.shape[1], frame.shape[0])) for frame in pictures]
    if not frames:
        raise CameraError(f"{video}: there is no picture in it")
    return frames
