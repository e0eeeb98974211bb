from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.export import check_parity, run_torch
from culling.cloud.model.faster_rcnn.family import fold_norms
from culling.cloud.model.faster_rcnn.network import STUDENT
from culling.cloud.model.refit import export_proven, outline, refill
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.common.graph import open_graph
from support import tiny
from support.detectors import picture, small_student

SIZES = ((96, 128), (160, 96))


def student(seed: int = 0, classes: tuple[str, ...] = CLASSES) -> FasterRCNN:
    """Return a narrow student that differs from the template's in its weights alone."""
    model = small_student(seed, classes)
    model.rpn._pre_nms_top_n["testing"], model.rpn._post_nms_top_n["testing"] = STUDENT.proposals * 2, STUDENT.proposals
    return model


def trained(seed: int) -> FasterRCNN:
    """Return a student whose norms and biases are as different as training makes them."""
    model = student(seed)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.1, 0.1),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return model


@pytest.fixture(scope="module")
def template(narrow: Path) -> bytes:
    path = max((narrow / "models").glob("*.onnx"))
    return path.read_bytes()


def test_a_model_without_norms_computes_the_same() -> None:
    model, frame = trained(3), picture(96, 128)[None]
    (with_norms,), (without,) = run_torch(model, frame), run_torch(fold_norms(model), frame)
    assert len(with_norms) == len(without) > 0
    assert abs(with_norms.scores - without.scores).max() < 1e-4


def test_folding_leaves_the_model_as_it_was() -> None:
    model = trained(3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_norms(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_refilled_graph_is_the_other_model(template: bytes, seed: int) -> None:
    model = trained(seed)
    data = refill(template, model, CLASSES)
    assert data is not None
    assert check_parity(model, data, [picture(96, 128, seed)], SIZES).unmatched == 0


def test_a_refilled_graph_is_a_template_too(template: bytes) -> None:
    once = refill(template, trained(1), CLASSES)
    assert once is not None
    assert refill(once, trained(2), CLASSES) == refill(template, trained(2), CLASSES)


def test_a_template_without_its_weights_is_small_and_as_good(template: bytes) -> None:
    bare = outline(template, trained(1))
    assert len(bare) < len(template) / 4
    assert refill(bare, trained(2), CLASSES) == refill(template, trained(2), CLASSES)


def test_metadata_and_structure_stay(template: bytes) -> None:
    data = refill(template, trained(1), CLASSES)
    assert data is not None
    assert open_graph(data, provider="cpu", threads=1).info == open_graph(template, provider="cpu", threads=1).info
    nodes = [[node.op_type for node in onnx.load_model_from_string(each).graph.node] for each in (template, data)]
    assert nodes[0] == nodes[1]


def test_another_graph_is_no_template() -> None:
    assert refill(tiny.student(), student(), CLASSES) is None


def test_a_student_of_another_shape_does_not_fit(template: bytes) -> None:
    assert refill(template, student(classes=("person", "car")), ("person", "car")) is None


def test_what_the_template_cannot_become_is_exported_anew_and_proven_again(
    template: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[FasterRCNN] = []
    monkeypatch.setattr(
        "culling.cloud.model.refit.export_refillable", lambda model, _: exported.append(model) or template
    )
    model = trained(1)
    model.rpn._post_nms_top_n["testing"] = 5  # its weights fit, but the template proposes more boxes
    with pytest.raises(ModelError, match="differs from the model"):
        export_proven([tiny.student(), template], model, CLASSES, [picture(96, 128)])
    assert exported == [model]
