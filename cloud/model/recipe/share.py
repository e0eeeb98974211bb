"""Training that changes a small share of the weights, so that little has to travel to the edge.

After Khani et al., *Real-Time Video Inference on Edge Devices via Adaptive Model Streaming* (ICCV 2021): momentum is
gathered for all that learns, and the weights of which it is largest are those that move. There it comes from the
training before; here the first steps of a round gather it, which move nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Share:
    """Keeps all but a `share` of what learns in `model` as it is now, bit for bit; `start` comes before anything else.

    The scale of a norm is never among them: an export multiplies it into all the weights of its convolution.
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        scales = {id(part.weight) for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}
        self._share = share
        self._learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._fixed = {name for name, value in self._learning.items() if id(value) in scales}
        self._before = {name: value.detach().clone() for name, value in self._learning.items()}
        self.tensors: dict[str, Tensor] = {}

    def start(self, saved: Mapping[str, Tensor]) -> None:
        """Go on with the weights that were chosen until a checkpoint, none of them if it was too early for that."""
        self.tensors = {
            name: saved[name].to(value.device) if name in saved else torch.zeros_like(value, dtype=torch.bool)
            for name, value in self._learning.items()
        }

    @property
    def chosen(self) -> bool:
        """Whether any weight may move by now."""
        return any(bool(mask.any()) for mask in self.tensors.values())

    @torch.no_grad()
    def choose(self, optimizer: torch.optim.Optimizer) -> None:
        """Choose the weights whose momentum is largest."""
        sizes = {
            name: torch.zeros_like(value) if name in self._fixed else _momentum(optimizer, value).abs()
            for name, value in self._learning.items()
        }
        every = torch.cat([size.flatten() for size in sizes.values()])
        wanted = max(1, round(self._share * len(every)))
        least = every.topk(wanted).values[-1]
        self.tensors = {name: (size >= least) & (size > 0) for name, size in sizes.items()}

    @torch.no_grad()
    def hold(self) -> None:
        """Put every weight back that was not chosen."""
        for name, value in self._learning.items():
            value.copy_(torch.where(self.tensors[name], value, self._before[name].to(value.device)))


def _momentum(optimizer: torch.optim.Optimizer, value: Tensor) -> Tensor:
    found = optimizer.state[value].get("momentum_buffer")
    return torch.zeros_like(value) if found is None else found
