from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.evaluation.evaluate import evaluate, frames_of, open_model, score, select, student
from culling.cloud.evaluation.matching import Compared
from culling.cloud.model.weights import save_weights
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import CameraError, InputError, ModelError
from culling.common.frame import Detections
from support import tiny
from support.clips import make_clip, number_of
from support.detectors import small_student
from support.scenes import boxes_at, pycocotools_precision, random_scene

HEIGHT, WIDTH = 96, 128


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "yard.mp4", frames=12, width=WIDTH, height=HEIGHT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "tiny.onnx").write_bytes(tiny.student())
    return tmp_path / "tiny.onnx"


def label(frame: int, found: Detections | None = None, source: str = "cameras/yard.avi") -> Label:
    return Label(source, frame, WIDTH, HEIGHT, found or boxes_at((0, 0, 20, 20, 1, 0)), "labels.jsonl:1")


def own_labels(tmp_path: Path, model: Path, video: Path, frames: tuple[int, ...] = (0, 3, 6, 9)) -> list[Label]:
    """Labels that say of each frame what the model itself finds there."""
    detect, _ = open_model(model)
    chosen = {frame: label(frame) for frame in frames}
    return [replace(row, detections=detect(rgb)) for row, rgb in frames_of(video, chosen)]


def save(tmp_path: Path, labels: list[Label]) -> Path:
    write_labels(tmp_path / "labels.jsonl", labels)
    return tmp_path / "labels.jsonl"


def test_a_model_that_finds_what_is_labelled_is_perfect(tmp_path: Path, model: Path, video: Path) -> None:
    result = evaluate(model, video, save(tmp_path, own_labels(tmp_path, model, video)), min_score=0.0)
    assert (result.ap50, result.ap50_95, result.voc07, result.frames) == (1, 1, 1, 4)
    assert set(result.per_class) <= set(CLASSES)


def test_labels_may_be_in_pixels_of_another_size_than_the_video(tmp_path: Path, model: Path, video: Path) -> None:
    doubled = [
        replace(row, width=2 * WIDTH, height=2 * HEIGHT, detections=replace(found, boxes=2 * found.boxes))
        for row in own_labels(tmp_path, model, video)
        for found in [row.detections]
    ]
    assert evaluate(model, video, save(tmp_path, doubled), min_score=0.0).ap50_95 == 1


def test_the_json_has_the_keys_that_are_promised(tmp_path: Path, model: Path, video: Path) -> None:
    result = evaluate(model, video, save(tmp_path, own_labels(tmp_path, model, video)), min_score=0.0)
    written = msgspec.json.decode(msgspec.json.encode(result))
    assert {"ap50", "ap50_95", "voc07", "per_class"} <= written.keys()
    assert all(row.keys() == {"ap50", "ap50_95", "voc07", "objects"} for row in written["per_class"].values())


def test_unsure_labels_are_ignored_and_unlikely_ones_are_not_there(tmp_path: Path, video: Path) -> None:
    (tmp_path / "one.onnx").write_bytes(tiny.student(classes=("person",)))
    rows = own_labels(tmp_path, tmp_path / "one.onnx", video)

    def with_last_one_sure(others: float) -> Path:
        scores = [np.float32([others] * (len(row.detections) - 1) + [0.9]) for row in rows]
        pairs = zip(rows, scores, strict=True)
        return save(tmp_path, [replace(row, detections=replace(row.detections, scores=own)) for row, own in pairs])

    assert evaluate(tmp_path / "one.onnx", video, with_last_one_sure(0.2)).ap50 == 1
    assert evaluate(tmp_path / "one.onnx", video, with_last_one_sure(0.05)).ap50 < 1


def test_labels_without_a_sure_object_cannot_measure(tmp_path: Path, model: Path, video: Path) -> None:
    faint = [label(frame, boxes_at((0, 0, 9, 9, 0.2, 0))) for frame in (0, 5)]
    with pytest.raises(InputError, match="none of the 2 labelled frames has an object"):
        evaluate(model, video, save(tmp_path, faint))


def test_means_are_over_the_classes_that_occur() -> None:
    truth = boxes_at((0, 0, 9, 9, 1, 0), (20, 20, 40, 40, 1, 2))
    found = boxes_at((0, 0, 9, 9, 0.9, 0), (60, 60, 70, 70, 0.9, 4))
    result = score([Compared(found, truth)])
    assert {name: row.ap50 for name, row in result.per_class.items()} == {"person": 1.0, "car": 0.0}
    assert result.ap50 == 0.5


