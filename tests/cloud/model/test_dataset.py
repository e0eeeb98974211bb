from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.model.dataset import Batcher, Sample, load_samples
from culling.cloud.model.recipe.augment import Augment
from culling.cloud.model.recipe.paste import Paste
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.video import count_frames
from support.clips import make_clip, make_hole, number_of

HEIGHT, WIDTH = 60, 80
ONE_BOX = Detections(np.float32([[10, 15, 50, 45]]), np.float32([0.9]), np.int64([2]))
PLAIN = {"jitter": (1.0, 1.0), "canvases": [(64, 96)]}


def red_block(box: tuple[int, int, int, int] = (10, 15, 50, 45)) -> np.ndarray:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[box[1] : box[3], box[0] : box[2]] = (250, 0, 0)
    return frame


def sample(found: Detections = ONE_BOX, frame: np.ndarray | None = None) -> Sample:
    frame = red_block() if frame is None else frame
    jpeg = simplejpeg.encode_jpeg(frame, quality=95, colorsubsampling="444")
    return Sample(jpeg, frame.shape[1], frame.shape[0], found, "a.jpg")


def detections(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.float32(rows)
    return Detections(table[:, :4], table[:, 4], np.zeros(len(table), np.int64))


def batcher(*samples: Sample, **settings: object) -> Batcher:
    return Batcher(samples, **{"batch": 2, **PLAIN, **settings})  # type: ignore[arg-type]


def red_part(image: torch.Tensor) -> list[int]:
    """The box around what is red."""
    rows, columns = torch.where((image[0] > 0.6) & (image[1] < 0.3))
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize(
    "settings",
    [
        PLAIN,
        {"jitter": (0.5, 0.9)},
        {"canvases": [(32, 32)]},
        {"mosaic": 1.0},
        {"stretch": 0.6},
        {"fill": 1.0, "jitter": (0.8, 1.0), "canvases": [(96, 96)]},
        {"augment": Augment(tilt=1.0, pitch=20)},
    ],
)
def test_boxes_stay_on_their_objects_through_flip_scale_and_place(settings: dict[str, object]) -> None:
    flips = set()
    for step in range(12):
        images, targets = batcher(sample(), batch=1, **settings)(step)
        boxes = targets[0].boxes
        around = [*boxes.amin(0)[:2].tolist(), *boxes.amax(0)[2:].tolist()]
        np.testing.assert_allclose(red_part(images[0]), around, atol=2.5)
        flips.add(round(around[0]))
    assert len(flips) > 1


def test_an_image_that_fills_its_place_leaves_no_grey() -> None:
    white, grey = sample(frame=np.full((HEIGHT, WIDTH, 3), 250, np.uint8)), 0
    for step in range(5):
        fitted, filled = (batcher(white, canvases=[(96, 96)], fill=share)(step)[0] for share in (0.0, 1.0))
        assert filled.min() > 0.9
        grey += int((fitted < 0.5).sum())
    assert grey > 0


def test_a_stretch_changes_the_aspect_and_not_the_area() -> None:
    sides = []
    for step in range(12):
        box = batcher(sample(), batch=1, jitter=(0.6, 0.6), stretch=0.5)(step)[1][0].boxes[0]
        sides.append((box[2:] - box[:2]).tolist())
    ratios, areas = ([f(w, h) for w, h in sides] for f in (lambda w, h: w / h, lambda w, h: w * h))
    assert max(ratios) / min(ratios) > 1.3
    assert max(areas) / min(areas) < 1.25


def test_pasted_objects_are_learnt_too() -> None:
    empty = sample(Detections.empty(), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    make = batcher(empty, batch=1, canvases=[(128, 128)], paste=Paste([sample()], share=1.0, most=1))
    images, (target,) = make(0)
    np.testing.assert_allclose(red_part(images[0]), target.boxes[0], atol=2)
    assert target.labels.tolist() == [3]


def test_a_flip_mirrors_boxes() -> None:
    found, frame = detections((0, 0, 20, 60, 1.0)), red_block((0, 0, 20, 60))
    lefts = {round(float(batcher(sample(found, frame), batch=1)(step)[1][0].boxes[0, 0])) for step in range(30)}
    assert len(lefts) > 2
    for step in range(10):
        images, targets = batcher(sample(found, frame), batch=1)(step)
        np.testing.assert_allclose(red_part(images[0]), targets[0].boxes[0], atol=2)


def test_a_batch_follows_from_seed_step_and_worker_alone() -> None:
    samples = [sample(), sample(frame=red_block((0, 0, 9, 9)))]
    make = batcher(*samples, seed=3, mosaic=0.5, jitter=(0.5, 1.2))
    again = batcher(*samples, seed=3, mosaic=0.5, jitter=(0.5, 1.2))
    make(4), make(5)
    assert torch.equal(make(7)[0], again(7)[0])
    assert not torch.equal(make(7)[0], make(8)[0])
    assert not torch.equal(make(7, rank=0)[0], make(7, rank=1)[0])
    assert not torch.equal(make(7)[0], batcher(*samples, seed=4, mosaic=0.5, jitter=(0.5, 1.2))(7)[0])


def test_all_workers_of_a_step_use_the_same_canvas() -> None:
    make = batcher(sample(), canvases=[(64, 96), (96, 64), (64, 64)])
    shapes = [(make(step, 0)[0].shape, make(step, 1)[0].shape) for step in range(12)]
    assert all(one == other for one, other in shapes)
    assert len({one for one, _ in shapes}) == 3


def test_sure_labels_are_learnt_doubtful_ones_ignored_and_the_rest_is_background() -> None:
    found = detections((0, 0, 20, 20, 0.9), (20, 20, 40, 40, 0.4), (40, 0, 60, 20, 0.3), (40, 40, 60, 58, 0.05))
    target = batcher(sample(found), batch=1)(0)[1][0]
    np.testing.assert_allclose(sorted(target.weights.tolist()), [0.4, 0.9], atol=1e-6)
    assert target.labels.tolist() == [1, 1]
    assert len(target.ignore) == 1


def test_an_object_that_has_two_labels_is_learnt_once_and_the_other_one_is_doubted() -> None:
    twice = Detections(np.float32([[10, 15, 50, 45], [10, 15, 50, 43]]), np.float32([0.6, 0.8]), np.int64([2, 5]))
    _, (target,) = Batcher([sample(twice)], 1, **PLAIN)(0)
    assert target.labels.tolist() == [6]
    assert target.ignore_labels.tolist() == [3]


def test_a_doubtful_label_keeps_its_class() -> None:
    found = Detections(np.float32([[0, 0, 20, 20], [20, 20, 40, 40]]), np.float32([0.9, 0.3]), np.int64([2, 4]))
    target = batcher(sample(found), batch=1)(0)[1][0]
    assert (target.labels.tolist(), target.ignore_labels.tolist()) == ([3], [5])


def test_what_became_too_small_to_see_is_ignored() -> None:
    target = batcher(sample(detections((10, 10, 14, 14, 1.0))), batch=1, jitter=(0.5, 0.5))(0)[1][0]
    assert (len(target.boxes), len(target.ignore)) == (0, 1)


def test_an_object_that_is_mostly_cut_away_is_ignored_and_a_sliver_is_dropped() -> None:
    found, kinds = detections((0, 0, 80, 60, 1.0)), set()
    for step in range(40):
        target = batcher(sample(found), batch=1, jitter=(2.5, 2.5), canvases=[(32, 32)])(step)[1][0]
        kinds.add((len(target.boxes), len(target.ignore)))
        for box in (*target.boxes, *target.ignore):
            assert box.min() >= 0
            assert box.max() <= 32
    assert kinds == {(0, 1)}


def test_samples_are_drawn_as_often_as_told() -> None:
    dark = sample(frame=np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    make = batcher(sample(), dark, probabilities=np.array([0.0, 1.0]))
    assert all(float(make(step)[0][:, 0].max()) < 0.6 for step in range(5))


def label(source: str, frame: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Label:
    return Label(source, frame, *size, ONE_BOX, "labels.jsonl:1")


def write(tmp_path: Path, *labels: Label) -> Path:
    write_labels(tmp_path / "labels.jsonl", list(labels))
    return tmp_path / "labels.jsonl"


def clip(path: Path) -> None:
    make_clip(path, frames=10, width=WIDTH, height=HEIGHT)


def test_photographs_are_found_in_the_folders_given(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a.jpg").write_bytes(sample().jpeg)
    (loaded,) = load_samples([write(tmp_path, label("a.jpg", 0))], [tmp_path / "one", tmp_path / "two"])
    assert (loaded.width, loaded.height, loaded.source) == (WIDTH, HEIGHT, "a.jpg")
    assert loaded.pixels().shape == (3, HEIGHT, WIDTH)


def test_the_labelled_frames_of_a_video_are_the_ones_taken(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    labels = write(tmp_path, *(label("a.mp4", frame) for frame in (7, 2, 5)))
    loaded = load_samples([labels], [tmp_path])
    assert [number_of(sample.pixels().permute(1, 2, 0).numpy()) for sample in loaded] == [2, 5, 7]


def test_a_damaged_frame_costs_its_label_and_no_other(tmp_path: Path) -> None:
    make_hole(make_clip(tmp_path / "whole.ts", frames=60), tmp_path / "a.ts")
    labels = write(tmp_path, *(label("a.ts", frame, (160, 128)) for frame in range(count_frames(tmp_path / "a.ts"))))
    loaded = load_samples([labels], [tmp_path])
    numbers = [number_of(sample.pixels().permute(1, 2, 0).numpy()) for sample in loaded]
    assert 30 < len(numbers) < 60
    assert {0, 59} <= set(numbers)


def test_two_files_that_label_one_picture_are_one_label(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(sample().jpeg)
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for file, left in zip(files, (1, 2), strict=True):
        write_labels(file, [Label("a.jpg", 0, WIDTH, HEIGHT, detections((left, 1, 20, 20, 0.9)), "")])
    (loaded,) = load_samples(files, [tmp_path])
    assert loaded.detections.boxes[:, 0].tolist() == [1, 2]


def test_only_the_first_part_of_a_video_is_learnt_from(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    labels = write(tmp_path, *(label("a.mp4", frame) for frame in (0, 4, 5, 9)))
    assert len(load_samples([labels], [tmp_path], until=lambda name: {"a": 0.5}[name])) == 2


def test_progress_counts_sources(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    (tmp_path / "b.jpg").write_bytes(sample().jpeg)
    steps: list[tuple[int, int]] = []
    load_samples(
        [write(tmp_path, label("a.mp4", 1), label("b.jpg", 0))], [tmp_path], progress=lambda *at: steps.append(at)
    )
    assert steps == [(0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (label("gone.jpg", 0), "image gone.jpg is in none of"),
        (label("text.jpg", 0), "is not a JPEG that decodes"),
        (label("a.jpg", 0, (99, 99)), "is 80x60, the label says 99x99"),
        (label("a.mp4", 3, (99, 99)), "is 80x60, the label says 99x99"),
        (label("a.mp4", 400), "has no frame 400"),
        (label("text.mp4", 0), "cannot be read as a video"),
    ],
)
def test_an_image_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, row: Label, complaint: str) -> None:
    (tmp_path / "a.jpg").write_bytes(sample().jpeg)
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no film")
    clip(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"labels\.jsonl:1: ") as caught:
        load_samples([write(tmp_path, row)], [tmp_path])
    assert complaint in str(caught.value)


def test_a_photograph_that_was_cut_short_is_named_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(sample().jpeg[:-400])
    with pytest.raises(InputError, match=r"^\S+labels\.jsonl:1: \S+a\.jpg is not a JPEG that decodes$"):
        load_samples([write(tmp_path, label("a.jpg", 0))], [tmp_path])


def test_a_video_that_is_left_out_need_not_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(sample().jpeg)
    (tmp_path / "b.mp4").write_text("no video")
    labels = write(tmp_path, label("a.jpg", 0), label("b.mp4", 3))
    assert len(load_samples([labels], [tmp_path], lambda name: 0.0 if name == "b" else 1.0)) == 1


def test_leaving_every_source_out_is_an_error(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="every source was excluded"):
        load_samples([write(tmp_path, label("a.mp4", 3))], [tmp_path], until=lambda name: 0.0)
