"""A student as one ONNX graph on onnxruntime: what may be loaded at all, and how it is run.

The graph takes `frames` uint8 `(B, H, W, 3)` RGB, B, H and W free (H and W multiples of the stride), and gives
`boxes` `(B, N, 4)` float32 xyxy in input pixels, `scores` `(B, N)` float32 and `labels` `(B, N)` int64, 0-based, with
N fixed; padding rows have label -1 and score 0. Its classes are in the metadata, under `culling.classes`.

A model may come from a peer, so its structure is checked before onnxruntime sees it: external data has been a way to
read other files (CVE-2026-27489, CVE-2026-34445), foreign domains run someone else's code, and opsets above 18 fall
back from CUDA to the CPU in silence. Checking takes memory in proportion to the model, so run an unknown one in a child
process with limits first.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.wire.classes import check_classes
from culling.common.wire.messages import MAX_BOXES, MAX_MODEL

Provider = Literal["cuda", "cpu"]

MAX_NODES = 20_000
"""Bounds the time of a check; the bundled student has 728."""
MAX_FILE = 2 << 30
"""A model that a person names, a teacher's, may be as long as protobuf can read."""
MAX_OPSET = 18
"""onnxruntime's CUDA provider lacks kernels of later opsets, and would run those nodes on the CPU."""
DOMAINS = frozenset({"", "ai.onnx"})
CLASSES_KEY = "culling.classes"

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
"""The packages that bring onnxruntime; they overwrite each other's files, so exactly one may be installed."""

