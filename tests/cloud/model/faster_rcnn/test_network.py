from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.faster_rcnn.network import (
    CAFFE_MEAN,
    STEM_WIDTH,
    STUDENT,
    DetectorSpec,
    build,
    deepen,
    freeze,
    load_resnet18,
    load_resnet50,
    reestimate_statistics,
)
from culling.cloud.weights.classes import CLASSES
from support.detectors import SMALL_STUDENT, small_student

SHALLOW = DetectorSpec(depth=50, fpn_width=16, head_width=32, proposals=20)
DEEP = DetectorSpec(depth=101, fpn_width=16, head_width=32, proposals=20)
PUBLISHED = replace(SMALL_STUDENT, stem_width=STEM_WIDTH)
"""As narrow as the others where it may be, with a trunk that published weights fit."""


def trunk_weights(make: Callable[[], resnet.ResNet], seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    trunk = make()
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Small gains, as in trained residual nets; larger ones make a hundred random layers overflow.
            torch.nn.init.uniform_(module.weight, 0.1, 0.3)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    # Weights files leave the counters out.
    return {k: v for k, v in trunk.state_dict().items() if not k.endswith("num_batches_tracked")}


def trunk_output(model: FasterRCNN, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval().backbone.body(images)["3"]


def test_the_student_is_as_lean_as_promised() -> None:
    assert sum(parameter.numel() for parameter in build(STUDENT).parameters()) <= 16e6


def test_a_detector_tells_its_classes_and_background_apart() -> None:
    model = build(SMALL_STUDENT, ("shark", "coral"))
    assert model.roi_heads.box_predictor.cls_score.out_features == 3
    assert build(SMALL_STUDENT).roi_heads.box_predictor.cls_score.out_features == len(CLASSES) + 1


def test_an_image_is_looked_at_in_the_size_it_has() -> None:
    model, seen = small_student(), []
    model.backbone.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
    with torch.inference_mode():
        found = model([torch.rand(3, 96, 160)])[0]
    assert seen == [(1, 3, 96, 160)]
    assert found["boxes"][:, 2].max() <= 160


def test_batch_norm_statistics_never_move_while_training() -> None:
    model = build(SMALL_STUDENT).train()
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    model.backbone(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert any(parameter.requires_grad for name, parameter in model.named_parameters() if ".bn1." in name)


def test_statistics_are_estimated_anew_from_the_images_and_then_stay() -> None:
    torch.manual_seed(0)
    model = build(SMALL_STUDENT)
    batches = [torch.rand(2, 3, 64, 64) for _ in range(3)]
    seen: list[Tensor] = []
    model.backbone.body.conv1.register_forward_hook(lambda module, given, out: seen.append(out))
    reestimate_statistics(model, batches)
    norm = model.backbone.body.bn1
    torch.testing.assert_close(norm.running_mean, torch.stack([out.mean((0, 2, 3)) for out in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([out.var((0, 2, 3)) for out in seen]).mean(0))
    held = norm.running_mean.clone()
    model.train().backbone(batches[0])
    assert torch.equal(norm.running_mean, held)


@pytest.mark.parametrize(
    ("stages", "learning"),
    [(0, {"layer1", "layer2", "layer3", "layer4"}), (2, {"layer3", "layer4"}), (4, set())],
)
def test_freezing_holds_the_stem_and_the_first_stages(stages: int, learning: set[str]) -> None:
    model = build(SMALL_STUDENT)
    freeze(model, stages)
    body = {name.split(".")[0] for name, parameter in model.backbone.body.named_parameters() if parameter.requires_grad}
    assert body == learning
    assert all(parameter.requires_grad for parameter in model.rpn.parameters())


def test_every_stage_of_a_trunk_is_as_narrow_as_its_stem() -> None:
    body = build(SMALL_STUDENT).backbone.body
    stages = (body.layer1, body.layer2, body.layer3, body.layer4)
    assert [stage[1].conv2.out_channels for stage in stages] == [16, 32, 64, 128]
    assert body.conv1.out_channels == body.layer1[0].conv1.in_channels == 16
    assert body.layer2[0].conv1.stride == (2, 2)


def test_a_student_starts_from_a_resnet18_trunk() -> None:
    weights = trunk_weights(resnet.resnet18, 1)
    model = build(PUBLISHED)
    load_resnet18(model, weights)
    assert torch.equal(model.backbone.body.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])


def test_a_trunk_of_another_depth_does_not_load() -> None:
    weights = trunk_weights(resnet.resnet18, 1)
    del weights["layer4.1.conv2.weight"]
    with pytest.raises(RuntimeError, match="layer4"):
        load_resnet18(build(PUBLISHED), weights)


def test_resnet101_starts_as_exactly_the_resnet50_it_grew_from() -> None:
    weights = trunk_weights(resnet.resnet50, 2)
    shallow, deep = build(SHALLOW), build(DEEP)
    load_resnet50(shallow, weights)
    load_resnet50(deep, weights)
    images = torch.rand(1, 3, 64, 96)
    assert torch.equal(trunk_output(deep, images), trunk_output(shallow, images))
    assert trunk_output(deep, images).abs().max() > 0


def test_a_whole_detector_grows_without_changing_what_it_computes() -> None:
    shallow, deep = build(SHALLOW), build(DEEP)
    load_resnet50(shallow, trunk_weights(resnet.resnet50, 3))
    deep.load_state_dict(deepen(shallow.state_dict(), deep.state_dict()))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(
            shallow.eval().backbone(image).values(), deep.eval().backbone(image).values(), strict=True
        ):
            assert torch.equal(one, other)


def test_the_blocks_that_were_grown_can_learn() -> None:
    deep = build(DEEP)
    load_resnet50(deep, trunk_weights(resnet.resnet50, 4))
    deep.backbone.body(torch.rand(1, 3, 64, 64))["3"].square().sum().backward()
    gradient = deep.backbone.body.layer3[22].bn3.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_caffe_weights_see_blue_first_and_bytes_less_their_mean() -> None:
    weights = trunk_weights(resnet.resnet50, 5)
    model = build(SHALLOW)
    load_resnet50(model, weights)
    image = torch.randint(0, 256, (1, 3, 64, 64)).float()
    as_caffe = image.flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    wanted = torch.nn.functional.conv2d(as_caffe, weights["conv1.weight"], stride=2, padding=3)
    ours = model.backbone.body.conv1(model.transform([image[0] / 255])[0].tensors)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-2)
    assert model.transform.image_mean == list(CAFFE_MEAN)


def test_bottleneck_stages_stride_in_their_first_convolution() -> None:
    body = build(SHALLOW).backbone.body
    for stage in (body.layer2, body.layer3, body.layer4):
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == ((2, 2), (1, 1))
