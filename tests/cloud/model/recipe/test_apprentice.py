from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.family import family_of
from culling.cloud.model.recipe import apprentice
from culling.cloud.model.recipe.apprentice import Apprentice, rounded_layers, rounded_loss
from culling.cloud.model.target import Target
from culling.cloud.model.train import Recipe, train
from culling.cloud.model.weights import load_bundled
from culling.common.video import BUNDLED_CLIP, read_frames
from support.detectors import picture, small_student

Batch = tuple[torch.Tensor, list[Target]]


@pytest.fixture
def batch() -> Batch:
    images = torch.from_numpy(np.stack([picture(64, 96, seed) for seed in (0, 1)])).permute(0, 3, 1, 2) / 255
    target = Target(
        torch.tensor([[8.0, 8.0, 40.0, 48.0]]),
        torch.tensor([1]),
        torch.ones(1),
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
    )
    return images.contiguous(), [target, target]


def model_of(family: str) -> nn.Module:
    return small_student().train() if family == "faster-rcnn" else load_bundled("student", family=family)[0].train()


def every(model: nn.Module) -> list[str]:
    return [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("family", ["faster-rcnn", "yolox"])
def test_steps_too_small_to_matter_cost_what_floats_cost(
    family: str, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(family)
    apart, losses = [], []
    for weights, inputs in ((64, 255), (1 << 22, 1 << 22)):
        monkeypatch.setattr(apprentice, "WEIGHT_STEPS", weights)
        monkeypatch.setattr(apprentice, "INPUT_STEPS", inputs)
        apart.append(Apprentice(model, *batch)(model, *batch)["tutor"].item())
        torch.manual_seed(0)
        losses.append(total(rounded_loss(model, every(model), *batch)).item())
    torch.manual_seed(0)
    floats = total(family_of(model).loss(model, *batch)).item()
    assert apart[1] < 1e-4 < apart[0]
    assert losses[1] == pytest.approx(floats, rel=1e-3)
    assert losses[0] != pytest.approx(floats, rel=1e-3)


@pytest.mark.parametrize("family", ["faster-rcnn", "yolox"])
def test_gradients_pass_the_rounding_and_the_model_stays_in_floats(family: str, batch: Batch) -> None:
    model = model_of(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    total(Apprentice(model, *batch)(model, *batch)).backward()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    learning = [layer.weight for layer in layers if layer.weight.requires_grad]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in learning)
    assert sum(bool(weight.grad.any()) for weight in learning if weight.grad is not None) > len(learning) // 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_a_layer_computes_with_7_bits_of_weights_and_8_of_its_inputs(batch: Batch) -> None:
    model: FasterRCNN = small_student().train()
    seen: dict[str, torch.Tensor] = {}
    layer = model.backbone.body.layer1[0].conv1
    with layer.register_forward_hook(lambda one, given, out: seen.update(given=given[0], weight=one.weight, out=out)):
        rounded_loss(model, every(model), *batch)
    assert len(seen["given"].unique()) <= 256
    assert all(len(channel.unique()) <= 129 for channel in seen["weight"])
    assert len(layer.weight[0].unique()) > 129
    torch.testing.assert_close(seen["out"], nn.functional.conv2d(seen["given"], seen["weight"], padding=1))


def test_training_in_8_bits_lowers_the_loss_in_8_bits_and_goes_on_where_it_was_stopped(
    batch: Batch, tmp_path: Path
) -> None:
    tutor, recipe = small_student(), Recipe(steps=12, lr=0.01, warmup=1)
    torch.manual_seed(0)
    before = total(rounded_loss(small_student().train(), every(tutor), *batch)).item()
    whole, parts, done = small_student(), small_student(), []
    train(whole, lambda step, rank: batch, recipe, tmp_path / "whole", loss=Apprentice(tutor, *batch))
    on_step = lambda run, seconds: done.append(run.step)  # noqa: E731
    train(
        parts,
        lambda step, rank: batch,
        recipe,
        tmp_path / "parts",
        on_step,
        lambda: len(done) >= 5,
        loss=Apprentice(tutor, *batch),
    )
    again = small_student()
    run = train(again, lambda step, rank: batch, recipe, tmp_path / "parts", loss=Apprentice(tutor, *batch))
    assert run.step == 12
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in again.state_dict().items())
    torch.manual_seed(0)
    assert total(rounded_loss(whole.train(), every(whole), *batch)).item() < 0.9 * before


def test_layers_that_8_bits_would_ruin_stay_in_floats_as_they_do_in_the_graph() -> None:
    frames = [frame[:320, :416] for _, frame in read_frames(BUNDLED_CLIP, [0, 200])]
    images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255
    nothing, none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    target = Target(nothing, none, torch.zeros(0), nothing, none)
    yolox, resnet = model_of("yolox"), load_bundled("student")[0].train()
    spared = set(every(yolox)) - set(rounded_layers(yolox, images, [target, target]))
    assert {"trunk.stem", "trunk.stage2.0.0"} <= spared, "the stem's channels lie far apart"
    assert len(spared) < 6
    assert set(rounded_layers(resnet, images, [target, target])) == set(every(resnet))
