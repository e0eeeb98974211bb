"""Rules for boxes that also hold inside a graph: nothing here lets what a picture shows decide a shape."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 16
"""Rounds of suppression; exact unless a chain of boxes that suppress each other is longer, see `suppress`.

No more than 8 were needed so far, on the crowded boxes of untrained students.
"""


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Return `boxes` `(…, 4)` cut to their image, `limits` being its width, height, width, height."""
    return torch.minimum(boxes.clamp(min=0), limits)


def wide(boxes: Tensor, side: float) -> Tensor:
    """Return which `boxes` `(…, 4)` measure at least `side` both ways."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1) >= side


def suppress(boxes: Tensor, wanted: Tensor, threshold: float, rounds: int) -> Tensor:
    """Return which boxes `(…, n, 4)`, best first, greedy non-maximum suppression keeps of those `wanted` `(…, n)`.

    A box is kept if no better kept box overlaps it by more than `threshold`. Starting from all wanted boxes and
    applying that rule `r` times settles every box at the end of a chain of at most `r` overlaps, whichever other boxes
    are kept; so the answer is exact unless a chain is longer than `rounds`. An even `rounds` then leaves a few boxes
    too many, never too few.
    """
    corner = torch.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
    other = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    shared = (other - corner).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    better = torch.ones_like(shared, dtype=torch.bool).triu(1)
    beats = ((shared / (area[..., :, None] + area[..., None, :] - shared) > threshold) & better).float()
    kept = alive = wanted.float()[..., None, :]
    for _ in range(rounds):
        kept = alive * (kept @ beats < 0.5)
    return kept[..., 0, :] > 0.5
