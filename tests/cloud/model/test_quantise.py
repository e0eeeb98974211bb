from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from culling.cloud.model.quantise import CALIBRATED, calibration_frames, quantise
from culling.common.errors import CameraError, ModelError
from culling.common.frame import iou
from culling.common.graph import open_graph
from culling.common.video import BUNDLED_CLIP
from support.detectors import picture

FRAMES = [picture(96, 128, seed) for seed in range(8)]


@pytest.fixture(scope="module")
def plain(narrow: Path) -> bytes:
    return max((narrow / "models").glob("*.onnx")).read_bytes()


@pytest.fixture(scope="module")
def int8(plain: bytes) -> bytes:
    return quantise(plain, FRAMES)


def test_every_convolution_and_the_box_head_have_weights_of_7_bits(plain: bytes, int8: bytes) -> None:
    graph = onnx.load_model_from_string(int8).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    heavy = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(heavy) == sum(node.op_type in ("Conv", "Gemm") for node in onnx.load_model_from_string(plain).graph.node)
    for node in heavy:
        weights = numpy_helper.to_array(tensors[made[node.input[1]].input[0]])
        assert weights.dtype == np.int8
        assert abs(weights.astype(int)).max() <= 64
    assert len(int8) < 0.5 * len(plain)


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
