from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from culling.cloud.bill.count import _blank, _fitted, forward_gflops, look_cost, student_cost, training_gflops
from culling.cloud.model.faster_rcnn.network import freeze
from support.detectors import SMALL_STUDENT, picture, small_student

WIDTH = SMALL_STUDENT.stem_width


def test_the_stem_of_a_student_costs_what_it_costs_by_hand() -> None:
    model = small_student()
    model.backbone.body.conv1 = nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False)
    doubled = small_student()
    doubled.backbone.body.conv1 = nn.Sequential(
        nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False), nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
    )
    # one more 1 x 1 convolution at half the side: 2 x WIDTH x WIDTH operations for each of its pixels
    by_hand = 2 * WIDTH * WIDTH / 4 / 1e9
    assert look_cost(doubled).per_pixel - look_cost(model).per_pixel == pytest.approx(by_hand, rel=1e-6)
    assert look_cost(doubled).fixed == pytest.approx(look_cost(model).fixed)


def test_the_line_goes_through_what_was_counted() -> None:
    cost = _fitted(lambda side: 3.0 + 2.0 * side * side)
    assert (cost.fixed, cost.per_pixel) == pytest.approx((3.0, 2.0))


@pytest.mark.parametrize("size", [(96, 128), (320, 256)])
def test_other_sizes_and_pictures_cost_what_the_line_says(size: tuple[int, int]) -> None:
    model = small_student()
    cost = student_cost(model, 1)
    assert cost.look.gflops(size) == pytest.approx(forward_gflops(model, picture(*size)), rel=0.02)
    freeze(model, 1)
    image = torch.from_numpy(picture(*size)).permute(2, 0, 1)[None] / 255
    assert cost.learn.gflops(size) == pytest.approx(training_gflops(model, image, [_blank()]), rel=0.02)


def test_learning_costs_more_than_looking_and_less_where_more_is_frozen() -> None:
    all_learn, few_learn = (student_cost(small_student(), frozen) for frozen in (0, 4))
    size = (256, 320)
    assert all_learn.look == few_learn.look
    assert all_learn.learn.gflops(size) > few_learn.learn.gflops(size) > all_learn.look.gflops(size)


def test_batches_do_not_matter() -> None:
    model = small_student()
    image = torch.from_numpy(picture(64, 64)).permute(2, 0, 1)[None] / 255
    one = training_gflops(model, image, [_blank()])
    assert training_gflops(model, image.repeat(2, 1, 1, 1), [_blank()] * 2) == pytest.approx(one, rel=0.1)


@pytest.mark.parametrize("known", [False, True])
def test_a_model_that_was_counted_is_as_it_was(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("culling.cloud.bill.count._counted", {})
    if known:
        student_cost(small_student(), 0)
    model = small_student().train()
    freeze(model, 2)
    learns = [parameter.requires_grad for parameter in model.parameters()]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    student_cost(model, 0)
    assert [parameter.requires_grad for parameter in model.parameters()] == learns
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(np.array_equal(one, other.detach()) for one, other in zip(before, model.parameters(), strict=True))
    assert not model.training
