from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from culling.cloud.model.coco import COCO_80, COCO_91
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.loading import open_part
from culling.cloud.teacher.onnx import OnnxTeacher, open_onnx, place, run
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError, SettingsError
from culling.common.frame import Detections, iou
from culling.common.video import read_frames
from support.detectors import picture
from support.graphs import answering, changed, echoing

SHARED = Path(__file__).parents[4] / "shared"
CELLS = 8 * 12 + 4 * 6 + 2 * 3
CENTRE = [40.0, 28.0, 32.0, 24.0]


def opened(folder: Path, data: bytes, **more: Any) -> OnnxTeacher:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return open_onnx(TeacherPart(kind="onnx", file=path, **more), CLASSES)


def yolov8(classes: int = 80) -> dict[str, Any]:
    raw = np.zeros((1, 4 + classes, CELLS), np.float32)
    raw[0, :4, 5] = CENTRE
    raw[0, 4 + 2, 5] = 0.9
    return {"found": raw}


def detr(logits: int) -> dict[str, Any]:
    scores = np.full((1, 5, logits), -20, np.float32)
    scores[0, 1, 2] = 5
    boxes = np.zeros((1, 5, 4), np.float32)
    boxes[0, 1] = [40 / 96, 28 / 64, 32 / 96, 24 / 64]
    return {"boxes": boxes, "logits": scores}


def torchvision() -> dict[str, Any]:
    return {"boxes": np.float32([[24, 16, 56, 40]]), "labels": np.array([3]), "scores": np.float32([0.9])}


def end_to_end() -> dict[str, Any]:
    raw = np.zeros((1, 300, 6), np.float32)
    raw[0, 0] = [24, 16, 56, 40, 0.9, 2]
    return {"found": raw}


def yolox() -> dict[str, Any]:
    raw = np.zeros((1, CELLS, 85), np.float32)
    raw[0, 8 * 12 + 6 + 2] = [0.5, 0.75, np.log(2), np.log(1.5), 1.0, 0, 0, 0.9, *[0] * 77]
    return {"found": raw}


def yolov5() -> dict[str, Any]:
    raw = np.zeros((1, 3 * CELLS, 85), np.float32)
    raw[0, 7] = [*CENTRE, 1.0, 0, 0, 0.9, *[0] * 77]
    return {"found": raw}


@pytest.mark.parametrize(
    ("outputs", "layout"),
    [
        (yolox(), "yolox"), (yolov5(), "yolov5"), (yolov8(), "yolov8"), (end_to_end(), "end-to-end"),
        (detr(80), "detr"), (torchvision(), "torchvision"),
    ],
)  # fmt: skip
def test_every_layout_gives_a_car_where_it_is(outputs: dict[str, Any], layout: str, tmp_path: Path) -> None:
    teacher = opened(tmp_path, answering(outputs))
    assert teacher.plan.layout == layout
    [found] = teacher.label([np.zeros((64, 96, 3), np.uint8)])
    assert [teacher.names[label] for label in found.labels] == ["car"]
    assert found.boxes[0].tolist() == pytest.approx([24, 16, 56, 40], abs=0.01)
    [larger] = teacher.label([np.zeros((128, 192, 3), np.uint8)])
    assert larger.boxes[0].tolist() == pytest.approx([48, 32, 112, 80], abs=0.01)


def test_names_come_from_the_settings_then_the_metadata_then_their_number(tmp_path: Path) -> None:
    told = answering(yolov8(3), metadata={"names": "{0: 'cat', 1: 'dog', 2: 'cow'}", "imgsz": "[64, 96]"})
    assert opened(tmp_path, told).names == ("cat", "dog", "cow")
    assert opened(tmp_path, told, names=("x", "y", "z")).names == ("x", "y", "z")
    ours = answering(yolov8(3), metadata={"culling.classes": "cat,dog,cow"})
    assert opened(tmp_path, ours).names == ("cat", "dog", "cow")
    assert opened(tmp_path, answering(yolov8())).names == COCO_80
    assert opened(tmp_path, answering(detr(92))).names[1:] == COCO_91[1:]
    with pytest.raises(ModelError, match=r"model\.onnx: the model tells 3 classes apart and names none"):
        opened(tmp_path, answering(yolov8(3)))


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx: it is made to segment, by its metadata"):
        opened(tmp_path, answering(yolov8(), metadata={"task": "segment"}))


