"""A student in 8 bits, for edges without a GPU: more than twice as fast there, and less than half of the bytes to send.

Weights are scaled by output channel, activations by the ranges that they have on the camera's own frames (static
quantisation); boxes are decoded and suppressed in floats. All channels of a tensor share one range: where some channels
are far wider than others, 8 bits round these away, and what reads or makes such a tensor stays in floats. The first
two convolutions of YOLOX-nano do: else it finds nothing on some cameras. Whether the student is as good as before is
for the round's gate to say, which judges this very graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto, load_model_from_string, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from culling.common.errors import CameraError
from culling.common.graph import check, open_session
from culling.common.scaler import input_size, resize
from culling.common.video import count_frames, read_frames

CALIBRATED = 32
"""Enough frames to take the ranges of activations from."""

OPERATORS = ("Conv", "Gemm")

LEAST_SIGNAL_DB = 20.0
"""Of a tensor's median channel over the noise of rounding: above 21 in ResNet-18, 9 to 14 in YOLOX-nano's stem."""

LOOKED_AT = 4
"""Frames on which channels are compared with each other: they hardly differ from frame to frame."""


class _Frames(CalibrationDataReader):
    def __init__(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        self._left = iter(frames)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        frame = next(self._left, None)
        return None if frame is None else {"frames": frame[None]}


def quantise(model: bytes, frames: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return the student `model`, ONNX, with its convolutions and its box head in 8 bits, but for what they would ruin.

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
            nodes_to_exclude=_ruined(load_model_from_string(model), frames[:LOOKED_AT]),
            per_channel=True,
            # CPUs without VNNI sum 8-bit products in 16 bits, which overflow unless weights have 7 bits.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        data = _of_fixed_length(done.read_bytes())
    check(data)
    return data


def _of_fixed_length(model: bytes) -> bytes:
    """Return a graph whose tensors lie where they lie in the next one, whatever their values are.

    The quantiser writes some as numbers of one byte or two. Where everything behind them has moved, no byte seems
    unchanged, and a delta (`common/wire/delta.py`) is as long as the model.
    """
    proto = load_model_from_string(model)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return bytes(proto.SerializeToString())


def _ruined(proto: ModelProto, frames: Sequence[NDArray[np.uint8]]) -> list[str]:
    """Return the names of the nodes of which 8 bits would round an input or output away."""
    nodes = [node for node in proto.graph.node if node.op_type in OPERATORS]
    given = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    tensors = list(dict.fromkeys(name for node in nodes for name in _around(node) if name not in given))
    proto.graph.output.extend(ValueInfoProto(name=name) for name in tensors)
    session = open_session(proto.SerializeToString(), "cpu")
    looks = [dict(zip(tensors, session.run(tensors, {"frames": frame[None]}), strict=True)) for frame in frames]
    coarse = {name for name in tensors if signal([look[name] for look in looks]) < LEAST_SIGNAL_DB}
    return [node.name for node in nodes if coarse.intersection(_around(node))]


def _around(node: NodeProto) -> tuple[str, str]:
    return node.input[0], node.output[0]


def signal(looks: Sequence[NDArray[np.float32]]) -> float:
    """Return how far the median channel of a tensor, axis 1, stands above what rounding to 8 bits does to it, in dB.

    A channel that never changes carries nothing and is left out; inf where all are so.
    """
    channels = np.concatenate([np.moveaxis(look, 1, 0).reshape(look.shape[1], -1) for look in looks], axis=1)
    alive = channels[channels.var(axis=1) > 0]
    if not len(alive):
        return np.inf
    step = (max(alive.max(), 0.0) - min(alive.min(), 0.0)) / 255  # zero is always one of the 256 values
    noise = np.square(alive - np.round(alive / step) * step).mean(axis=1) + np.finfo(np.float32).tiny
    return float(10 * np.median(np.log10(alive.var(axis=1)) - np.log10(noise)))


def calibration_frames(video: Path) -> list[NDArray[np.uint8]]:
    """Return `CALIBRATED` frames spread over a video, as a student's input. Raises CameraError if it is no video."""
    numbers = np.linspace(0, count_frames(video) - 1, CALIBRATED).astype(int)
    pictures = (frame for _, frame in read_frames(video, set(numbers.tolist())))
    frames = [resize(frame, *input_size(frame.shape[1], frame.shape[0])) for frame in pictures]
    if not frames:
        raise CameraError(f"{video}: there is no picture in it")
    return frames
