from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.faster_rcnn.loss import _excused, _match, faster_rcnn_loss
from culling.cloud.model.faster_rcnn.network import build
from culling.cloud.model.target import Target
from culling.cloud.weights.classes import CLASSES
from support.detectors import SMALL_STUDENT

BOXES = torch.tensor([[8.0, 8, 40, 56], [60, 20, 90, 50]])


@pytest.fixture
def model() -> FasterRCNN:
    torch.manual_seed(0)
    return build(SMALL_STUDENT).train()


def target(
    boxes: Tensor | None = None,
    weights: Tensor | None = None,
    ignore: Tensor | None = None,
    label: int = 1,
    doubted: Sequence[int] | None = None,
) -> Target:
    """Labels of one class, and what may be of the classes `doubted`: one for each box of `ignore`."""
    boxes = torch.zeros(0, 4) if boxes is None else boxes
    ignore = torch.zeros(0, 4) if ignore is None else ignore
    return Target(
        boxes,
        torch.full((len(boxes),), label, dtype=torch.int64),
        torch.ones(len(boxes)) if weights is None else weights,
        ignore,
        torch.tensor([1] * len(ignore) if doubted is None else doubted, dtype=torch.int64),
    )


def losses(model: FasterRCNN, *targets: Target, seed: int = 1) -> dict[str, float]:
    torch.manual_seed(seed)
    images = torch.rand(len(targets), 3, 64, 96)
    torch.manual_seed(seed)
    return {name: float(value.detach()) for name, value in faster_rcnn_loss(model, images, list(targets)).items()}


def test_the_four_losses_of_an_untrained_detector_are_those_of_guessing(model: FasterRCNN) -> None:
    for parameter in (*model.rpn.head.cls_logits.parameters(), *model.roi_heads.box_predictor.cls_score.parameters()):
        torch.nn.init.zeros_(parameter)
    found = losses(model, target(BOXES), target(BOXES[:1]))
    assert found["rpn_score"] == pytest.approx(math.log(2), rel=1e-4)
    assert found["roi_class"] == pytest.approx(math.log(len(CLASSES) + 1), rel=1e-4)
    assert found["rpn_box"] > 0
    assert found["roi_box"] > 0


def test_a_picture_without_labels_teaches_background_only(model: FasterRCNN) -> None:
    found = losses(model, target())
    assert found["rpn_box"] == found["roi_box"] == 0
    assert found["rpn_score"] > 0
    assert found["roi_class"] > 0


