from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.model.coco import COCO_80, COCO_91
from culling.cloud.teacher.layouts import Recognised, default_names, read, recognise
from culling.common.errors import ModelError
from culling.common.frame import Detections

SIZE = (64, 96)
CELLS = 8 * 12 + 4 * 6 + 2 * 3


def floats(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        ({"a": floats(1, CELLS, 85)}, Recognised("yolox", 80)),
        ({"a": floats(1, CELLS, 6)}, Recognised("yolox", 1)),
        ({"a": floats(1, 3 * CELLS, 85)}, Recognised("yolov5", 80)),
        ({"a": floats(1, 84, CELLS)}, Recognised("yolov8", 80)),
        ({"a": floats(1, 6, CELLS)}, Recognised("yolov8", 2)),
        ({"a": floats(1, 84, CELLS + 2)}, None),
        ({"a": floats(1, 300, 6)}, Recognised("end-to-end", 0)),
        ({"b": floats(1, 100, 4), "l": floats(1, 100, 92)}, Recognised("detr", 92)),
        ({"l": floats(1, 300, 80), "b": floats(1, 300, 4)}, Recognised("detr", 80)),
        ({"b": floats(1, 300, 4), "l": floats(1, 200, 80)}, None),
        ({"b": floats(7, 4), "l": np.zeros(7, np.int64), "s": floats(7)}, Recognised("torchvision", 0)),
        ({"l": np.zeros((1, 9), np.int32), "b": floats(1, 9, 4), "s": floats(1, 9)}, Recognised("torchvision", 0)),
        ({"mask": floats(1, 32, 16, 24), "a": floats(1, 84, CELLS)}, Recognised("yolov8", 80)),
        ({"class": floats(1, 1000)}, None),
    ],
)
def test_a_layout_is_recognised_by_its_shapes(outputs: dict[str, Any], wanted: Recognised | None) -> None:
    if wanted is not None:
        assert recognise(outputs, SIZE) == wanted
        return
    with pytest.raises(ModelError, match=r"are of no layout that is known here: set teacher\.layout"):
        recognise(outputs, SIZE)


def test_a_fourth_stride_is_recognised_where_the_input_is_large_enough() -> None:
    cells = sum((128 // stride) ** 2 for stride in (8, 16, 32, 64))
    assert recognise({"a": floats(1, cells, 85)}, (128, 128)) == Recognised("yolox", 80)


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (Recognised("yolox", 80), COCO_80),
        (Recognised("end-to-end", 0), COCO_80),
        (Recognised("detr", 81), COCO_80),
        (Recognised("detr", 91), COCO_91),
        (Recognised("detr", 92), COCO_91),
        (Recognised("torchvision", 0), COCO_91),
    ],
)
def test_numbers_of_classes_that_are_cocos_have_its_names(found: Recognised, names: tuple[str, ...]) -> None:
    assert default_names(found) == names


def test_any_other_number_must_be_named() -> None:
    with pytest.raises(ModelError, match=r"tells 3 classes apart and names none: list them as teacher\.names"):
        default_names(Recognised("yolov8", 3))


BOX = [24.0, 16.0, 56.0, 40.0]
"""x1, y1, x2, y2 of one object, in every test below."""
CENTRE = [40.0, 28.0, 32.0, 24.0]


def one(found: list[Detections]) -> tuple[list[float], float, int]:
    [only] = found
    assert len(only) == 1
    return only.boxes[0].tolist(), float(only.scores[0]), int(only.labels[0])


def test_yolox_counts_from_the_cell_in_strides() -> None:
    raw = floats(1, CELLS, 8)
    row = 8 * 12 + 1 * 6 + 2  # stride 16, second row, third column: its corner is 32, 16
    raw[0, row] = [0.5, 0.75, np.log(2), np.log(1.5), 0.8, 0.0, 0.0, 0.5]
    box, score, label = one(read("yolox", {"a": raw}, SIZE, 3))
    assert (box, label) == (pytest.approx(BOX), 2)
    assert score == pytest.approx(0.4)


def test_yolov5_has_centre_size_objectness_and_classes() -> None:
    raw = floats(1, 3 * CELLS, 8)
    raw[0, 5] = [*CENTRE, 0.8, 0.0, 0.5, 0.0]
    assert one(read("yolov5", {"a": raw}, SIZE, 3)) == (pytest.approx(BOX), pytest.approx(0.4), 1)


