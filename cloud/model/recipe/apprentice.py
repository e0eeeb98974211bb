"""The last part of a training in 8 bits, so that a student loses less when it is rounded (`quantise.py`).

After Mishra and Marr, "Apprentice" (ICLR 2018, scheme C): a student that was trained in floats goes on as its own
apprentice. Convolutions and linear layers compute with weights and inputs as they are after rounding, but for those
that 8 bits would ruin, and gradients pass the rounding as if it were not there (Jacob et al., CVPR 2018).
Beside the losses of the labels, its pyramid is held to that of the student as it was, in floats.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from culling.cloud.model.family import family_of
from culling.cloud.model.quantise import LEAST_SIGNAL_DB, signal
from culling.cloud.model.target import Target

WEIGHT_STEPS = 64
"""Steps from zero to the largest weight of an output channel: 7 bits with the sign, as `quantise.py` has them."""

INPUT_STEPS = 255
"""Steps from the least to the largest of all that goes into a layer."""


class Apprentice:
    """The losses of a model in 8 bits, taught by the one that it is made with; each stays in floats itself.

    Which of its layers are rounded is seen on a batch, `images` and `targets`.
    """

    def __init__(self, tutor: nn.Module, images: Tensor, targets: list[Target]) -> None:
        self._tutor = copy.deepcopy(tutor).requires_grad_(False)
        device = next(tutor.parameters()).device  # a round's is on the GPU by now, batches are not
        self._layers = rounded_layers(self._tutor, images.to(device), [target.to(device) for target in targets])

    def __call__(self, model: nn.Module, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses of a batch, scalars by name; `tutor` is how far the pyramid is from the tutor's, as a
        share of the latter's variance.
        """
        self._tutor.to(images.device)
        with torch.no_grad(), _levels(self._tutor) as wanted:
            family_of(self._tutor).loss(self._tutor, images, targets)
        with _levels(model) as found:
            losses = rounded_loss(model, self._layers, images, targets)
        apart = [(mine - other).square().mean() / other.var() for mine, other in zip(found, wanted, strict=True)]
        return losses | {"tutor": torch.stack(apart).mean()}


@torch.no_grad()
def rounded_layers(model: nn.Module, images: Tensor, targets: list[Target]) -> list[str]:
    """Return the names of the layers of which 8 bits ruin neither input nor output: see `quantise.py`."""
    weakest: dict[str, float] = {}

    def keep(name: str, layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        both = min(signal([part.float().cpu().numpy()]) for part in (given[0], out))
        weakest[name] = min(both, weakest.get(name, both))

    with ExitStack() as hooks:
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                hooks.enter_context(layer.register_forward_hook(partial(keep, name)))
        family_of(model).loss(model, images, targets)
    return [name for name, decibels in weakest.items() if decibels >= LEAST_SIGNAL_DB]


def rounded_loss(model: nn.Module, layers: Sequence[str], images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
    """Return the losses of a batch as `model` will have them once those of its layers are rounded."""
    weights = {f"model.{name}.weight": _rounded_weight(model.get_parameter(f"{name}.weight")) for name in layers}
    with ExitStack() as hooks:
        for name in layers:
            layer = model.get_submodule(name)
            hooks.enter_context(layer.register_forward_pre_hook(lambda _, given: (_rounded_input(given[0]),)))
        found: dict[str, Tensor] = functional_call(_Loss(model), weights, (images, targets))
    return found


class _Loss(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        return family_of(self.model).loss(self.model, images, targets)


@contextmanager
def _levels(model: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list that takes in the levels of the model's pyramid while it computes."""
    levels: list[Tensor] = []

    def take(module: nn.Module, given: object, out: dict[str, Tensor] | tuple[Tensor, ...]) -> None:
        levels.extend(level.float() for level in (out.values() if isinstance(out, dict) else out))

    with family_of(model).pyramid(model).register_forward_hook(take):
        yield levels


def _rounded_weight(weight: Tensor) -> Tensor:
    step = weight.detach().abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True) / WEIGHT_STEPS
    return _to_steps(weight, step)


def _rounded_input(given: Tensor) -> Tensor:
    low, high = given.detach().aminmax()
    return _to_steps(given, (high.clamp(min=0) - low.clamp(max=0)) / INPUT_STEPS)


def _to_steps(values: Tensor, step: Tensor) -> Tensor:
    """Return values that are whole steps; their gradients are those of the values themselves."""
    whole = values.detach()
    return values + ((whole / step.clamp(min=torch.finfo(step.dtype).tiny)).round() * step - whole)