def test_a_graph_that_answers_for_one_picture_is_asked_for_one_at_a_time(tmp_path: Path) -> None:
    free = ("batch", 3, 64, 96)
    assert opened(tmp_path, answering(torchvision(), shape=free)).batch == 1
    wrong = opened(tmp_path, answering(end_to_end(), shape=free))
    with pytest.raises(ModelError, match=r"boxes of 1 pictures for 2: set teacher\.batch = 1"):
        wrong.label([picture(64, 96)] * 2)


def test_metadata_is_never_run(tmp_path: Path) -> None:
    evil = answering(yolov8(), metadata={"names": "__import__('os').system('true')", "imgsz": "9" * 5000})
    assert opened(tmp_path, evil).names == COCO_80


def means(teacher: OnnxTeacher, frame: Any, size: tuple[int, int] = (64, 96)) -> list[float]:
    """Return what the echoing graph was shown: its mean per channel, then its upper left corner."""
    shown, _ = place(frame, size, teacher.plan.fit)
    return run(teacher._session, teacher.plan, shown[None])["found"][0, 0].tolist()  # type: ignore[no-any-return]


def test_pictures_become_numbers_as_the_layout_or_the_settings_have_it(tmp_path: Path) -> None:
    orange = np.full((64, 96, 3), (255, 102, 51), np.uint8)
    told: dict[str, Any] = {"layout": "end-to-end", "names": COCO_80}
    assert means(opened(tmp_path, echoing(), **told), orange)[:3] == pytest.approx([1, 0.4, 0.2], abs=1e-4)
    bgr = opened(tmp_path, echoing(), colours="bgr", pixels="0-255", **told)
    assert means(bgr, orange)[:3] == pytest.approx([51, 102, 255], abs=0.1)
    normal = opened(tmp_path, echoing(), pixels="imagenet", **told)
    expected = [(1 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert means(normal, orange)[:3] == pytest.approx(expected, abs=1e-3)
    whole = opened(tmp_path, echoing(kind=TensorProto.UINT8), **told)
    assert means(whole, orange)[:3] == pytest.approx([255, 102, 51], abs=0.1)


def test_a_frame_is_padded_where_the_family_pads_it(tmp_path: Path) -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    told: dict[str, Any] = {"layout": "end-to-end", "names": COCO_80}
    centred, corner = (means(opened(tmp_path, echoing(), fit=fit, **told), white) for fit in ("centre", "corner"))
    assert centred[3:] == pytest.approx([114 / 255] * 3, abs=1e-4)
    assert corner[3:] == pytest.approx([1.0] * 3)
    assert centred[0] == corner[0] == pytest.approx((2 + 114 / 255) / 3, abs=1e-3)


@pytest.mark.parametrize("fit", ["stretch", "corner", "centre"])
@pytest.mark.parametrize("shape", [(100, 300), (300, 100), (64, 96), (7, 900)])
def test_a_box_comes_back_to_where_it_was(fit: Any, shape: tuple[int, int]) -> None:
    height, width = shape
    _, placed = place(np.zeros((*shape, 3), np.uint8), (64, 96), fit)
    box = np.float32([[width * 0.25, height * 0.25, width * 0.75, height]])
    seen = box * np.float32(placed.ratio * 2) + np.float32(placed.offset * 2)
    assert (seen >= -0.01).all()
    assert (seen <= [96.01, 64.01, 96.01, 64.01]).all()
    found = placed.to_frame(Detections(seen, np.float32([0.5]), np.array([0])), height, width)
    np.testing.assert_allclose(found.boxes, box, rtol=1e-3, atol=1e-3)


def test_what_lies_in_the_padding_is_left_out() -> None:
    _, placed = place(np.zeros((64, 64, 3), np.uint8), (64, 96), "centre")
    found = placed.to_frame(Detections(np.float32([[0, 0, 15, 64]]), np.float32([0.5]), np.array([0])), 64, 64)
    assert len(found) == 0


def test_a_free_size_and_batch_are_used(tmp_path: Path) -> None:
    free = answering(end_to_end(), shape=("batch", 3, "height", "width"))
    teacher = opened(tmp_path, free, short_side=320)
    assert teacher.plan.size == (320, 320)
    assert teacher.at(1.5).plan.size == (480, 480)  # type: ignore[attr-defined]
    assert teacher.batch == 4
    with pytest.raises(SettingsError, match=r"`scale 1\.5` is not for it"):
        opened(tmp_path, answering(end_to_end())).at(1.5)


def test_a_list_of_pictures_is_fed_as_one_without_a_batch(tmp_path: Path) -> None:
    teacher = opened(tmp_path, answering(torchvision(), shape=(3, "height", "width")))
    assert teacher.plan.size is None
    [small, large] = teacher.label([np.zeros((64, 96, 3), np.uint8), np.zeros((100, 200, 3), np.uint8)])
    assert (len(small), len(large)) == (1, 1)


def test_a_second_input_gets_the_pictures_size(tmp_path: Path) -> None:
    assert len(opened(tmp_path, answering(torchvision(), sizes=True)).label([picture(64, 96)])[0]) == 1


def external(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def foreign(model: Any) -> None:
    model.graph.node[0].domain = "com.evil"


def function(model: Any) -> None:
    model.functions.add(name="f", domain="local")


@pytest.mark.parametrize(
    ("change", "said"),
    [(external, "keeps data outside of its file"), (foreign, "foreign domain 'com.evil'"), (function, "functions")],
)
def test_a_graph_that_reaches_out_of_its_file_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"model\.onnx: .*{said}"):
        opened(tmp_path, changed(answering(end_to_end()), change))


def second(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, (1, 3, 4, 4)))


def test_what_takes_no_picture_is_named_with_its_inputs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"its inputs are \['images', 'more'\], expected one that takes pictures"):
        opened(tmp_path, changed(answering(end_to_end()), second))
    with pytest.raises(ModelError, match="has shape"):
        opened(tmp_path, answering(end_to_end(), shape=(1, 4, 64, 96)))
    with pytest.raises(ModelError, match="not ONNX"):
        opened(tmp_path, b"no model")
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read"):
        open_onnx(TeacherPart(kind="onnx", file=tmp_path / "none.onnx"), CLASSES)
    with pytest.raises(SettingsError, match=r"teacher\.file: name the ONNX file"):
        open_onnx(TeacherPart(kind="onnx"), CLASSES)


