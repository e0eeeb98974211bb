"""`culling bench student`: the exported student, against torchvision's own export of its stock detector."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import torch
import typer
from numpy.typing import NDArray
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from culling.cloud.bench.material import Video, choose_provider, student_inputs
from culling.cloud.model.export import export_student
from culling.cloud.model.weights import load_bundled
from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, RoundCount, at_least
from culling.common.errors import InputError
from culling.common.graph import PROVIDERS, Provider
from culling.common.video import BUNDLED_CLIP

WARM = 2
"""Frames that are not timed: the first of a shape allocate what the others use."""
STOCK_CLASSES = 91
"""The classes of torchvision's detectors, background included."""


def student_command(
    video: Video = BUNDLED_CLIP,
    model: Annotated[
        Path | None, typer.Option(help="student as ONNX", show_default="the bundled one, exported first")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="frames a side and round")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="threads of one operator; 0: as onnxruntime chooses")] = 0,
    rounds: RoundCount = 5,
    as_json: Json = False,
) -> None:
    """Frames/s of the exported student, against torchvision's own export of a stock Faster R-CNN with the same trunk.

    Stock means ResNet-18-FPN with every default, dynamo=False. By default it enlarges its input to a short side of 800,
    so it is measured a second time with the input's size kept.
    """
    pictures = student_inputs(video, frames)
    height, width = pictures[0].shape[:2]
    data = export_student(*load_bundled("student")) if model is None else _read(model)
    stocks = [export_stock(height, width), export_stock(height, width, min_size=height, max_size=width)]
    unit = "frames/s"
    provider = choose_provider()
    ours = speed(data, "frames", [picture[None] for picture in pictures], provider, threads)
    floats = [np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / 255 for picture in pictures]
    student, *others = bench.in_turn(rounds, ours, *(speed(one, "image", floats, provider, threads) for one in stocks))
    mine = Measured(f"the exported student on {width} x {height}", unit, student)
    names = ("stock, every default", "stock, size kept")
    comparisons = tuple(
        Comparison(name, mine, Measured(f"torchvision's export, {name}", unit, other), at_least(3.0))
        for name, other in zip(names, others, strict=True)
    )
    notes = (
        "What both reach after the same training is in tests/bench/README.md. The stock's weights are random and find "
        "nothing, which spares it most of its last suppression.",
    )
    bench.print_report(Report("student", comparisons, (), notes, bench.machine(provider)), as_json)


def speed(
    model: bytes, name: str, frames: Sequence[NDArray[Any]], provider: Provider, threads: int
) -> Callable[[], float]:
    """Return a function that measures frames/s of a bare loop of session.run; `name` is the model's input."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # every node of the stock's export warns that its shape is unknown
    session: Any = ort.InferenceSession(model, options, providers=[PROVIDERS[provider]])

    def run() -> float:
        for one in frames[:WARM]:
            session.run(None, {name: one})
        started = time.perf_counter()
        for one in frames:
            session.run(None, {name: one})
        return len(frames) / (time.perf_counter() - started)

    return run


def export_stock(height: int, width: int, **sizes: int) -> bytes:
    """Return torchvision's own export of its Faster R-CNN with a ResNet-18-FPN, defaults except `sizes`."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    model = FasterRCNN(backbone, num_classes=STOCK_CLASSES, **sizes).eval()
    nn.init.zeros_(
        model.roi_heads.box_predictor.cls_score.weight
    )  # no class is likely: what random ones find is chance
    example = ([torch.rand(3, height, width)],)
    with TemporaryDirectory(prefix="culling-bench-") as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it warns of shapes that become constants, which is the stock's way
        out = Path(folder) / "stock.onnx"
        torch.onnx.export(model, example, out, input_names=["image"], dynamo=False)
        return out.read_bytes()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
