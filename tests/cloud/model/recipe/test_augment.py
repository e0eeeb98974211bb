from __future__ import annotations

import numpy as np
import pytest
import torch

from culling.cloud.model.recipe.augment import Augment, area, clipped, recoloured, tilted, worsened
from culling.common.frame import Detections

HEIGHT, WIDTH = 64, 96


def detections(*boxes: tuple[float, float, float, float], score: float = 0.9) -> Detections:
    table = np.float32(boxes).reshape(-1, 4)
    return Detections(table, np.full(len(table), score, np.float32), np.zeros(len(table), np.int64))


def picture(box: tuple[int, int, int, int]) -> torch.Tensor:
    """A grey picture with a bright red box in it."""
    image = torch.full((3, HEIGHT, WIDTH), 0.4)
    image[:, box[1] : box[3], box[0] : box[2]] = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
    return image


def red_part(image: torch.Tensor) -> list[int]:
    rows, columns = torch.where(image[0] - image[1] > 0.4)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize("angles", [(0.8, 0, 0), (-0.8, 0, 0), (0, 0.5, 0), (0, 0, 0.2), (0.6, -0.3, 0.15)])
def test_a_box_stays_on_its_object_when_the_picture_is_tilted(angles: tuple[float, float, float]) -> None:
    box = (52, 12, 70, 30)
    turned, found = tilted(picture(box), detections(box), *angles)
    np.testing.assert_allclose(red_part(turned), found.boxes[0], atol=2.5)


def test_a_pitched_picture_is_lower_and_one_end_of_it_narrower() -> None:
    _, found = tilted(picture((0, 0, 9, 9)), detections((28, 2, 68, 12), (28, 52, 68, 62)), 0.8, 0, 0)
    top, bottom = found.boxes
    assert bottom[3] - top[1] < 0.9 * 60
    assert abs((top[2] - top[0]) - (bottom[2] - bottom[0])) > 5


def test_a_picture_that_is_not_turned_stays_as_it_is() -> None:
    image = picture((10, 10, 30, 30))
    turned, found = tilted(image, detections((10, 10, 30, 30)), 0, 0, 0)
    torch.testing.assert_close(turned, image, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.boxes[0], (10, 10, 30, 30), atol=1e-3)


def test_a_picture_without_boxes_can_be_tilted() -> None:
    _, found = tilted(picture((0, 0, 9, 9)), Detections.empty(), 0.5, 0.1, 0.1)
    assert found.boxes.shape == (0, 4)


def test_what_is_mostly_cut_away_is_doubtful_and_a_sliver_is_gone() -> None:
    found = clipped(detections((0, 0, 10, 10), (-8, 0, 2, 10), (-9.5, 0, 0.5, 10), (-6, 0, 4, 10)), (0, 0, 50, 50))
    np.testing.assert_allclose(found.scores, [0.9, 0.1, 0.9])
    assert found.boxes.min() == 0


def test_areas_are_products_of_sides() -> None:
    assert area(np.float32([[1, 2, 4, 6]])).tolist() == [12]


@pytest.mark.parametrize("change", [recoloured, worsened])
def test_light_and_lens_change_values_but_neither_shape_nor_range(change) -> None:  # type: ignore[no-untyped-def]
    image, seen = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)), []
    for seed in range(20):
        changed = change(image.clone(), np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == torch.float32
        assert 0 <= changed.min() <= changed.max() <= 1
        seen.append(float((changed - image).abs().mean()))
    assert min(seen) > 0.003


def test_dusk_comes_at_times() -> None:
    image = torch.full((3, 8, 8), 0.6)
    means = [float(recoloured(image, np.random.default_rng(seed)).mean()) for seed in range(60)]
    assert 5 < sum(mean < 0.4 for mean in means) < 40


def test_shares_of_nought_change_nothing_and_of_one_everything() -> None:
    image, found = picture((10, 10, 30, 30)), detections((10, 10, 30, 30))
    same, boxes = Augment()(image, found, np.random.default_rng(0))
    assert same is image
    assert boxes is found
    changed, boxes = Augment(1, 1, 1)(image, found, np.random.default_rng(0))
    assert not torch.equal(changed, image)
    assert not np.array_equal(boxes.boxes, found.boxes)


def test_the_same_generator_makes_the_same_change() -> None:
    image, found = picture((10, 10, 30, 30)), detections((10, 10, 30, 30))
    for seed in range(6):
        one, other = (Augment(1, 1, 1)(image, found, np.random.default_rng(seed)) for _ in range(2))
        assert torch.equal(one[0], other[0])
        assert np.array_equal(one[1].boxes, other[1].boxes)
