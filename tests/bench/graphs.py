"""What the exported student gains or loses by being run, or made, otherwise.

    python tests/bench/graphs.py [--rounds N] [--threads N] [--clip VIDEO LABELS]...

Every way is timed against the shipped one within the same rounds, on frames of the clip that comes along: above 1 is
faster. Ways that change the answer are measured by the labels of the clips named: AP50 and AP50:95 of each one's most
frequent class. OpenVINO takes part where it is installed (`pip install openvino`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from culling.cloud.evaluation.evaluate import evaluate_detector, student
from culling.cloud.model.export import export_student
from culling.cloud.model.faster_rcnn.graph import FasterRcnnGraph
from culling.cloud.model.quantise import calibration_frames, quantise
from culling.cloud.model.weights import load_bundled
from culling.common import bench
from culling.common.graph import Graph, check, session_options
from culling.edge.bench.material import Material, gather

NAMES = ["boxes", "scores", "labels"]

Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Way:
    """One way to the same kind of answer; `other` tells that it is not the same answer."""

    name: str
    run: Run
    other: bool = False


def session(model: bytes, threads: int, change: Callable[[Any], None] = lambda options: None) -> Run:
    """Return what runs `model` as an agent does, but for what `change` does to onnxruntime's options."""
    options = session_options(threads)
    change(options)
    made = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda frames: made.run(NAMES, {"frames": frames})


# Ways to run the shipped graph


def run_otherwise(model: bytes, threads: int, size: tuple[int, int]) -> Iterator[Way]:
    def spin(options: Any) -> None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")

    def pattern(options: Any) -> None:
        options.enable_mem_pattern = True

    def fixed(options: Any) -> None:
        (shape,) = [one.type.tensor_type.shape.dim for one in onnx.load_from_string(model).graph.input]
        for dim, value in zip(shape, (1, *size), strict=False):
            options.add_free_dimension_override_by_name(dim.dim_param, value)

    def level(which: Any, options: Any) -> None:
        options.graph_optimization_level = which

    def parallel(options: Any) -> None:
        options.execution_mode, options.inter_op_num_threads = ort.ExecutionMode.ORT_PARALLEL, 2

    def denormals(options: Any) -> None:
        options.add_session_config_entry("session.set_denormal_as_zero", "1")

    for count in (1, 2, 4):
        yield Way(f"{count} thread{'s'[: count > 1]}", session(model, count))
    yield Way("waiting threads spin", session(model, threads, spin))
    yield Way("memory pattern", session(model, threads, pattern))
    yield Way("fixed shapes", session(model, threads, fixed))
    levels = ort.GraphOptimizationLevel
    for name, which in {"none": levels.ORT_DISABLE_ALL, "basic": levels.ORT_ENABLE_BASIC}.items():
        yield Way(f"graph optimisation: {name}", session(model, threads, partial(level, which)))
    yield Way("graph optimisation: extended", session(model, threads, partial(level, levels.ORT_ENABLE_EXTENDED)))
    yield Way("branches in parallel", session(model, threads, parallel))
    yield Way("denormals as zero", session(model, threads, denormals))
    yield Way("IO binding", bound(model, threads))
    yield Way("normalised outside, by numpy", normalised_outside(model, threads))


