from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from culling.cloud.model.quantise import CALIBRATED, calibration_frames, quantise
from culling.common.errors import CameraError, ModelError
from culling.common.frame import iou
from culling.common.graph import open_graph
from culling.common.video import BUNDLED_CLIP
from culling.common.wire.delta import make
from support.detectors import picture

FRAMES = [picture(96, 128, seed) for seed in range(8)]


@pytest.fixture(scope="module")
def plain(narrow: Path) -> bytes:
    return max((narrow / "models").glob("*.onnx")).read_bytes()


@pytest.fixture(scope="module")
def int8(plain: bytes) -> bytes:
    return quantise(plain, FRAMES)


def heavy(model: bytes) -> dict[str, NDArray[np.generic]]:
    """Return the weights of each convolution and of the box head, as they are stored."""
    graph = onnx.load_model_from_string(model).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    nodes = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    return {node.name: numpy_helper.to_array(tensors[made.get(node.input[1], node.input[1])]) for node in nodes}


def test_every_convolution_and_the_box_head_have_weights_of_7_bits(plain: bytes, int8: bytes) -> None:
    assert heavy(int8).keys() == heavy(plain).keys()
    for weights in heavy(int8).values():
        assert weights.dtype == np.int8
        assert abs(weights.astype(int)).max() <= 64
    assert len(int8) < 0.5 * len(plain)


def test_what_makes_and_reads_a_tensor_that_8_bits_round_away_stays_in_floats(plain: bytes) -> None:
    proto = onnx.load_model_from_string(plain)
    shared = next(node.input[1] for node in reversed(proto.graph.node) if node.op_type == "Conv")  # by every level
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == shared)
    wide = numpy_helper.to_array(tensor).copy()
    wide[0] *= 1e4
    tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    made = heavy(quantise(proto.SerializeToString(), FRAMES))
    floats = {name for name, weights in made.items() if weights.dtype == np.float32}
    assert floats == {node.name for node in proto.graph.node if shared in node.input}


def test_tensors_lie_where_they_lay_whatever_their_values_so_that_little_has_to_travel(
    plain: bytes, int8: bytes
) -> None:
    other = quantise(plain, [frame // 3 for frame in FRAMES])
    assert other != int8
    assert len(other) == len(int8)
    assert len(make(int8, other)) < 0.05 * len(int8)


def test_it_finds_about_what_it_found_before(plain: bytes, int8: bytes) -> None:
    before, after = (open_graph(model, provider="cpu", threads=1) for model in (plain, int8))
    assert before.info == after.info
    for frame in FRAMES[:3]:
        (old,), (new,) = before.run(frame[None]), after.run(frame[None])
        best = iou(old.boxes[:10], new.boxes).max(1)
        assert np.median(best) > 0.7


def test_it_takes_other_sizes_and_batches_than_it_was_made_with(int8: bytes) -> None:
    graph = open_graph(int8, provider="cpu", threads=1)
    assert len(graph.run(np.stack([picture(64, 160, seed) for seed in range(2)]))) == 2


def test_what_is_no_student_is_refused() -> None:
    with pytest.raises(ModelError, match="not ONNX"):
        quantise(b"nothing", FRAMES)


def test_ranges_are_taken_from_all_over_a_video() -> None:
    frames = calibration_frames(BUNDLED_CLIP)
    assert len(frames) == CALIBRATED
    assert {frame.shape for frame in frames} == {(480, 640, 3)}


def test_ranges_cannot_be_taken_from_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(CameraError, match=r"clip\.mp4"):
        calibration_frames(tmp_path / "clip.mp4")
