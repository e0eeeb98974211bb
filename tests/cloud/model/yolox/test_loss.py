from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from culling.cloud.model.target import Target
from culling.cloud.model.yolox.loss import assign, yolox_loss
from culling.cloud.model.yolox.network import Yolox, cells
from support.yolox import SMALL

BOXES = torch.tensor([[8.0, 8, 40, 56], [60, 20, 90, 50]])
SIZE = (64, 96)


@pytest.fixture
def model() -> Yolox:
    torch.manual_seed(0)
    return Yolox(SMALL, 3).train()


def target(boxes: Tensor = BOXES[:0], weight: float = 1.0, ignore: Tensor = BOXES[:0], label: int = 1) -> Target:
    return Target(
        boxes,
        torch.full((len(boxes),), label, dtype=torch.int64),
        torch.full((len(boxes),), weight),
        ignore,
        torch.ones(len(ignore), dtype=torch.int64),
    )


def losses(model: Yolox, *targets: Target) -> dict[str, float]:
    torch.manual_seed(1)
    found = yolox_loss(model, torch.rand(len(targets), 3, *SIZE), list(targets))
    return {name: float(value.detach()) for name, value in found.items()}


def test_a_picture_without_labels_teaches_background_only(model: Yolox) -> None:
    found = losses(model, target())
    assert found["box"] == found["class"] == 0
    assert found["object"] > 0


def test_every_trainable_weight_gets_a_finite_gradient(model: Yolox) -> None:
    sum(yolox_loss(model, torch.rand(2, 3, *SIZE), [target(BOXES), target()]).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_gradients_flow_even_when_there_is_nothing_to_learn_boxes_from(model: Yolox) -> None:
    sum(yolox_loss(model, torch.rand(1, 3, *SIZE), [target()]).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_label_of_half_the_certainty_teaches_half_as_much(model: Yolox) -> None:
    sure, half = losses(model, target(BOXES)), losses(model, target(BOXES, weight=0.5))
    assert half["box"] == pytest.approx(sure["box"] / 2, rel=1e-5)
    assert half["class"] == pytest.approx(sure["class"] / 2, rel=1e-5)
    assert half["object"] < sure["object"]


def test_what_is_doubted_is_no_background(model: Yolox) -> None:
    everywhere = torch.tensor([[-100.0, -100, 200, 200]])
    assert losses(model, target(ignore=everywhere))["object"] == 0
    assert 0 < losses(model, target(ignore=BOXES))["object"] <= losses(model, target())["object"]


def test_what_is_doubted_does_not_unteach_a_label_there(model: Yolox) -> None:
    found = losses(model, target(BOXES, ignore=BOXES))
    assert found["box"] > 0
    assert found["object"] > 0


def test_a_label_that_may_be_of_another_class_does_not_unteach_that_class(model: Yolox) -> None:
    def gradients(*wanted: Target) -> Tensor:
        model.zero_grad()
        torch.manual_seed(1)
        yolox_loss(model, torch.rand(1, 3, *SIZE), list(wanted))["class"].backward()
        return torch.stack([level.classes.bias.grad for level in model.head.levels]).sum(0)  # type: ignore[union-attr]

    assert (gradients(target(BOXES))[1:] > 0).all()
    doubted = replace(target(BOXES, ignore=BOXES + 1), ignore_labels=torch.tensor([2, 2]))
    own, rival, third = gradients(doubted).tolist()
    assert own < 0
    assert rival == 0
    assert third > 0


def test_where_only_the_class_is_doubted_there_is_still_one_object_and_background_around_it(model: Yolox) -> None:
    sure, doubted = losses(model, target(BOXES)), losses(model, target(BOXES, ignore=BOXES + 1))
    assert doubted["object"] == sure["object"]


def test_no_background_is_taught_where_a_spared_class_would_be_found(model: Yolox) -> None:
    every = torch.tensor([1, 2, 3])
    assert losses(model, replace(target(), spared=every))["object"] == 0
    each = [losses(model, replace(target(), spared=one))["object"] for one in every.split(1)]
    assert sum(each) == pytest.approx(2 * losses(model, target())["object"]), "each cell has one class"


def test_what_is_labelled_is_learnt_whatever_is_spared(model: Yolox) -> None:
    spared = replace(target(BOXES), spared=torch.tensor([1, 2, 3]))
    assert losses(model, spared)["box"] == losses(model, target(BOXES))["box"]
    assert losses(model, spared)["object"] > 0


def test_training_on_one_picture_finds_its_objects() -> None:
    torch.manual_seed(0)
    model, image = Yolox(SMALL, 3).train(), torch.rand(1, 3, *SIZE)
    image[0, :, 8:56, 8:40] = 0
    image[0, :, 20:50, 60:90] = 1
    wanted = [Target(BOXES, torch.tensor([1, 3]), torch.ones(2), BOXES[:0], torch.zeros(0, dtype=torch.int64))]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    totals = []
    for _ in range(60):
        total = torch.stack(list(yolox_loss(model, image, wanted).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_each_label_has_a_cell_near_it_and_no_cell_has_two(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([60.0, 36.0])
    boxes = torch.cat([corner, corner + 6 + torch.rand(count, 2, generator=generator) * 22], 1)
    wanted = Target(
        boxes, torch.randint(1, 4, (count,), generator=generator), torch.ones(count), boxes[:0], boxes[:0, 0].long()
    )
    places, strides = cells(*SIZE, torch.device("cpu"))
    centres = (places + 0.5) * strides
    guesses = torch.cat([centres - strides, centres + strides], 1)
    logits = torch.randn(len(centres), 4, generator=generator)
    cell, which = assign(guesses, logits[:, 0], logits[:, 1:], wanted, centres, strides)
    assert len(set(cell.tolist())) == len(cell)
    assert len(cell) >= 1
    if count == 1:
        assert set(which.tolist()) == {0}
    middle = (boxes[which, :2] + boxes[which, 2:]) / 2
    reach = torch.maximum(2.5 * strides[cell], (boxes[which, 2:] - boxes[which, :2]) / 2)
    assert ((centres[cell] - middle).abs() <= reach).all()