def bound(model: bytes, threads: int) -> Run:
    made = ort.InferenceSession(model, session_options(threads), providers=["CPUExecutionProvider"])
    binding = made.io_binding()

    def run(frames: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        binding.bind_cpu_input("frames", frames)
        for name in NAMES:
            binding.bind_output(name, "cpu")
        made.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()  # type: ignore[no-any-return]

    return run


def normalised_outside(model: bytes, threads: int) -> Run:
    """Cut the graph before its first convolution and give it floats."""
    proto = onnx.load_from_string(model)
    first = next(node.input[0] for node in proto.graph.node if node.op_type == "Conv")
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    floats = onnx.helper.make_tensor_value_info(
        first, onnx.TensorProto.FLOAT, [shape[0].dim_param, 3, shape[1].dim_param, shape[2].dim_param]
    )
    # What decides a box's limits reads the frames' shape: they stay an input.
    proto.graph.input.append(floats)
    for node in proto.graph.node:
        node.output[:] = [f"{name}.unused" if name == first else name for name in node.output]
    made = ort.InferenceSession(proto.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"])
    spec = load_bundled("student")[0].transform
    mean, std = (np.array(value, np.float32) * 255 for value in (spec.image_mean, spec.image_std))

    def run(frames: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        planes = np.ascontiguousarray(((frames - mean) / std).transpose(0, 3, 1, 2), np.float32)
        return made.run(NAMES, {"frames": frames, first: planes})  # type: ignore[no-any-return]

    return run


# Ways to make another graph


def made_otherwise(material: Material, threads: int) -> Iterator[Way]:
    for count in (30, 50, 200):
        model, classes = load_bundled("student")
        model.rpn._pre_nms_top_n["testing"], model.rpn._post_nms_top_n["testing"] = 2 * count, count
        yield Way(f"{count} proposals", session(export_student(model, classes), threads), other=True)
    yield Way("no proposals from the finest level", session(without_finest(), threads), other=True)
    int8 = quantise(material.model, calibration_frames(material.video))
    yield Way("int8, as rounds ship it", session(int8, threads), other=True)


def without_finest() -> bytes:
    """Return the student's graph with anchors from stride 8 on; boxes are still pooled from every level."""
    propose, anchors = FasterRcnnGraph._propose, FasterRcnnGraph._anchors

    def coarser(self: FasterRcnnGraph, features: list[Tensor], *others: Any) -> tuple[Tensor, Tensor]:
        return propose(self, features[1:], *others)

    def fewer(self: FasterRcnnGraph, features: list[Tensor], height: int, width: int) -> list[Tensor]:
        cells = self.rpn.anchor_generator.cell_anchors
        self.rpn.anchor_generator.cell_anchors = cells[1:]
        try:
            return anchors(self, features, height, width)
        finally:
            self.rpn.anchor_generator.cell_anchors = cells

    FasterRcnnGraph._propose, FasterRcnnGraph._anchors = coarser, fewer  # type: ignore[method-assign, assignment]
    try:
        return export_student(*load_bundled("student"))
    finally:
        FasterRcnnGraph._propose, FasterRcnnGraph._anchors = propose, anchors  # type: ignore[method-assign]


def openvino(model: bytes, threads: int, folder: Path) -> Iterator[Way]:
    """Yield the shipped graph on OpenVINO, in single precision and in bfloat16."""
    with suppress(ImportError):
        import openvino as ov

        path = folder / "openvino.onnx"
        path.write_bytes(model)
        for precision in ("f32", "bf16"):
            settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
            settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
            request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
            yield Way(f"OpenVINO, {precision}", partial(_infer, request), other=precision == "bf16")


def _infer(request: Any, frames: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
    found = request.infer({"frames": frames})
    return [found[name].copy() for name in NAMES]


# What is measured


def speed(way: Way, inputs: Sequence[NDArray[np.uint8]]) -> float:
    """Return frames/s."""
    way.run(inputs[0])
    started = time.perf_counter()
    for frame in inputs:
        way.run(frame)
    return len(inputs) / (time.perf_counter() - started)


class Session:
    """A way, where a `Graph` expects onnxruntime's session."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def run(self, names: Sequence[str], feeds: dict[str, NDArray[np.uint8]]) -> Sequence[NDArray[Any]]:
        """Answer as onnxruntime would."""
        return self._way.run(feeds["frames"])


def precision(way: Way, material: Material, video: Path, labels: Path) -> str:
    """Return AP50 and AP50:95 of the clip's most frequent class."""
    graph = Graph(Session(way), check(material.model))
    found = evaluate_detector(student(graph), material.classes, video, labels)
    name, result = max(found.per_class.items(), key=lambda item: item[1].objects)
    return f"{name} {result.ap50:.3f} / {result.ap50_95:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=10, help="frames a way and round")
    parser.add_argument("--threads", type=int, default=0, help="of an operator, 0 leaves it to onnxruntime")
    parser.add_argument("--clip", nargs=2, action="append", default=[], metavar=("VIDEO", "LABELS"), type=Path)
    asked = parser.parse_args()
    material = gather(None, None)
    with TemporaryDirectory(prefix="culling-bench-") as name:
        folder = Path(name)
        shipped = Way("as shipped", session(material.model, asked.threads), other=True)
        ways = [shipped, *run_otherwise(material.model, asked.threads, material.size)]
        ways += [*made_otherwise(material, asked.threads), *openvino(material.model, asked.threads, folder)]
        inputs = material.inputs(asked.frames)
        speeds = bench.in_turn(asked.rounds, *(partial(speed, way, inputs) for way in ways))
        table = Table("way", "times as fast", "ms a frame", *(video.stem for video, _ in asked.clip))
        for way, values in zip(ways, speeds, strict=True):
            ratio = bench.spread([one / other for one, other in zip(values, speeds[0], strict=True)])
            precisions = [precision(way, material, *clip) if way.other else "same" for clip in asked.clip]
            milliseconds = 1000 / bench.spread(values).median
            span = f"{ratio.median:.2f} ({ratio.min:.2f} to {ratio.max:.2f})"
            table.add_row(way.name, span, f"{milliseconds:.1f}", *precisions)
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    console.print(bench.machine("cpu"))


if __name__ == "__main__":
    main()