def test_yolov8_lies_on_its_side_without_objectness() -> None:
    raw = floats(1, 7, CELLS)
    raw[0, :, 5] = [*CENTRE, 0.0, 0.5, 0.0]
    assert one(read("yolov8", {"a": raw}, SIZE, 3)) == (pytest.approx(BOX), 0.5, 1)


def test_raw_boxes_of_one_object_become_one_and_of_two_classes_stay_two() -> None:
    raw = floats(2, 7, CELLS)
    raw[0, :, 5] = [*CENTRE, 0.3, 0.5, 0.0]
    raw[0, :, 6] = [*CENTRE, 0.0, 0.4, 0.0]
    first, second = read("yolov8", {"a": raw}, SIZE, 3)
    assert (first.labels.tolist(), first.scores.tolist()) == ([1, 0], pytest.approx([0.5, 0.3]))
    assert len(second) == 0


def test_end_to_end_has_corners_score_and_class() -> None:
    raw = floats(1, 300, 6)
    raw[0, 0] = [*BOX, 0.5, 2.0]
    assert one(read("end-to-end", {"a": raw}, SIZE, 3)) == (BOX, 0.5, 2)


def test_detr_has_shares_of_the_input_and_one_class_for_nothing() -> None:
    boxes, logits = floats(1, 5, 4), floats(1, 5, 4)
    boxes[0, 1] = [40 / 96, 28 / 64, 32 / 96, 24 / 64]
    logits[..., 3] = 20
    logits[0, 1] = [0, 0, 10, 10]
    box, score, label = one(read("detr", {"b": boxes, "l": logits}, SIZE, 3))
    assert (box, label) == (pytest.approx(BOX), 2)
    assert score == pytest.approx(0.5, abs=1e-3)


def test_detrs_with_as_many_logits_as_classes_judge_each_class_alone() -> None:
    boxes, logits = floats(1, 5, 4), np.full((1, 5, 3), -20, np.float32)
    boxes[0, 1] = [40 / 96, 28 / 64, 32 / 96, 24 / 64]
    logits[0, 1] = [-20, 0, -20]
    assert one(read("detr", {"b": boxes, "l": logits}, SIZE, 3)) == (pytest.approx(BOX), 0.5, 1)


def test_torchvision_has_whole_numbers_for_labels_and_padding_is_dropped() -> None:
    outputs = {"boxes": np.float32([BOX]), "labels": np.array([2]), "scores": np.float32([0.5])}
    assert one(read("torchvision", outputs, SIZE, 3)) == (BOX, 0.5, 2)
    padded = {"boxes": np.float32([[BOX, [0] * 4]]), "labels": np.array([[2, -1]]), "scores": np.float32([[0.5, 0]])}
    assert one(read("torchvision", padded, SIZE, 3)) == (BOX, 0.5, 2)


@pytest.mark.parametrize(
    ("layout", "outputs"),
    [
        ("yolox", {"a": floats(1, 7, 85)}),
        ("torchvision", {"a": floats(1, 7, 85)}),
        ("detr", {"a": floats(1, 7, 85)}),
        ("detr", {"b": floats(1, 7, 4), "l": floats(1, 7, 20)}),
        ("yolov8", {"a": floats(1, 7, 85), "b": floats(1, 7, 85)}),
    ],
)
def test_outputs_of_another_layout_than_the_one_told_are_refused(layout: Any, outputs: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=rf"teacher\.layout: the outputs .* are not {layout}"):
        read(layout, outputs, SIZE, 3)


def test_a_label_without_a_name_and_what_is_no_number_are_refused() -> None:
    raw = floats(1, 300, 6)
    raw[0, 0] = [*BOX, 0.5, 7.0]
    with pytest.raises(ModelError, match="gave label 7, but 3 names are known"):
        read("end-to-end", {"a": raw}, SIZE, 3)
    raw[0, 0] = [*BOX[:3], np.nan, 0.5, 1]
    with pytest.raises(ModelError, match="not numbers"):
        read("end-to-end", {"a": raw}, SIZE, 3)
