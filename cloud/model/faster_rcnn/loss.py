"""The training loss of a Faster R-CNN whose labels carry scores, and whose doubtful boxes are ignored.

torchvision's own loss knows neither: every label counts the same, and all else is background. Teacher
labels are uncertain, so a positive weighs what its label's score says. An anchor that lies mostly inside a doubtful box
is neither object nor background, since anchors have no class. A proposal there is background to every class but the
doubtful one, as a detection there is in an evaluation: what that class is scored at neither costs nor pays. The same
goes for classes that a target spares: no background lowers them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import box_iou

from culling.cloud.model.family import Pass
from culling.cloud.model.target import Target, inside


def faster_rcnn_loss(model: FasterRCNN, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
    """Return the four Faster R-CNN losses of a batch, `(B, 3, H, W)` float in [0, 1], as scalars by name."""
    return faster_rcnn_pass(model, images, targets).losses


def faster_rcnn_pass(model: FasterRCNN, images: Tensor, targets: list[Target]) -> Pass:
    """Return those losses with what they come from."""
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (model.transform.image_mean, model.transform.image_std))
    features = model.backbone((images - mean) / std)
    sizes = [(images.shape[2], images.shape[3])] * len(images)
    proposals, losses = _rpn(model, ImageList(images, sizes), list(features.values()), targets)
    return _roi(model, features, proposals, sizes, targets, losses)


def _rpn(
    model: FasterRCNN, images: ImageList, features: list[Tensor], targets: list[Target]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    rpn = model.rpn
    objectness, deltas = rpn.head(features)
    anchors = rpn.anchor_generator(images, features)
    per_level = [o[0].numel() for o in objectness]
    objectness, deltas = concat_box_prediction_layers(objectness, deltas)
    # In half precision a box coordinate is off by pixels, and boxes that overlap are no longer told apart.
    decoded = rpn.box_coder.decode(deltas.detach().float(), anchors).view(len(anchors), -1, 4)
    proposals, _ = rpn.filter_proposals(decoded, objectness.detach().float(), images.image_sizes, per_level)
    per_image = zip(anchors, objectness.view(len(anchors), -1), deltas.view(len(anchors), -1, 4), targets, strict=True)
    score_loss, box_loss, count = objectness.sum() * 0, deltas.sum() * 0, 0
    for boxes, scores, offsets, target in per_image:
        match, weight = _match(rpn.proposal_matcher, boxes, target)
        match = torch.where((match == -1) & inside(boxes, target.ignore).any(1), -2, match)
        labels = torch.where(match >= 0, 1.0, match.float() + 1)
        positive, negative = (m.nonzero().squeeze(1) for m in _sample(rpn.fg_bg_sampler, labels))
        if len(positive):
            goal = rpn.box_coder.encode_single(target.boxes[match[positive]], boxes[positive])
            box_loss = box_loss + _smooth_l1(offsets[positive], goal, weight[positive], 1 / 9)
        chosen = torch.cat([positive, negative])
        score_loss = score_loss + F.binary_cross_entropy_with_logits(
            scores[chosen].float(), (labels[chosen] > 0).float(), weight[chosen], reduction="sum"
        )
        count += len(chosen)
    count = max(count, 1)
    return proposals, {"rpn_score": score_loss / count, "rpn_box": box_loss / count}


def _roi(
    model: FasterRCNN,
    features: dict[str, Tensor],
    proposals: list[Tensor],
    sizes: list[tuple[int, int]],
    targets: list[Target],
    losses: dict[str, Tensor],
) -> Pass:
    heads = model.roi_heads
    kept, classes, weights, goals, excused = [], [], [], [], []
    for boxes, target in zip(proposals, targets, strict=True):
        boxes = torch.cat([boxes, target.boxes])
        match, weight = _match(heads.proposal_matcher, boxes, target)
        none = match.new_zeros(len(match))
        found = target.labels[match.clamp(min=0)] if len(target.labels) else none
        labels = torch.where(match >= 0, found, torch.where(match == -1, none, none - 1))
        chosen = torch.cat([m.nonzero().squeeze(1) for m in _sample(heads.fg_bg_sampler, labels)])
        boxes, match = boxes[chosen], match[chosen].clamp(min=0)
        matched = target.boxes[match] if len(target.boxes) else boxes
        kept.append(boxes)
        classes.append(labels[chosen])
        weights.append(weight[chosen])
        excused.append(_excused(boxes, labels[chosen], target, heads.box_predictor.cls_score.out_features))
        goals.append(heads.box_coder.encode_single(matched, boxes))
    pooled = heads.box_head(heads.box_roi_pool(features, kept, sizes))
    logits, offsets = heads.box_predictor(pooled)
    label, weight, goal = torch.cat(classes), torch.cat(weights), torch.cat(goals)
    count = max(len(label), 1)
    # Without its logit a class has no gradient here, neither up nor down, and all others compete as ever.
    judged = logits.float().masked_fill(torch.cat(excused), -torch.inf)
    hard = F.cross_entropy(judged, label, reduction="none") * weight
    row = (label > 0).nonzero().squeeze(1)
    every = offsets.unflatten(1, (-1, 4))
    box_loss = _smooth_l1(every[row, label[row]], goal[row], weight[row], 1 / 9) / count
    losses = losses | {"roi_class": hard.sum() / count, "roi_box": box_loss}
    return Pass(losses, list(features.values()), kept, logits.float(), every.float(), label, goal, weight, hard)


def _sample(sampler: BalancedPositiveNegativeSampler, labels: Tensor) -> tuple[Tensor, Tensor]:
    positive, negative = sampler([labels])
    return positive[0].bool(), negative[0].bool()


def _match(matcher: Matcher, boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Return for each box its label's index (-1 background, -2 between the two) and the weight of its loss."""
    weight = boxes.new_ones(len(boxes))
    if len(target.boxes):
        match = matcher(box_iou(target.boxes, boxes))
        weight = torch.where(match >= 0, target.weights[match.clamp(min=0)], weight)
    else:
        match = torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
    return match, weight


def _excused(boxes: Tensor, labels: Tensor, target: Target, classes: int) -> Tensor:
    """Return `(N, classes)`: which classes a background box may as well be: of a doubtful box there, or spared."""
    found = torch.zeros(len(boxes), classes, dtype=torch.bool, device=boxes.device)
    found[:, target.spared] = (labels == 0)[:, None]
    row, at = (inside(boxes, target.ignore) & (labels == 0)[:, None]).nonzero(as_tuple=True)
    found[row, target.ignore_labels[at]] = True
    return found


def _smooth_l1(found: Tensor, goal: Tensor, weight: Tensor, beta: float) -> Tensor:
    return (F.smooth_l1_loss(found.float(), goal, beta=beta, reduction="none").sum(1) * weight).sum()