def test_a_whole_evaluation_equals_pycocotools() -> None:
    rng = np.random.default_rng(11)
    frames = [random_scene(rng) for _ in range(20)]
    result = score(frames, ("a", "b", "c"))
    assert list(score(frames, ("a", "b", "c"), interest=[1]).per_class) == ["b"]
    wanted = [pycocotools_precision(frames, label) for label in range(3)]
    assert result.ap50 == pytest.approx(np.mean([row[0] for row in wanted]))
    assert result.ap50_95 == pytest.approx(np.mean([row[1] for row in wanted]))


def test_fractions_are_of_the_clip_not_of_its_labels_and_halves_do_not_overlap() -> None:
    rows = [label(frame) for frame in range(0, 100, 10)]
    video = Path("yard.mp4")
    head, tail = select(rows, video, 120, 0.0, 0.5), select(rows, video, 120, 0.5, 1.0)
    assert sorted(head) == [0, 10, 20, 30, 40, 50]
    assert sorted(head | tail) == list(range(0, 100, 10))
    assert not head.keys() & tail.keys()
    assert max(head) < min(tail)


def test_only_labels_of_this_video_are_taken_from_a_file_of_many() -> None:
    rows = [label(0), label(5, source="cameras/mall.mp4"), label(7, source="yard")]
    assert sorted(select(rows, Path("/elsewhere/yard.mkv"), 10)) == [0, 7]


def test_labels_of_one_source_are_taken_for_the_video_whatever_its_name() -> None:
    assert sorted(select([label(0), label(5)], Path("cam0-final.mp4"), 10)) == [0, 5]


def test_labels_of_other_videos_only_are_refused() -> None:
    rows = [label(0), label(5, source="cameras/mall.mp4")]
    with pytest.raises(InputError, match=r"labels\.jsonl: labels 2 sources, none of them cam0"):
        select(rows, Path("cam0.mp4"), 10)


def test_one_frame_of_two_sources_of_the_same_name_is_refused_with_both_lines() -> None:
    rows = [label(5), label(6, source="north/yard.mp4"), label(5, source="north/yard.mp4"), label(5, source="c/d.mp4")]
    with pytest.raises(InputError, match=r"frame 5 is labelled for north/yard\.mp4 here and for \S*yard\.avi at "):
        select(rows, Path("yard.mp4"), 10)


def test_a_part_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match=r"no labelled frame lies between 0\.6 and 0\.7"):
        select([label(0), label(9)], Path("yard.mp4"), 10, 0.6, 0.7)


def test_frames_come_with_their_own_labels(video: Path) -> None:
    rows = {frame: label(frame) for frame in (9, 2, 4)}
    assert [(row.frame, number_of(rgb)) for row, rgb in frames_of(video, rows)] == [(2, 2), (4, 4), (9, 9)]


def test_labels_beyond_the_end_are_named(video: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.jsonl:1: .*yard\.mp4 has no frame 99"):
        list(frames_of(video, {99: label(99)}))


@pytest.mark.parametrize("content", [None, "no film"])
def test_a_file_that_is_no_video_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CameraError, match=r"film\.mp4: cannot be read as a video"):
        list(frames_of(path, {0: label(0)}))


@pytest.mark.parametrize(
    ("name", "content"), [("gone.onnx", None), ("text.onnx", b"no model"), ("text.safetensors", b"no model")]
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        open_model(tmp_path / name)


def test_weights_find_what_the_model_they_came_from_finds(tmp_path: Path) -> None:
    model, frame = small_student(), np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    save_weights(tmp_path / "w.safetensors", model, "fp16")
    detect, classes = open_model(tmp_path / "w.safetensors")
    assert classes == CLASSES
    np.testing.assert_allclose(detect(frame).scores[:10], student(model)(frame).scores[:10], atol=0.02)


def test_a_scale_changes_the_input_and_not_the_pixels_that_boxes_are_in() -> None:
    model, sizes = small_student(), []
    model.backbone.register_forward_pre_hook(lambda module, given: sizes.append(tuple(given[0].shape[2:])))
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    full, half = student(model)(frame), student(model, 0.5)(frame)
    assert sizes == [(256, 320), (128, 160)]
    assert full.boxes[:, 2].max() > 200
    assert half.boxes[:, 2].max() > 200
