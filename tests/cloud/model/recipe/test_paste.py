from __future__ import annotations

import numpy as np
import simplejpeg
import torch

from culling.cloud.model.dataset import Sample
from culling.cloud.model.recipe.paste import CROWDED, Paste
from culling.common.frame import Detections

GREY = 100


def sample(label: int, score: float = 0.9, box: tuple[int, int, int, int] = (20, 10, 50, 50)) -> Sample:
    frame = np.full((60, 80, 3), GREY, np.uint8)
    frame[box[1] : box[3], box[0] : box[2]] = (250, 30, 30)
    found = Detections(np.float32([box]), np.float32([score]), np.int64([label]))
    return Sample(simplejpeg.encode_jpeg(frame, quality=95, colorsubsampling="444"), 80, 60, found, "a.jpg")


def canvas() -> torch.Tensor:
    return torch.full((3, 128, 160), GREY, dtype=torch.uint8)


def test_what_is_pasted_lies_where_its_box_says() -> None:
    paste = Paste([sample(5, 0.8)], share=1.0, most=1)
    for seed in range(20):
        image = canvas()
        found = paste(image, Detections.empty(), np.random.default_rng(seed))
        assert (found.labels.tolist(), found.scores.tolist()) == ([5], [np.float32(0.8)])
        rows, columns = torch.where((image[0] > 190) & (image[1] < 90))
        around = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        np.testing.assert_allclose(around, found.boxes[0], atol=2)


def test_every_class_is_pasted_as_often_as_any_other() -> None:
    paste = Paste([sample(0)] * 50 + [sample(4)], share=1.0, most=1)
    labels = [int(paste(canvas(), Detections.empty(), np.random.default_rng(i)).labels[0]) for i in range(60)]
    assert 15 < labels.count(4) < 45


def test_only_sure_objects_that_are_large_enough_are_copied() -> None:
    paste = Paste([sample(0, 0.5), sample(1, box=(20, 10, 30, 50))], share=1.0)
    assert len(paste(canvas(), Detections.empty(), np.random.default_rng(0))) == 0


def test_nothing_is_pasted_over_what_is_there() -> None:
    there = Detections(np.float32([[0, 0, 160, 128]]), np.float32([1]), np.int64([0]))
    image = canvas()
    assert len(Paste([sample(1)], share=1.0)(image, there, np.random.default_rng(0))) == 1
    assert torch.equal(image, canvas())
    paste = Paste([sample(1)], share=1.0, most=9)
    for seed in range(10):
        boxes = paste(canvas(), Detections.empty(), np.random.default_rng(seed)).boxes
        for i, one in enumerate(boxes):
            for other in boxes[:i]:
                sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
                areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
                assert sides.clip(min=0).prod() <= CROWDED * min(areas) + 1e-3


def test_it_happens_to_a_share_of_canvases() -> None:
    paste = Paste([sample(1)], share=0.3)
    hit = sum(len(paste(canvas(), Detections.empty(), np.random.default_rng(i))) > 0 for i in range(100))
    assert 15 < hit < 45


def test_a_canvas_too_small_for_anything_is_left_alone() -> None:
    image = torch.full((3, 16, 16), GREY, dtype=torch.uint8)
    assert len(Paste([sample(1)], share=1.0)(image, Detections.empty(), np.random.default_rng(0))) == 0


def test_an_object_at_the_border_brings_grey_from_outside() -> None:
    paste = Paste([sample(2, box=(0, 0, 30, 40))], share=1.0, most=1)
    assert len(paste(canvas(), Detections.empty(), np.random.default_rng(3))) == 1