def test_every_trainable_weight_gets_a_finite_gradient(model: FasterRCNN) -> None:
    sum(faster_rcnn_loss(model, torch.rand(2, 3, 64, 96), [target(BOXES), target()]).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_gradients_flow_even_when_there_is_nothing_to_learn_boxes_from(model: FasterRCNN) -> None:
    sum(faster_rcnn_loss(model, torch.rand(1, 3, 64, 64), [target()]).values()).backward()
    assert model.rpn.head.bbox_pred.weight.grad is not None


def test_doubted_labels_weigh_less(model: FasterRCNN) -> None:
    sure = losses(model, target(BOXES, torch.ones(2)))
    doubted = losses(model, target(BOXES, torch.full((2,), 0.5)))
    assert doubted["rpn_box"] == pytest.approx(sure["rpn_box"] / 2, rel=1e-5)
    assert doubted["roi_box"] == pytest.approx(sure["roi_box"] / 2, rel=1e-5)


def test_a_box_takes_the_label_it_overlaps_and_its_weight(model: FasterRCNN) -> None:
    boxes = torch.cat([BOXES, torch.tensor([[0.0, 60, 10, 64]])])
    match, weight = _match(model.roi_heads.proposal_matcher, boxes, target(BOXES, torch.tensor([0.9, 0.4])))
    assert match.tolist() == [0, 1, -1]
    assert weight.tolist() == pytest.approx([0.9, 0.4, 1.0])


def test_background_in_a_doubtful_box_may_be_of_its_class_and_no_other() -> None:
    boxes = torch.tensor([[62.0, 22, 80, 40], [30, 20, 70, 50], [8, 8, 40, 56]])
    labels = torch.tensor([0, 0, 1])
    found = _excused(boxes, labels, target(BOXES[:1], ignore=BOXES[[1, 1, 0]], doubted=[3, 5, 6]), 7)
    assert found.nonzero().tolist() == [[0, 3], [0, 5]], "half outside is background, and what has a label is that"


def test_nothing_is_excused_where_nothing_is_doubtful() -> None:
    assert not _excused(BOXES, torch.zeros(2, dtype=torch.int64), target(), 7).any()


def doubt_gradient(model: FasterRCNN, doubted: Sequence[int]) -> Tensor:
    """Return the gradient of the class scores' bias, `(7,)`, for a picture that shows nothing sure."""
    everything = torch.tensor([[-500.0, -500, 600, 600]]).expand(len(doubted), 4)
    torch.manual_seed(1)
    images = torch.rand(1, 3, 64, 96)
    model.zero_grad()
    faster_rcnn_loss(model, images, [target(ignore=everything, doubted=doubted)])["roi_class"].backward()
    gradient = model.roi_heads.box_predictor.cls_score.bias.grad
    assert gradient is not None
    return gradient


def test_a_doubtful_car_teaches_nothing_about_cars_and_still_that_there_is_no_person(model: FasterRCNN) -> None:
    gradient = doubt_gradient(model, [3])
    assert gradient[3] == 0
    assert all(gradient[label] > 0 for label in (1, 2, 4, 5, 6)), "their scores are pushed down"
    assert gradient[0] < 0


def test_background_does_not_lower_a_class_that_is_spared_and_what_is_another_class_does(model: FasterRCNN) -> None:
    for boxes, falls in ((None, False), (BOXES, True)):
        torch.manual_seed(1)
        images = torch.rand(1, 3, 64, 96)
        model.zero_grad()
        spared = replace(target(boxes), spared=torch.tensor([5]))
        faster_rcnn_loss(model, images, [spared])["roi_class"].backward()
        gradient = model.roi_heads.box_predictor.cls_score.bias.grad
        assert gradient is not None
        assert (gradient[5] > 0) == falls
        assert gradient[3] > 0, "any other class learns that it is background"


def test_a_picture_that_is_doubtful_all_over_teaches_no_anchor(model: FasterRCNN) -> None:
    everything = torch.tensor([[-500.0, -500, 600, 600]])
    found = losses(model, target(ignore=everything))
    assert (found["rpn_score"], found["rpn_box"], found["roi_box"]) == (0, 0, 0)
    assert found["roi_class"] > 0


def test_what_may_be_of_any_class_teaches_nothing(model: FasterRCNN) -> None:
    classes = range(1, len(CLASSES) + 1)
    everything = torch.tensor([[-500.0, -500, 600, 600]]).expand(len(CLASSES), 4)
    found = losses(model, target(ignore=everything, doubted=classes))
    assert found == {"rpn_score": 0, "rpn_box": 0, "roi_class": 0, "roi_box": 0}


def test_a_true_label_in_a_doubtful_box_is_learnt(model: FasterRCNN) -> None:
    sure = losses(model, target(BOXES))
    with_doubt = losses(model, target(BOXES, ignore=BOXES, doubted=[3, 3]))
    assert with_doubt["roi_box"] == pytest.approx(sure["roi_box"], rel=0.2)
    assert with_doubt["roi_class"] > 0


def test_proposals_are_whole_floats_under_autocast(model: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    filter_proposals = model.rpn.filter_proposals

    def spying(boxes: Tensor, objectness: Tensor, *rest: object) -> object:
        seen.extend((boxes.dtype, objectness.dtype))
        return filter_proposals(boxes, objectness, *rest)

    monkeypatch.setattr(model.rpn, "filter_proposals", spying)
    with torch.autocast("cpu", torch.bfloat16):
        losses(model, target(BOXES))
    assert seen == [torch.float32, torch.float32]


def test_targets_move_between_devices_whole() -> None:
    moved = target(BOXES, ignore=BOXES[:1]).to(torch.device("meta"))
    assert {part.device.type for part in vars(moved).values()} == {"meta"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_sure_labels_the_losses_are_torchvisions_own(model: FasterRCNN, seed: int) -> None:
    boxes, labels = torch.tensor([[10.0, 10, 40, 50], [50, 20, 90, 60]]), torch.tensor([1, 3])
    target = Target(boxes, labels, torch.ones(2), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))
    model.train()
    torch.manual_seed(seed)
    ours = faster_rcnn_loss(model, images, [target, target])
    torch.manual_seed(seed)  # both draw the same anchors and proposals
    theirs = model(list(images), [{"boxes": boxes, "labels": labels}] * 2)
    names = {
        "rpn_score": "loss_objectness", "rpn_box": "loss_rpn_box_reg", "roi_class": "loss_classifier",
        "roi_box": "loss_box_reg",
    }  # fmt: skip
    for mine, yours in names.items():
        torch.testing.assert_close(ours[mine], theirs[yours], rtol=1e-4, atol=1e-6)
