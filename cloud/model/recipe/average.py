"""A running average of a detector's weights: better than any one of them while the rate is high."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """The exponential average, by `decay` a step, of what learns in `model`; `start` comes before anything else.

    Early on it forgets faster, by (1 + step) / (10 + step), so that it does not hold on to an untrained start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.tensors: dict[str, Tensor] = {}

    def start(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from a saved average; what that lacks starts at the weights that the model has by now."""
        for name, value in self._learning.items():
            self.tensors[name] = saved.get(name, value).detach().to(value.device).clone()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after `step` steps."""
        keep = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._learning.values()), 1 - keep)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the model in place of its own weights."""
        for name, value in self._learning.items():
            value.copy_(self.tensors[name])
