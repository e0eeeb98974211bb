from __future__ import annotations

import torch

from culling.cloud.model.yolox.network import NANO, PRIOR, STRIDES, TINY, Yolox, cells, decode


def test_the_sizes_have_the_parameters_that_the_paper_says() -> None:
    for spec, wanted in ((NANO, 0.91e6), (TINY, 5.06e6)):
        found = sum(parameter.numel() for parameter in Yolox(spec, 80).parameters())
        assert abs(found / wanted - 1) < 0.02


def test_every_cell_of_three_levels_answers() -> None:
    boxes, objects, classes = Yolox(NANO, 4).eval()(torch.zeros(2, 3, 64, 96))
    count = sum((64 // stride) * (96 // stride) for stride in STRIDES)
    assert (boxes.shape, objects.shape, classes.shape) == ((2, count, 4), (2, count, 1), (2, count, 4))
    places, strides = cells(64, 96, torch.device("cpu"))
    assert (len(places), len(strides)) == (count, count)


def test_a_new_class_starts_unlikely() -> None:
    _, objects, classes = Yolox(NANO, 4).eval()(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(objects.sigmoid().mean().item(), PRIOR, atol=0.01, rtol=0)
    torch.testing.assert_close(classes.sigmoid().mean().item(), PRIOR, atol=0.01, rtol=0)


def test_a_cell_tells_centre_and_size_in_strides() -> None:
    places, strides = torch.tensor([[2.0, 1.0]]), torch.tensor([[16.0]])
    found = decode(torch.tensor([[0.5, 0.25, 0.0, 0.0]]), places, strides)
    torch.testing.assert_close(found, torch.tensor([[32.0, 12.0, 48.0, 28.0]]))


def test_a_size_that_is_absurd_stays_finite() -> None:
    places, strides = torch.zeros(1, 2), torch.full((1, 1), 32.0)
    assert torch.isfinite(decode(torch.full((1, 4), 1e4), places, strides)).all()
