"""Pictures that a run is not trained on: their loss says when it is done, and which of its weights were best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

GAIN = 0.01
"""A loss counts as lower by this share of the lowest before: less is noise, and would keep a run going for ever."""

Looks = Sequence[tuple[int, float]]
"""The step of each look, in order, and the mean loss of the pictures then."""


def plateau(looks: Looks, patience: int) -> int | None:
    """Return the step of the first look by which no loss had been lower for `patience` steps, None if there is none."""
    since, lowest = 0, float("inf")
    for step, loss in looks:
        if loss < lowest * (1 - GAIN):
            since, lowest = step, loss
        elif step - since >= patience:
            return step
    return None


def best(looks: Looks) -> int:
    """Return the step of the lowest loss, the first of equals; the start only counts as long as there is nothing else.

    Raises ValueError without looks.
    """
    return min(looks, key=lambda look: (look[0] == 0, look[1], look[0]))[0]


class Watch:
    """Asks `loss` how good `model` is, and keeps what learns in it as it was when that was lowest.

    `start` comes before anything else.
    """

    def __init__(self, model: nn.Module, loss: Callable[[], float]) -> None:
        self._learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._loss = loss
        self.tensors: dict[str, Tensor] = {}

    def start(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from the weights that were best until a checkpoint."""
        self.tensors = {name: saved[name].to(value.device) for name, value in self._learning.items() if name in saved}

    def look(self, looks: list[tuple[int, float]], step: int) -> None:
        """Add to `looks` how good the model is after `step` steps."""
        loss = self._loss()
        looks.append((step, loss if math.isfinite(loss) else math.inf))
        if not self.tensors or best(looks) == step:
            self.tensors = {name: value.detach().clone() for name, value in self._learning.items()}

    @torch.no_grad()
    def apply(self) -> None:
        """Put the best weights into the model in place of its last ones."""
        for name, value in self._learning.items():
            value.copy_(self.tensors[name])
