from __future__ import annotations

import pytest
import torch
from torch import nn

from culling.cloud.model.recipe.share import Share


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.frozen = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


@pytest.fixture
def net() -> Net:
    return Net()


def stepped(net: Net, optimizer: torch.optim.Optimizer) -> None:
    """Take a step whose gradients are larger the further back a weight stands."""
    for value in net.parameters():
        value.grad = torch.arange(value.numel(), dtype=torch.float32).view_as(value) + 1
    optimizer.step()


def optimizer(net: Net) -> torch.optim.SGD:
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.1)


def changed(net: Net) -> dict[str, int]:
    """Return how many weights of each tensor differ from an untouched net's."""
    before = dict(Net().named_parameters())
    return {name: int((value != before[name]).sum()) for name, value in net.named_parameters()}


def test_nothing_moves_before_a_share_is_chosen(net: Net) -> None:
    share, descent = Share(net, 0.1), optimizer(net)
    share.start({})
    for _ in range(3):
        stepped(net, descent)
        share.hold()
    assert not any(changed(net).values())


def test_the_weights_of_the_largest_momentum_move_and_no_others(net: Net) -> None:
    share, descent = Share(net, 0.1), optimizer(net)
    share.start({})
    stepped(net, descent)
    share.hold()
    share.choose(descent)
    learning = sum(value.numel() for value in net.parameters() if value.requires_grad)
    assert sum(int(mask.sum()) for mask in share.tensors.values()) == round(0.1 * learning)
    for _ in range(3):
        stepped(net, descent)
        share.hold()
    assert changed(net) == {
        "conv.weight": round(0.1 * learning), "conv.bias": 0, "norm.weight": 0, "norm.bias": 0,
        "frozen.weight": 0, "frozen.bias": 0,
    }  # fmt: skip
    moved = (net.conv.weight != Net().conv.weight).flatten()
    assert moved.nonzero().min() == 216 - round(0.1 * learning), "those at the back"


def test_the_scale_of_a_norm_stays_however_large_its_momentum(net: Net) -> None:
    share, descent = Share(net, 0.99), optimizer(net)
    share.start({})
    stepped(net, descent)
    share.choose(descent)
    assert not share.tensors["norm.weight"].any()
    assert share.tensors["norm.bias"].all()


def test_without_any_momentum_nothing_is_chosen(net: Net) -> None:
    share = Share(net, 0.5)
    share.start({})
    share.choose(optimizer(net))
    assert not any(mask.any() for mask in share.tensors.values())


def test_what_was_chosen_is_gone_on_with(net: Net) -> None:
    share, descent = Share(net, 0.1), optimizer(net)
    share.start({})
    stepped(net, descent)
    share.hold()
    share.choose(descent)
    other = Share(Net(), 0.1)
    other.start({name: mask.clone() for name, mask in share.tensors.items()})
    assert all(torch.equal(mask, share.tensors[name]) for name, mask in other.tensors.items())