NANO = SHARED / "weights" / "yolox_nano.onnx"


@pytest.mark.skipif(not NANO.exists(), reason="needs shared/weights/yolox_nano.onnx")
@pytest.mark.parametrize(("camera", "name"), [("campus.avi", "person"), ("parking.mp4", "car")])
def test_yolox_nano_finds_what_our_own_labels_say(camera: str, name: str) -> None:
    from culling.cloud.annotations.lines import read_labels
    from culling.cloud.evaluation.evaluate import select

    video = SHARED / "data" / "cameras" / camera
    labels = select(read_labels(SHARED / "data" / "reference" / "cameras.jsonl"), video, 10_000)
    number = sorted(labels)[len(labels) // 2]
    [(_, frame)] = read_frames(video, {number})
    teacher = open_part(TeacherPart(kind="onnx", file=NANO), CLASSES)
    found, truth = teacher.label([frame])[0].above(0.2), labels[number].detections.above(0.6)
    mine, theirs = (one.boxes[one.labels == CLASSES.index(name)] for one in (found, truth))
    assert len(theirs) > 2
    assert (iou(theirs, mine).max(1) > 0.5).mean() > 0.5
    assert teacher.gflops(480, 640) == pytest.approx(1.05, abs=0.05)


@pytest.mark.skipif(not NANO.exists(), reason="needs shared/weights/yolox_nano.onnx")
def test_yolox_nano_has_cocos_eighty_classes() -> None:
    assert open_onnx(TeacherPart(kind="onnx", file=NANO), CLASSES).names == COCO_80
