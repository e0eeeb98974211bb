from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from culling.cloud.model.coco import COCO_80
from culling.cloud.model.yolox.network import NANO, TINY, Yolox, YoloxSpec
from culling.cloud.model.yolox.read import _in_order, read_yolox, with_classes
from culling.common.errors import ModelError

NAMES = ("person", "bottle", "car")
PUBLISHED = Path(__file__).parents[5] / "shared" / "weights" / "yolox_nano.onnx"
"""The file of its authors, where somebody put it beside the checkout."""


def published(path: Path, spec: YoloxSpec = NANO, classes: int = 3, seed: int = 0) -> Yolox:
    """Write a model's convolutions as its authors' exporter does: in order, under names that say nothing."""
    torch.manual_seed(seed)
    model = Yolox(spec, classes).eval()
    nodes, tensors = [], []
    for number, (_, module) in enumerate(_in_order(model)):
        assert module.bias is not None
        names = [f"{number * 3 + 1000}", f"{number * 3 + 1001}"]
        for name, value in zip(names, (module.weight, module.bias), strict=True):
            tensors.append(numpy_helper.from_array(value.detach().numpy(), name))
        nodes += [
            helper.make_node("Conv", ["images", *names], [f"x{number}"], name=f"Conv_{number}"),
            helper.make_node("Sigmoid", [f"x{number}"], [f"y{number}"]),
        ]
    graph = helper.make_graph(nodes, "published", [], [], tensors)
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return model


@pytest.mark.parametrize("spec", [NANO, TINY])
def test_a_published_file_is_read_by_the_order_of_its_convolutions(spec: YoloxSpec, tmp_path: Path) -> None:
    model = published(tmp_path / "m.onnx", spec)
    back = read_yolox(tmp_path / "m.onnx", NAMES, NAMES)
    assert back.spec == spec
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor)


def test_rows_of_known_classes_are_kept_and_others_start_anew(tmp_path: Path) -> None:
    model = published(tmp_path / "m.onnx")
    back = read_yolox(tmp_path / "m.onnx", ("car", "shark"), NAMES)
    for ours, theirs in zip(back.head.levels, model.head.levels, strict=True):
        torch.testing.assert_close(ours.classes.weight[0], theirs.classes.weight[2])  # type: ignore[union-attr,index]
        assert not torch.isin(ours.classes.weight[1], theirs.classes.weight).any()  # type: ignore[union-attr,index]
    same = with_classes(model, NAMES, NAMES)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in same.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: graph.node.pop(40), "112 convolutions, a YOLOX of this size 113"),
        (lambda graph: graph.ClearField("node"), "no YOLOX of a known size"),
        (lambda graph: graph.initializer.pop(10), "has no weight and bias of its own"),
        (lambda graph: graph.initializer[10].dims.reverse(), "has shape"),
    ],
)
def test_a_file_that_is_another_is_refused_by_its_first_difference(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    published(tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    change(proto.graph)
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=rf"m\.onnx: .*{message}"):
        read_yolox(tmp_path / "m.onnx", NAMES, NAMES)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_a_file_that_is_no_model_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        read_yolox(tmp_path / "m.onnx", NAMES)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read"):
        read_yolox(tmp_path / "none.onnx", NAMES)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs yolox_nano.onnx beside the checkout")
def test_the_published_nano_answers_as_its_own_graph() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 416, 416)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(PUBLISHED, providers=["CPUExecutionProvider"]).run(
        None, {"images": pixels}
    )
    with torch.inference_mode():
        boxes, objects, classes = read_yolox(PUBLISHED, COCO_80)(torch.from_numpy(pixels[:, ::-1].copy()) / 255)
    found = torch.cat([boxes, objects.sigmoid(), classes.sigmoid()], 2).numpy()
    assert np.abs(found - wanted).max() < 1e-4
