from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.export import check_parity, export_student, parity_sizes, run_torch
from culling.cloud.model.faster_rcnn.graph import FasterRcnnGraph
from culling.cloud.model.weights import load_weights
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import open_graph
from culling.common.video import BUNDLED_CLIP, read_frames
from support.detectors import picture, small_student

SIZES = ((64, 64), (96, 160), (160, 96), (192, 256))


@dataclass(frozen=True)
class Exported:
    model: FasterRCNN
    data: bytes


@pytest.fixture(scope="module")
def exported(narrow: Path) -> Exported:
    model, _ = load_weights(narrow / "student.safetensors")
    return Exported(model, max((narrow / "models").glob("*.onnx")).read_bytes())


@pytest.mark.parametrize("seed", range(3))
def test_the_static_graph_finds_in_torch_what_torchvision_finds(seed: int) -> None:
    model, frame = small_student(seed), picture(128, 192, seed)
    with torch.inference_mode():
        boxes, scores, labels = (out[0].numpy() for out in FasterRcnnGraph(model)(torch.from_numpy(frame[None])))
    wanted, held = run_torch(model, frame[None])[0], labels >= 0
    assert len(wanted) > 10
    np.testing.assert_allclose(scores[held], wanted.scores, atol=1e-5)
    np.testing.assert_allclose(boxes[held], wanted.boxes, atol=1e-2)
    np.testing.assert_array_equal(labels[held], wanted.labels)


def test_the_exported_graph_is_the_model_on_frames_a_blank_one_and_four_sizes(exported: Exported) -> None:
    real = [frame for _, frame in read_frames(BUNDLED_CLIP, {0, 400})]
    parity = check_parity(exported.model, exported.data, real, SIZES)
    assert parity.frames == 2 * len(SIZES)
    assert parity.matched > 200
    assert parity.unmatched == 0
    assert parity.box_error <= 1e-2
    assert parity.score_error <= 1e-3


def test_a_student_is_compared_at_sizes_that_it_will_run_at() -> None:
    assert parity_sizes(640) == [(352, 640), (288, 384), (256, 320), (480, 480)]
    assert max(max(size) for size in parity_sizes(320)) == 320
    assert parity_sizes(32) == [(64, 64)] * 4


def test_the_graph_of_another_model_is_refused(exported: Exported) -> None:
    with pytest.raises(ModelError, match="graph differs from the model"):
        check_parity(small_student(seed=1), exported.data, [picture(120, 200)], SIZES[:2])


def test_a_graph_with_another_answer_to_a_blank_frame_is_refused(exported: Exported) -> None:
    silent = small_student()
    silent.roi_heads.box_predictor.cls_score.bias.data[0] += 100  # all is background
    with pytest.raises(ModelError, match="on a blank 64x64 frame its best score is"):
        check_parity(silent, exported.data, [], [(64, 64)])


def test_frames_of_a_batch_do_not_touch_each_other(exported: Exported) -> None:
    graph = open_graph(exported.data, provider="cpu", threads=1)
    frames = np.stack([picture(96, 128, seed) for seed in range(3)])
    together, alone = graph.run(frames), [graph.run(frame[None])[0] for frame in frames]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_rows_that_hold_nothing_are_marked(exported: Exported) -> None:
    silent = small_student()
    silent.roi_heads.score_thresh = 0.9
    with torch.inference_mode():
        boxes, scores, labels = FasterRcnnGraph(silent)(torch.from_numpy(picture(64, 64)[None]))
    empty = labels[0] < 0
    assert empty.any()
    assert (labels[0][empty] == -1).all()
    assert (scores[0][empty] == 0).all()
    assert (boxes[0][empty] == 0).all()


def test_the_file_names_its_classes_and_stride_and_keeps_to_one_piece(exported: Exported) -> None:
    proto = onnx.load_model_from_string(exported.data)
    assert {entry.key: entry.value for entry in proto.metadata_props} == {
        "culling.classes": ",".join(CLASSES),
        "culling.stride": "32",
    }
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 18)]
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    graph = open_graph(exported.data, provider="cpu", threads=1)
    assert (graph.info.classes, graph.info.max_detections) == (CLASSES, 100)


def test_the_file_tells_nothing_of_the_machine_that_made_it(exported: Exported) -> None:
    assert b".py" not in exported.data
    assert b"site-packages" not in exported.data


def test_classes_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(ModelError, match="has 6 classes, but 2 were named"):
        export_student(small_student(), ("person", "car"))


def test_what_torch_finds_comes_best_first_and_from_label_zero() -> None:
    found = run_torch(small_student(), picture(64, 96)[None])[0]
    assert isinstance(found, Detections)
    assert (np.diff(found.scores) <= 0).all()
    assert found.labels.min() >= 0
    assert found.labels.max() < len(CLASSES)
