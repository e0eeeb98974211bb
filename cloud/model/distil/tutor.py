"""What a teacher has to offer for students to be distilled from it: its features, and its box head on them.

The features of a picture are computed once, while it is labelled; the head is small, and runs as the student trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.distil.features import LEVELS, Features, rounded

NONE = -1

Pyramid = list[Tensor]
"""The levels of one picture, `(1, C, h, w)`, the finest first."""

Judge = Callable[[Sequence[Pyramid], Sequence[tuple[int, int]], Sequence[Tensor]], tuple[Tensor, Tensor]]
"""For the pyramids of pictures, the sizes at which they were computed, and boxes `(n, 4)` in each: probabilities
`(N, 1 + names)` of all boxes, the background first, and box offsets `(N, 1 + names, 4)` as Faster R-CNN codes them."""


@dataclass(frozen=True)
class Taught:
    """What a teacher says of N boxes, by the student's C classes.

    `probabilities` `(N, 1 + C)`, the background first, and `offsets` `(N, 1 + C, 4)`, as Faster R-CNN codes them; of
    classes that are not `known` `(1 + C,)` it has none.
    """

    probabilities: Tensor
    offsets: Tensor
    known: Tensor


@dataclass(frozen=True)
class Head:
    """The part of a teacher that runs while a student trains; `means` are the student's classes that each of its names
    stands for, -1 for none of them: to the student that is background.
    """

    judge: Judge
    means: tuple[int, ...]
    classes: int

    def meaning(self, table: Sequence[int], classes: int) -> Head:
        """Return the same head for a student with so many classes: `table` says which of them each of ours means."""
        return replace(self, means=tuple(NONE if one == NONE else table[one] for one in self.means), classes=classes)

    @torch.no_grad()
    def __call__(
        self, pyramids: Sequence[Pyramid], sizes: Sequence[tuple[int, int]], boxes: Sequence[Tensor]
    ) -> Taught:
        """Return what the teacher says of `boxes` `(n, 4)` xyxy in each picture, in pixels of the size it saw."""
        own, offsets = self.judge(pyramids, sizes, boxes)
        means = torch.tensor([0, *(1 + one for one in self.means)], device=own.device)  # of no class: background
        found = own.new_zeros(len(own), 1 + self.classes).index_add_(1, means, own)
        known = torch.zeros(1 + self.classes, dtype=torch.bool, device=own.device)
        known[means] = True
        known[0] = True
        moves = offsets.new_zeros(len(own), 1 + self.classes, 4)
        for label in set(self.means) - {NONE}:
            rows = (means == 1 + label).nonzero().squeeze(1)
            likeliest = rows[own[:, rows].argmax(1)]  # where several names mean the class
            moves[:, 1 + label] = offsets[torch.arange(len(own), device=own.device), likeliest]
        return Taught(found, moves, known)


@dataclass(frozen=True)
class Tutor:
    """A teacher with features. `identity` is the hash of its weights: a head says nothing of another one's features.

    While `watched` is open, what it yields takes in the features of the pictures of the last call of `label`, by their
    places in it.
    """

    identity: str
    head: Head
    watched: Callable[[], AbstractContextManager[dict[int, Features]]]

    def meaning(self, table: Sequence[int], classes: int) -> Tutor:
        """Return the same for a student with so many classes; see `Head.meaning`."""
        return replace(self, head=self.head.meaning(table, classes))


def faster_rcnn_head(model: FasterRCNN, names: int) -> Head:
    """Return the box head of a Faster R-CNN that finds so many names."""
    heads = model.roi_heads

    def judge(
        pyramids: Sequence[Pyramid], sizes: Sequence[tuple[int, int]], boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        heads.to(boxes[0].device)
        pooled = [
            heads.box_roi_pool({str(at): level for at, level in enumerate(pyramid)}, [mine], [size])
            for pyramid, size, mine in zip(pyramids, sizes, boxes, strict=True)
        ]
        logits, offsets = heads.box_predictor(heads.box_head(torch.cat(pooled)))
        return logits.float().softmax(1), offsets.float().unflatten(1, (-1, 4))

    return Head(judge, tuple(range(names)), names)


@contextmanager
def passes(pyramid: nn.Module, identity: str) -> Iterator[list[list[Features]]]:
    """Yield a list that takes in the features of every picture of each pass of `pyramid`, a part of a detector that is
    given images `(B, 3, H, W)` and gives the levels by name.
    """
    kept: list[list[Features]] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], out: dict[str, Tensor]) -> None:
        levels = [level.float().cpu().numpy() for level in list(out.values())[:LEVELS]]
        size = (given[0].shape[2], given[0].shape[3])
        kept.append([rounded(identity, size, [level[at] for level in levels]) for at in range(len(given[0]))])

    with pyramid.register_forward_hook(keep):
        yield kept


def to_pyramid(features: Features, device: torch.device) -> Pyramid:
    """Return the levels of features as floats on `device`."""
    return [
        torch.from_numpy(level).to(device).float()[None] * torch.from_numpy(step).to(device).view(1, -1, 1, 1)
        for level, step in zip(features.levels, features.steps, strict=True)
    ]
