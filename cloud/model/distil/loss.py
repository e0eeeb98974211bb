"""The losses of a student that is distilled from its teacher, beside those of its labels.

After Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation" (NIPS 2017):

soft      what the teacher's box head says of the student's own proposals, as a cross-entropy in which the background
          counts more, in place of a share of what the labels say
bounded   the distance of a box from its label, where the teacher's box is not clearly further from it
hint      how far the student's pyramid is from the teacher's, through one linear map a level, inside labelled boxes

A picture without features learns from its labels alone. One that is mirrored gets no hints: features of a mirrored
picture are not those of the picture, mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from culling.cloud.model.distil.features import STEPS, Features, unpack
from culling.cloud.model.distil.tutor import Head, Taught, to_pyramid
from culling.cloud.model.family import Pass, family_of
from culling.cloud.model.target import Target
from culling.common.errors import ModelError

BACKGROUND = 1.5
"""What the background counts in the soft loss, any other class being 1, as there."""

SOFT_SHARE = 0.5
"""The share of what a proposal is taught of its class that comes from the teacher, the labels' being the rest."""

BOUNDED, HINT = 0.5, 0.5
"""Weights of the other two losses, as there."""

LOSSES = "chen2017-1"
"""The name of all that is below; another one would repeat the trainings of studies."""

MARGIN = 0.1
"""A box still learns while its squared error, in units of a tenth of its sides, is no better by this much than the
teacher's."""

FITTED = 4
"""Batches by which the maps begin as the best that there are: steps would take longer to find them than a round has."""

RIDGE = 0.1
"""Of a cell's own weight, added for each of a map's numbers, so that few cells give no wild one."""

Batches = Callable[[int, int], tuple[Tensor, list[Target]]]