SIZE_OPS = frozenset(
    {"Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather", "Identity", "Max", "Min",
     "Mod", "Mul", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"}
)  # fmt: skip
"""What sizes are computed with. onnxruntime leaves such arithmetic on the CPU on purpose, beside any GPU."""

# An exhaustive cuDNN search would repeat for each new input shape, and an arena that doubles never shrinks again.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_EXACT = {"use_tf32": "0"}
"""TensorFloat-32 rounds what a convolution reads to 10 bits, on GPUs that have it: faster, and not what was made."""
PROVIDERS: dict[Provider, tuple[str, dict[str, str]]] = {
    "cuda": ("CUDAExecutionProvider", _CUDA_OPTIONS),
    "cpu": ("CPUExecutionProvider", {}),
}
"""Name and options of each provider in onnxruntime."""
_FATAL_ONLY = 4
"""onnxruntime's log level: its errors reach us as exceptions, and need not be printed as well."""


ort.disable_telemetry_events()  # what runs beside a camera reports to nothing but its own cloud


class NotFiniteError(ModelError):
    """A model gave boxes or scores that are not numbers."""


@dataclass(frozen=True)
class GraphInfo:
    """What a checked graph declares: its classes in label order, and N, the most detections of a frame."""

    classes: tuple[str, ...]
    max_detections: int


class Graph:
    """A loaded student. `run` may be called from several threads."""

    def __init__(self, session: Any, info: GraphInfo) -> None:
        self._session = session
        self.info = info

    def run(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """Return the detections of each frame, best first, padding removed.

        `frames` is `(B, H, W, 3)` uint8 RGB; boxes are in pixels of that input. Raises ModelError where the graph
        fails or answers in a shape that it did not declare, and NotFiniteError on a NaN or an infinity.
        """
        try:
            boxes, scores, labels = self._session.run(["boxes", "scores", "labels"], {"frames": frames})
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise ModelError(f"the model failed on a batch of shape {frames.shape}: {_first_line(error)}") from error
        wanted = (len(frames), self.info.max_detections)
        if boxes.shape != (*wanted, 4) or scores.shape != wanted or labels.shape != wanted:
            raise ModelError(
                f"the model answered in shapes {boxes.shape}, {scores.shape}, {labels.shape}, expected {wanted}"
            )
        return [self._unpad(*row) for row in zip(boxes, scores, labels, strict=True)]

    def warm(self, batch: int, height: int, width: int) -> float:
        """Run one blank batch of that shape, and return the seconds that it took."""
        blank = np.zeros((batch, height, width, 3), np.uint8)
        started = time.perf_counter()
        self.run(blank)
        return time.perf_counter() - started

    def _unpad(self, boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64]) -> Detections:
        found = Detections(boxes, scores, labels).where(labels >= 0)
        if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
            raise NotFiniteError("the model gave boxes or scores that are not numbers")
        if (found.labels >= len(self.info.classes)).any():
            raise ModelError(f"the model gave label {found.labels.max()} but has {len(self.info.classes)} classes")
        order = np.argsort(-found.scores, kind="stable")
        return Detections(found.boxes[order], found.scores[order], found.labels[order])


def open_graph(model: bytes, *, provider: Provider, threads: int = 0, exact: bool = False) -> Graph:
    """Check `model` and load it on exactly `provider`; an `exact` one gives up speed for full precision.

    `threads` bounds the threads of one operator, 0 leaves it to onnxruntime. Raises ModelError, naming what is wrong,
    for anything that is not a student, and when not all that looks at pixels runs on the provider that was asked for:
    onnxruntime falls back to the CPU in silence (onnxruntime#23372), for the whole graph or for an operator that the
    provider has no kernel for.
    """
    proto = _parse(model, MAX_MODEL)
    info = _describe(proto)
    session = open_session(model, provider, threads, exact)
    if provider == "cuda":
        _check_placement(proto.graph, _placement(session), PROVIDERS[provider][0])
    return Graph(session, info)


def open_session(model: bytes, provider: Provider, threads: int = 0, exact: bool = False) -> Any:
    """Return onnxruntime's session of a model that was checked, on exactly `provider`; see `open_graph`.

    Raises ModelError where onnxruntime refuses the model, or would run it elsewhere.
    """
    name, settings = PROVIDERS[provider]
    if provider == "cuda":
        _find_cuda()
        settings = settings | (_EXACT if exact else {})
    try:
        session = ort.InferenceSession(model, session_options(threads), providers=[(name, settings)])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelError(f"onnxruntime refused the model: {_first_line(error)}") from error
    if (actual := session.get_providers()[0]) != name:
        raise ModelError(f"the model would run on {actual}, not on {name}: check the GPU, its driver and its libraries")
    return session


def check_closed(model: bytes) -> Any:
    """Return the parsed `model`, a graph of any signature and opset that keeps to itself.

    Raises ModelError for what is no ONNX, keeps data outside of its file, or uses anything but ONNX's own operators.
    """
    proto = _parse(model, MAX_FILE)
    _check_domains(proto)
    _check_nodes(proto.graph)
    return proto


def has_cuda() -> bool:
    """Return whether the onnxruntime that is installed knows CUDA at all; whether a GPU works, only a run tells."""
    return PROVIDERS["cuda"][0] in ort.get_available_providers()


def check(model: bytes) -> GraphInfo:
    """Return what `model` declares, or raise ModelError naming the first rule that it breaks."""
    return _describe(_parse(model, MAX_MODEL))


def _parse(model: bytes, most: int) -> Any:
    if len(model) > most:
        raise ModelError(f"the model has {len(model)} bytes, at most {most} are allowed")
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's DecodeError, or a bare ValueError, by version
        raise ModelError("the model is not ONNX: it cannot be parsed") from error
    if not proto.HasField("graph") or not proto.graph.node:
        raise ModelError("the model is not ONNX: it has no graph")
    return proto


def _describe(proto: Any) -> GraphInfo:
    _check_opsets(proto)
    _check_nodes(proto.graph)
    _check_signature(proto.graph)
    return GraphInfo(_classes(proto), _max_detections(proto.graph))


def see(graph: Graph, image: NDArray[np.uint8], size: tuple[int, int]) -> Detections:
    """Return what `graph` finds in `image` `(H, W, 3)` resized to `size` `(height, width)`; boxes in `image`'s pixels.

    Raises ModelError as `Graph.run`.
    """
    # PyAV comes with the scaler; the process that tries a stranger's model loads this file and must stay small.
    from culling.common.scaler import resize

    return to_frame(graph.run(resize(image, *size)[None])[0], size, image.shape[:2])


def to_frame(found: Detections, from_size: tuple[int, int], to_size: tuple[int, int]) -> Detections:
    """Return `found` with its boxes scaled from one `(height, width)` to another."""
    vertical, horizontal = to_size[0] / from_size[0], to_size[1] / from_size[1]
    scale = np.array([horizontal, vertical, horizontal, vertical], np.float32)
    return Detections(found.boxes * scale, found.scores, found.labels)


def session_options(threads: int) -> Any:
    """Return the options of onnxruntime that every session here has; `threads` as in `open_graph`."""
    ort.set_default_logger_severity(_FATAL_ONLY)
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Input sizes change; a memory pattern for each would keep memory for each.
    options.enable_mem_pattern = False
    # Threads that spin while they wait would take the cores that the decoders need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Otherwise, bytes that begin like ORT's own format would bypass the checks of the ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _find_cuda() -> None:
    installed = [name for name in RUNTIMES if _installed(name)]
    if len(installed) > 1:
        both = " and ".join(installed)
        raise ModelError(f"{both} overwrite each other: uninstall both, then install culling[edge-gpu] again")
    if not has_cuda():
        raise ModelError(
            "the onnxruntime that is installed is the CPU's: install culling[edge-gpu] in place of culling[edge]"
        )
    ort.set_default_logger_severity(_FATAL_ONLY)
    # CUDA may be installed as wheels, where only this finds it. The provider check says better what this prints.
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _placement(session: Any) -> list[tuple[str, str, str]]:
    """Return provider, operator and name of every node, as onnxruntime placed them; fused ones have new names."""
    return [
        (part.ep_name, node.op_type, node.name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def _check_placement(graph: Any, placed: Sequence[tuple[str, str, str]], wanted: str) -> None:
    """Refuse a session that computes anything but sizes elsewhere than on the provider `wanted`.

    Sizes may: a node that pixels do not reach, told by its name, or by its operator where it has none that is known.
    `session.disable_cpu_ep_fallback` refuses those too, and with them every graph that takes frames of any size.
    """
    pixels, sizes = _reached(graph)
    astray = {
        operator
        for provider, operator, name in placed
        if provider != wanted and (name in pixels or (name not in sizes and operator not in SIZE_OPS))
    }
    if astray:
        raise ModelError(
            f"{', '.join(sorted(astray))} would not run on {wanted}: this onnxruntime ({ort.__version__}) has no such "
            "kernel for it, or cannot use it: reinstall culling[edge-gpu], or have the model exported again"
        )


def _reached(graph: Any) -> tuple[set[str], set[str]]:
    """Return the names of the nodes that what is in `frames` reaches, and those that at most its size does."""
    seen = {"frames"}
    pixels: set[str] = set()
    sizes: set[str] = set()
    for node in graph.node:
        reached = node.op_type not in ("Shape", "Size") and any(name in seen for name in _reads(node))
        if reached:
            seen.update(node.output)
        if node.name:
            (pixels if reached else sizes).add(node.name)
    return pixels, sizes


def _reads(node: Any) -> Iterator[str]:
    """Yield what a node reads, also inside the graphs that it holds."""
    yield from node.input
    for attribute in node.attribute:
        for part in (attribute.g, *attribute.graphs):
            for inner in part.node:
                yield from _reads(inner)


def _check_opsets(proto: Any) -> None:
    _check_domains(proto)
    for opset in proto.opset_import:
        if opset.version > MAX_OPSET:
            raise ModelError(f"the model uses opset {opset.version}, at most {MAX_OPSET} is allowed")


def _check_domains(proto: Any) -> None:
    for opset in proto.opset_import:
        if opset.domain not in DOMAINS:
            raise ModelError(f"the model uses the foreign domain {opset.domain!r}")
    if not proto.opset_import:
        raise ModelError("the model names no opset")
    if proto.functions or proto.training_info:
        raise ModelError("the model defines functions or training, which a student must not")


def _check_nodes(graph: Any) -> None:
    count = 0
    for part in _graphs(graph):
        count += len(part.node)
        if count > MAX_NODES:
            raise ModelError(f"the model has more than {MAX_NODES} nodes")
        for node in part.node:
            if node.domain not in DOMAINS:
                raise ModelError(f"the model uses the foreign domain {node.domain!r}")
        for tensor in _tensors(part):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise ModelError("the model keeps data outside of its file")


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield `graph` and every graph inside it, without recursion: a hostile model may nest deeply."""
    waiting = [graph]
    while waiting:
        part = waiting.pop()
        yield part
        for node in part.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every tensor of `graph`, but not of the graphs inside it."""
    sparse = list(graph.sparse_initializer)
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
            sparse.extend(attribute.sparse_tensors)
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _check_signature(graph: Any) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    outputs = {value.name: value for value in graph.output}
    _check_names("inputs", inputs, {"frames": (onnx.TensorProto.UINT8, 4)})
    wanted = {
        "boxes": (onnx.TensorProto.FLOAT, 3),
        "scores": (onnx.TensorProto.FLOAT, 2),
        "labels": (onnx.TensorProto.INT64, 2),
    }
    _check_names("outputs", outputs, wanted)
    batch, height, width, colour = inputs["frames"].type.tensor_type.shape.dim
    if colour.dim_value != 3 or any(dim.HasField("dim_value") for dim in (batch, height, width)):
        raise ModelError("the model's input `frames` must be (batch, height, width, 3), the first three free")


def _check_names(what: str, values: Mapping[str, Any], wanted: Mapping[str, tuple[int, int]]) -> None:
    if set(values) != set(wanted):
        raise ModelError(f"the model's {what} are {list(values)}, expected {sorted(wanted)}")
    for name, (kind, rank) in wanted.items():
        tensor = values[name].type.tensor_type
        if tensor.elem_type != kind or len(tensor.shape.dim) != rank:
            element = onnx.TensorProto.DataType.Name(kind)
            raise ModelError(f"the model's {name} must be {element} of rank {rank}")


def _max_detections(graph: Any) -> int:
    scores = next(value for value in graph.output if value.name == "scores")
    count = int(scores.type.tensor_type.shape.dim[1].dim_value)
    if not 1 <= count <= MAX_BOXES:
        raise ModelError(
            f"the model gives {count or 'a free number of'} boxes per frame, expected a fixed number up to {MAX_BOXES}"
        )
    return count


def _classes(proto: Any) -> tuple[str, ...]:
    found = {entry.key: entry.value for entry in proto.metadata_props}.get(CLASSES_KEY, "")
    # protobuf gives text that is not UTF-8 as bytes.
    classes = tuple(found.split(",")) if isinstance(found, str) else ()
    try:
        return check_classes(classes)
    except ValueError as error:
        raise ModelError(f"the model's metadata has no list of classes under {CLASSES_KEY!r}: {error}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
