from __future__ import annotations

import torch
from torch import nn

from culling.cloud.model.recipe.average import Average


def model(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.bias.fill_(value)
    return layer


def test_it_follows_what_learns_by_the_decay() -> None:
    layer = model(0.0)
    average = Average(layer, 0.9)
    average.start({})
    nn.init.constant_(layer.weight, 1.0)
    average.update(10_000)
    torch.testing.assert_close(average.tensors["weight"], torch.full((1, 1), 0.1))
    average.update(10_000)
    torch.testing.assert_close(average.tensors["weight"], torch.full((1, 1), 0.19))
    assert layer.weight.item() == 1.0
    average.apply()
    torch.testing.assert_close(layer.weight.data, torch.full((1, 1), 0.19))


def test_it_forgets_an_untrained_start_fast() -> None:
    layer = model(0.0)
    average = Average(layer, 0.9999)
    average.start({})
    nn.init.constant_(layer.weight, 1.0)
    for step in range(1, 31):
        average.update(step)
    assert average.tensors["weight"].item() > 0.99


def test_what_is_frozen_has_no_average_and_what_is_missing_starts_at_the_model() -> None:
    layer = model(3.0)
    layer.bias.requires_grad_(False)
    average = Average(layer, 0.9)
    average.start({"bias": torch.zeros(1)})
    assert list(average.tensors) == ["weight"]
    assert average.tensors["weight"].item() == 3.0
    average.start({"weight": torch.full((1, 1), 5.0)})
    average.apply()
    assert (layer.weight.item(), layer.bias.item()) == (5.0, 3.0)
