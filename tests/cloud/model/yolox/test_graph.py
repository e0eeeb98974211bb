from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from culling.cloud.model.base import templates
from culling.cloud.model.export import check_parity, export_student, run_torch
from culling.cloud.model.refit import export_refillable, refill
from culling.cloud.model.weights import load_bundled, load_weights
from culling.cloud.model.yolox.graph import FLOOR, MOST, YoloxGraph
from culling.cloud.model.yolox.network import Yolox
from culling.cloud.store.registry import ModelFiles
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.common.graph import open_graph
from culling.common.scaler import resize
from culling.common.video import BUNDLED_CLIP, read_frames
from support.detectors import picture
from support.narrow import yolox_of_two
from support.yolox import small_yolox

KNOWN = ("car", "person")
SIZES = ((192, 256), (288, 384), (160, 320), (256, 256))


@pytest.fixture(scope="module")
def student() -> Yolox:
    model, _ = load_bundled("student", family="yolox")
    assert isinstance(model, Yolox)
    return model


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    return [frame for _, frame in read_frames(BUNDLED_CLIP, {0, 400})]


@pytest.fixture(scope="module")
def two(narrow: Path) -> tuple[Yolox, bytes]:
    """The student of two classes, and its graph, which was traced."""
    folder = yolox_of_two(narrow)
    model, _ = load_weights(folder / "student.safetensors")
    assert isinstance(model, Yolox)
    return model, max((folder / "models").glob("*.onnx")).read_bytes()


@pytest.fixture(scope="module")
def exported(two: tuple[Yolox, bytes]) -> bytes:
    return two[1]


def test_the_static_graph_finds_what_the_model_finds(student: Yolox, frames: list[NDArray[np.uint8]]) -> None:
    frame = resize(frames[1], 288, 384)
    with torch.inference_mode():
        boxes, scores, labels = (out[0].numpy() for out in YoloxGraph(student)(torch.from_numpy(frame[None])))
    (wanted,), held = run_torch(student, frame[None]), labels >= 0
    assert len(wanted) > 5
    np.testing.assert_allclose(scores[held], wanted.scores, atol=1e-5)
    np.testing.assert_allclose(boxes[held], wanted.boxes, atol=1e-2)
    np.testing.assert_array_equal(labels[held], wanted.labels)


def test_the_exported_graph_is_the_model_on_frames_a_blank_one_and_four_sizes(
    two: tuple[Yolox, bytes], frames: list[NDArray[np.uint8]]
) -> None:
    parity = check_parity(*two, frames, SIZES)
    assert parity.frames == 2 * len(SIZES)
    assert parity.matched > 50
    assert parity.unmatched == 0


@pytest.mark.soak
def test_the_student_that_comes_along_is_traced_too(student: Yolox, frames: list[NDArray[np.uint8]]) -> None:
    assert check_parity(student, export_refillable(student, CLASSES), frames, SIZES).unmatched == 0


def test_a_graph_is_refilled_with_the_weights_of_another_student(
    two: tuple[Yolox, bytes], frames: list[NDArray[np.uint8]]
) -> None:
    student, exported = two
    other = copy.deepcopy(student)
    for parameter in other.parameters():
        parameter.data *= 1.02
    data = refill(exported, other, KNOWN)
    assert data is not None
    assert check_parity(other, data, frames, SIZES[:2]).unmatched == 0


def test_the_graph_that_comes_along_fits_the_student_that_does(
    student: Yolox, frames: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    fitting = [refill(template, student, CLASSES) for template in templates(tmp_path, ModelFiles(tmp_path))]
    (data,) = [each for each in fitting if each is not None]
    assert check_parity(student, data, frames, SIZES[:1]).unmatched == 0


def test_a_graph_keeps_the_one_contract_of_students(exported: bytes) -> None:
    graph = open_graph(exported, provider="cpu")
    assert graph.info.classes == KNOWN
    assert graph.info.max_detections == MOST
    for batch in (1, 3):
        for found in graph.run(np.stack([picture(96, 128, seed) for seed in range(batch)])):
            assert (np.diff(found.scores) <= 0).all()
            assert (found.scores > FLOOR).all()
            assert (found.boxes >= 0).all()
            assert (found.boxes <= (128, 96, 128, 96)).all()


def test_an_input_with_fewer_pairs_than_are_tried_answers_too() -> None:
    model = small_yolox(classes=1)
    boxes, scores, labels = YoloxGraph(model)(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert boxes.shape == (1, MOST, 4)
    assert torch.isfinite(boxes).all()
    assert ((labels == -1) == (scores == 0)).all()


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ModelError, match="has 3 classes, but 6 were named"):
        export_student(small_yolox(classes=3), CLASSES)