class Distilled(nn.Module):
    """The losses of a batch for a student that `head` and the `features` of its pictures teach.

    `features` are packed, those of each of the pictures that `batches` draws from, by their numbers; None where there
    are none. The maps of the hints learn with the student; nothing of them is in it. Raises ModelError for a student
    of a family that cannot be distilled.
    """

    def __init__(self, model: nn.Module, head: Head, features: Sequence[bytes | None], batches: Batches) -> None:
        super().__init__()
        family = family_of(model)
        if family.passing is None:
            raise ModelError(cannot(family.name))
        self._passing, self._head, self._features = family.passing, head, features
        self.maps = nn.ModuleList()
        if any(one is not None for one in features):
            self.maps.extend(self._fitted(model, [batches(step, 0) for step in range(FITTED)]))

    def forward(self, model: nn.Module, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses of a batch, scalars by name."""
        passed = self._passing(model, images, targets)
        known = self._known(targets, images.device)
        if not known:
            return passed.losses
        soft, bounded, taught = self._boxes(passed, known)
        count = max(len(passed.labels), 1)
        hard = torch.where(taught, (1 - SOFT_SHARE) * passed.hard, passed.hard).sum() / count
        losses = {
            "roi_class": hard,
            "soft": SOFT_SHARE * soft / count,
            "bounded": BOUNDED * bounded / count,
            "hint": HINT * self._hint(passed.levels, known, images.shape[2:]),
        }
        return passed.losses | losses

    def _known(self, targets: Sequence[Target], device: torch.device) -> list[_Picture]:
        """Return the pictures of a batch that have features."""
        found = []
        for at, target in enumerate(targets):
            packed = self._features[int(target.placed[0, 0])] if len(target.placed) else None
            if packed is not None:
                features = unpack(packed)
                found.append(_Picture(at, target, features, to_pyramid(features, device)))
        return found

    def _boxes(self, passed: Pass, known: Sequence[_Picture]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums of the soft and of the bounded loss, and which proposals `(R,)` the teacher taught."""
        starts = [0]
        for boxes in passed.boxes:
            starts.append(starts[-1] + len(boxes))
        rows, places = [], []
        for one in known:
            shown = one.shows(passed.boxes[one.at]).nonzero().squeeze(1)
            rows.append(starts[one.at] + shown)
            places.append(one.to_teacher(passed.boxes[one.at][shown]))
        row = torch.cat(rows)
        taught = torch.zeros(len(passed.labels), dtype=torch.bool, device=row.device)
        taught[row] = True
        if not len(row):
            return passed.logits.sum() * 0, passed.offsets.sum() * 0, taught
        said = self._head([one.pyramid for one in known], [one.features.size for one in known], places)
        mirrored = torch.cat([row.new_full((len(mine),), one.mirrored) for one, mine in zip(known, rows, strict=True)])
        return soft_loss(passed.logits[row], said).sum(), _bounded(passed, row, said, mirrored.bool()), taught

    def _hint(self, levels: Sequence[Tensor], known: Sequence[_Picture], size: Sequence[int]) -> Tensor:
        """Return how far the maps of the student's levels are from the teacher's: 1 for knowing no more of a channel
        than its mean.
        """
        apart = []
        for number, fitted in enumerate(self.maps):
            mine, other = _cells(levels[number], known, number, size)
            if len(mine):
                apart.append((fitted(mine) - other).square().mean())
        return torch.stack(apart).mean() if apart else levels[0].sum() * 0

    @torch.no_grad()
    def _fitted(self, model: nn.Module, batches: Sequence[tuple[Tensor, list[Target]]]) -> list[nn.Linear]:
        """Return for each level the linear map that comes nearest to the teacher's on some batches."""
        found: list[list[tuple[Tensor, Tensor]]] = []
        device = next(model.parameters()).device
        for images, targets in batches:
            targets = [target.to(device) for target in targets]
            known, levels = self._known(targets, device), self._passing(model, images.to(device), targets).levels
            if known:
                numbers = range(len(known[0].pyramid))
                found.append([_cells(levels[number], known, number, images.shape[2:]) for number in numbers])
        parts = [[torch.cat(each) for each in zip(*level, strict=True)] for level in zip(*found, strict=True)]
        return [_ridge(mine.float(), other) for mine, other in parts]


@dataclass(frozen=True)
class _Picture:
    """A picture of a batch, the image `at` there, with the teacher's features of it."""

    at: int
    target: Target
    features: Features
    pyramid: list[Tensor]

    @property
    def mirrored(self) -> bool:
        return bool(self.target.placed[0, 5])

    def to_picture(self, points: Tensor) -> Tensor:
        """Return points `(…, 2)` of the image as shares of the picture's width and height."""
        place = self.target.placed[0]
        found = (points - place[1:3]) / place[3:5]
        return torch.stack([1 - found[..., 0], found[..., 1]], -1) if self.mirrored else found

    def to_teacher(self, boxes: Tensor) -> Tensor:
        """Return boxes `(n, 4)` of the image in pixels of what the teacher saw."""
        corners = self.to_picture(boxes.view(-1, 2, 2))
        height, width = self.features.size
        both = torch.cat([corners.amin(1), corners.amax(1)], 1)
        return both.clamp(0, 1) * boxes.new_tensor([width, height, width, height])

    def shows(self, boxes: Tensor) -> Tensor:
        """Return which boxes `(n,)` lie in the picture by more than half, rather than on the grey beside it."""
        corners = self.to_picture(boxes.view(-1, 2, 2))
        sides = (corners[:, 1] - corners[:, 0]).abs().prod(1)
        inside = (corners.amax(1).clamp(0, 1) - corners.amin(1).clamp(0, 1)).prod(1)
        return inside > 0.5 * sides


def soft_loss(logits: Tensor, said: Taught) -> Tensor:
    """Return the loss `(R,)` of logits `(R, 1 + classes)` by what the teacher says; nothing is said of classes that it
    does not know.
    """
    weights = torch.ones_like(logits[0])
    weights[0] = BACKGROUND
    likely = logits.masked_fill(~said.known, -torch.inf).log_softmax(1).masked_fill(~said.known, 0)
    return -(weights * said.probabilities * likely).sum(1)


def bounded_loss(found: Tensor, goals: Tensor, teachers: Tensor) -> Tensor:
    """Return the squared distance `(n,)` of offsets `(n, 4)` from their goals, 0 where the teacher's `(n,)` is clearly
    exceeded.
    """
    apart = (found - goals).square().sum(1)
    return apart * (apart.detach() + MARGIN > teachers)


def _bounded(passed: Pass, row: Tensor, said: Taught, mirrored: Tensor) -> Tensor:
    """Return the sum of the bounded loss over the proposals `row` on an object whose class the teacher knows."""
    label = passed.labels[row]
    own = ((label > 0) & said.known[label]).nonzero().squeeze(1)
    label, mine = label[own], row[own]
    goals = passed.goals[mine]
    turned = torch.where(mirrored[own], -1.0, 1.0)[:, None] * goals[:, :1]  # the teacher saw it the right way round
    theirs = (said.offsets[own, label] - torch.cat([turned, goals[:, 1:]], 1)).square().sum(1)
    return (bounded_loss(passed.offsets[mine, label], goals, theirs) * passed.weights[mine]).sum()


def _cells(level: Tensor, known: Sequence[_Picture], number: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the student's vectors `(K, C)` of all cells whose middle lies in a labelled box of a picture that is not
    mirrored, and the teacher's `(K, C')` at the same places, each channel in its standard deviations.
    """
    mine, other = [level.new_zeros(0, level.shape[1])], [level.new_zeros(0, known[0].pyramid[number].shape[1]).float()]
    height, width = level.shape[2:]
    y = (torch.arange(height, device=level.device) + 0.5) * size[0] / height
    x = (torch.arange(width, device=level.device) + 0.5) * size[1] / width
    middles = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(-1, 2)
    for one in known:
        if one.mirrored:
            continue
        boxes = one.target.boxes
        within = ((middles[:, None] >= boxes[None, :, :2]) & (middles[:, None] < boxes[None, :, 2:])).all(2).any(1)
        shares = one.to_picture(middles)
        [chosen] = (within & ((shares >= 0) & (shares < 1)).all(1)).nonzero(as_tuple=True)
        mine.append(level[one.at].flatten(1)[:, chosen].T)
        deviation = STEPS * torch.from_numpy(one.features.steps[number]).to(level.device)
        grid = (2 * shares[chosen] - 1)[None, None]
        sampled = F.grid_sample(one.pyramid[number], grid, mode="bilinear", align_corners=False)
        other.append(sampled[0, :, 0].T / deviation)
    return torch.cat(mine), torch.cat(other)


def _ridge(mine: Tensor, other: Tensor) -> nn.Linear:
    """Return the linear map that brings `mine` `(K, C)` nearest to `other` `(K, C')`, by least squares."""
    fitted = nn.Linear(mine.shape[1], other.shape[1]).to(mine.device)
    fitted.weight.zero_()
    fitted.bias.zero_()
    if len(mine):
        ours, theirs = mine.mean(0), other.mean(0)
        given, wanted = mine - ours, other - theirs
        square = given.T @ given
        square += RIDGE * square.diagonal().mean().clamp(min=1e-6) * torch.eye(len(square), device=square.device)
        fitted.weight.copy_(torch.linalg.solve(square, given.T @ wanted).T)
        fitted.bias.copy_(theirs - fitted.weight @ ours)
    return fitted


def cannot(family: str) -> str:
    """Return in words that students of a family cannot be distilled."""
    return (
        f"round.distil: students of the family {family} cannot be distilled; leave it off, or choose another "
        "student.family, e.g. faster-rcnn-resnet18"
    )
