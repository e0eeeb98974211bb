"""What a GPU makes of the student, where no `culling bench` tells it. `gpu.sh` runs all of these in one go.

    python tests/bench/gpu.py placement FILE.onnx...    where each node ran, by what onnxruntime recorded of a run
    python tests/bench/gpu.py golden FILE.onnx...       golden frames of the CPU, on every other way to run the student
    python tests/bench/gpu.py speed FILE.onnx...        frames/s of 1, 4 and 16 cameras' frames, with IO binding
    python tests/bench/gpu.py graphs FILE.onnx...       CUDA graphs, with input sizes that are free, or fixed
    python tests/bench/gpu.py tensorrt FILE.onnx...     the same golden frames and frames/s on TensorRT, if it is there
    python tests/bench/gpu.py reloads FILE.onnx...      memory of process and GPU over 50 models, one replacing another
    python tests/bench/gpu.py show BENCH.json           what a `culling bench --json` found, a line each
    python tests/bench/gpu.py labels OUT.jsonl          four labelled frames of the bundled clip, to train on for a try
    python tests/bench/gpu.py step FILE.checkpoint      the step that a training had reached

`--dry` runs all of it on the CPU, so that it stays whole where there is no GPU: its figures say nothing about one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from culling.cloud.model.golden import golden_frame
from culling.common import bench
from culling.common.bench import Comparison, Measured, Report
from culling.common.errors import CullingError, ModelError
from culling.common.frame import Detections, iou
from culling.common.graph import (
    _EXACT,
    PROVIDERS,
    Graph,
    _check_placement,
    _find_cuda,
    check,
    open_graph,
    see,
    session_options,
)
from culling.common.scaler import LONG_SIDE, input_size
from culling.common.video import BUNDLED_CLIP, count_frames, read_frames
from culling.common.wire.codec import decode_jpeg
from culling.common.wire.manifest import Golden
from culling.common.wire.messages import from_wire
from culling.edge.bench.material import gather
from culling.edge.gauges import gpus, memory_in_use
from culling.edge.model.builder import Builder
from culling.edge.model.student import CONFIDENT, agree

NAMES = ["boxes", "scores", "labels"]
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
WARM = 3
"""Runs that are not timed; a CUDA graph is captured within them."""
MOST_GROWN = 1.05
"""What memory may be after all reloads, of what it was after a quarter of them, as `culling bench swap` has it."""
DRY = "DRY: run on the CPU to see that the script works; no figure here says anything about a GPU"

Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]
Change = Callable[[Any], None]


@dataclass(frozen=True)
class Way:
    """A way to run a student: its bytes, and onnxruntime's providers with their options, the wanted one first."""

    name: str
    model: bytes
    providers: Sequence[tuple[str, Mapping[str, str]]]

    def open(self, change: Change = lambda options: None) -> Any:
        """Return a session with an agent's options, but for what `change` does to them.

        Raises `ModelError` where onnxruntime fell back to another provider, which it does without a word.
        """
        options = session_options(0)
        change(options)
        wanted = self.providers[0][0]
        try:
            session = ort.InferenceSession(self.model, options, providers=list(self.providers))
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise ModelError(f"{self.name}: onnxruntime refused it: {first_line(error)}") from error
        if (actual := session.get_providers()[0]) != wanted:
            raise ModelError(f"{self.name}: it would run on {actual}, not on {wanted}")
        return session


@dataclass
class Findings:
    """What a part has to say: lines for people, the same as JSON, and whether it holds what it promises."""

    lines: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    holds: bool = True

    def say(self, line: str, holds: bool = True) -> None:
        """Add a line; one that does not hold makes the part fail."""
        self.lines.append(line if holds else f"{line}: DOES NOT HOLD")
        self.holds = self.holds and holds


def shipped(model: bytes, dry: bool) -> Way:
    """Return the way that agents use."""
    name, settings = PROVIDERS["cpu" if dry else "cuda"]
    return Way("as shipped", model, [(name, settings)])


def ways(model: bytes, dry: bool, out: Findings) -> list[Way]:
    """Return the ways to compare, first the one that agents use; say of one that cannot be made why."""
    found = [shipped(model, dry)]
    [(name, settings)] = found[0].providers
    if not dry:
        found.append(Way("without TF32", model, [(name, {**settings, **_EXACT})]))
    try:
        found.append(Way("fp16", half(model), [(name, settings)]))
    except Exception as error:  # the converter's errors share no base
        out.say(f"fp16: cannot be made: {first_line(error)}")
    return found


def tensorrt_ways(model: bytes, cache: Path) -> list[Way]:
    """Return the ways of TensorRT, in single and in half precision; what it cannot take runs on CUDA."""
    kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    behind = PROVIDERS["cuda"]
    return [
        Way(f"TensorRT {name}", model, [(TENSORRT, kept | {"trt_fp16_enable": flag}), behind])
        for name, flag in (("fp32", "0"), ("fp16", "1"))
    ]


def half(model: bytes) -> bytes:
    """Return the model in half precision, with the inputs and outputs that it had."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(onnx.load_model_from_string(model), keep_io_types=True)
    # The converter adds one and the same cast for each node that reads it, which makes the model invalid.
    seen: set[tuple[str, ...]] = set()
    for at in reversed(range(len(made.graph.node))):
        gives = tuple(made.graph.node[at].output)
        if gives in seen:
            del made.graph.node[at]
        seen.add(gives)
    return bytes(made.SerializeToString())


def fixed(model: bytes, sizes: Sequence[int]) -> Change:
    """Return what fixes batch, height and width of the frames to `sizes`."""
    frames = next(one for one in onnx.load_model_from_string(model).graph.input if one.name == "frames")
    names = [dim.dim_param for dim in frames.type.tensor_type.shape.dim][: len(sizes)]

    def change(options: Any) -> None:
        for name, size in zip(names, sizes, strict=True):
            options.add_free_dimension_override_by_name(name, size)

    return change


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, which is enough of onnxruntime's."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


# Where the nodes run


def placement(models: Sequence[Path], dry: bool, out: Findings) -> None:
    """Say on which provider each node ran, and fail where a node that pixels reach ran anywhere but on the GPU."""
    for path in models:
        way = shipped(path.read_bytes(), dry)
        wanted = way.providers[0][0]
        ran = executed(way, gather(None, path).inputs(1)[0])
        table = placed(ran)
        out.told[path.stem] = {"wanted": wanted, "executed": table}
        for provider, found in table.items():
            few = ", ".join(f"{count} {operator}" for operator, count in sorted(found["operators"].items()))
            told = f": {few}" if provider != wanted else ""
            out.say(f"{path.stem}: {found['nodes']} nodes on {provider}, {found['ms']:.2f} ms of a frame{told}")
        try:
            open_graph(way.model, provider="cpu" if dry else "cuda")  # by what onnxruntime assigned
            _check_placement(onnx.load_model_from_string(way.model).graph, [one[:3] for one in ran], wanted)
            if wanted not in table:
                raise ModelError(f"onnxruntime recorded no node on {wanted}")
            out.say(f"{path.stem}: all that pixels reach ran on {wanted}; elsewhere only sizes were computed")
        except ModelError as error:
            out.say(f"{path.stem}: {error}", holds=False)


def executed(way: Way, frames: NDArray[np.uint8]) -> list[tuple[str, str, str, float]]:
    """Return provider, operator, name and microseconds of each node of one run, which is not the first."""
    with tempfile.TemporaryDirectory(prefix="culling-gpu-") as folder:

        def profile(options: Any) -> None:
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "run")

        session = way.open(profile)
        for _ in range(WARM):
            session.run(NAMES, {"frames": frames})
        written = Path(session.end_profiling())
        events = json.loads(written.read_text())
    kernels = [one for one in events if one.get("cat") == "Node" and one["name"].endswith("_kernel_time")]
    last = kernels[-(len(kernels) // WARM) :]
    return [
        (one["args"]["provider"], one["args"]["op_name"], one["name"].removesuffix("_kernel_time"), one["dur"])
        for one in last
    ]


def placed(ran: Iterable[tuple[str, str, str, float]]) -> dict[str, dict[str, Any]]:
    """Return for each provider how many nodes ran there, for how long, and which operators they were."""
    table: dict[str, dict[str, Any]] = {}
    for provider, operator, _, microseconds in ran:
        found = table.setdefault(provider, {"nodes": 0, "ms": 0.0, "operators": Counter()})
        found["nodes"] += 1
        found["ms"] += microseconds / 1000
        found["operators"][operator] += 1
    return table


# Whether they find the same


def golden(models: Sequence[Path], dry: bool, frames: int, out: Findings) -> None:
    """Hold each way against what the CPU finds; the edge proves a model without TF32, so that has to agree."""
    for path in models:
        model = path.read_bytes()
        wanted = golden_frames(model, frames)
        for way in ways(model, dry, out):
            hold(path.stem, way, wanted, out, must=way.name != "fp16")


def golden_frames(model: bytes, count: int) -> list[Golden]:
    """Return `count` frames spread over the bundled clip, with what the CPU finds in them."""
    graph = open_graph(model, provider="cpu")
    total = count_frames(BUNDLED_CLIP)
    pictures = read_frames(BUNDLED_CLIP, [number * total // count for number in range(count)])
    return [golden_frame(graph, picture, 1.0, LONG_SIDE) for _, picture in pictures]


def hold(name: str, way: Way, wanted: Sequence[Golden], out: Findings, must: bool) -> None:
    """Say how a way agrees with golden frames, by the rule of the edge; one that `must` and does not fails."""
    try:
        graph = Graph(way.open(), check(way.model))
        pairs = [found_in(graph, one) for one in wanted]
    except ModelError as error:
        out.say(f"{name}, {way.name}: {error}", holds=not must)
        return
    agreed = sum(agree(*pair) for pair in pairs)
    sure = sum(len(right.above(CONFIDENT)) for _, right in pairs)
    score, overlap = (max(values) for values in zip(*(apart(*pair) for pair in pairs), strict=True))
    out.told.setdefault(name, {})[way.name] = {
        "frames": len(pairs), "agreed": agreed, "boxes": sure, "worst_score": score, "worst_iou": 1 - overlap,
    }  # fmt: skip
    differ = f"scores differ by at most {score:.4f}, boxes overlap by at least {1 - overlap:.3f}"
    whole = agreed == len(pairs)
    out.say(
        f"{name}, {way.name}: {agreed} of {len(pairs)} golden frames agree ({sure} boxes; {differ})", whole or not must
    )


def found_in(graph: Graph, one: Golden) -> tuple[Detections, Detections]:
    """Return what `graph` finds in a golden frame, and what it should."""
    rgb = decode_jpeg(one.jpeg)
    size = input_size(rgb.shape[1], rgb.shape[0], 1.0, LONG_SIDE)
    return see(graph, rgb, size), from_wire(one.detections, len(graph.info.classes))


def apart(found: Detections, wanted: Detections) -> tuple[float, float]:
    """Return the largest difference of scores, and of 1 - IoU, of confident boxes and the best of their class."""
    sure = wanted.above(CONFIDENT)
    if not len(sure) or not len(found):
        return (0.0, 0.0) if not len(sure) else (1.0, 1.0)
    overlaps = np.where(sure.labels[:, None] == found.labels[None], iou(sure.boxes, found.boxes), 0.0)
    best = overlaps.argmax(axis=1)
    rows = np.arange(len(sure))
    return float(np.abs(sure.scores - found.scores[best]).max()), float(1 - overlaps[rows, best].min())


# How fast they are


def speed(models: Sequence[Path], dry: bool, cameras: Sequence[int], frames: int, rounds: int, out: Findings) -> None:
    """Say frames/s of each way, batch and kind of call, all against the shipped way with one camera's frames."""
    device = "cpu" if dry else "cuda"
    for path in models:
        sides: dict[str, Callable[[], float]] = {}
        for way in ways(path.read_bytes(), dry, out):
            add_sides(sides, path, way, cameras, frames, device, out)
        report_sides(f"gpu speed {path.stem}", sides, rounds, dry, out)


def tensorrt(
    models: Sequence[Path], cache: Path, cameras: Sequence[int], frames: int, rounds: int, out: Findings
) -> None:
    """Say what TensorRT gives, or that it is not there, which is no failure."""
    if TENSORRT not in ort.get_available_providers():
        out.say("TensorRT: this onnxruntime was built without it")
        return
    for path in models:
        model = path.read_bytes()
        wanted = golden_frames(model, 4)
        sides: dict[str, Callable[[], float]] = {}
        add_sides(sides, path, shipped(model, False), cameras, frames, "cuda", out)
        for way in tensorrt_ways(model, cache):
            started = time.perf_counter()
            hold(path.stem, way, wanted, out, must=False)
            out.say(f"{path.stem}, {way.name}: {time.perf_counter() - started:.0f} s to open and to prove")
            add_sides(sides, path, way, cameras, frames, "cuda", out)
        report_sides(f"gpu tensorrt {path.stem}", sides, rounds, False, out)


def add_sides(
    sides: dict[str, Callable[[], float]],
    path: Path,
    way: Way,
    cameras: Sequence[int],
    frames: int,
    device: str,
    out: Findings,
) -> None:
    """Add what measures a way, by a plain call and by IO binding, for each number of cameras."""
    try:
        session = way.open()
    except ModelError as error:
        out.say(f"{path.stem}: {error}")
        return
    inputs = gather(None, path).inputs(max(cameras))
    for count in cameras:
        batch = np.concatenate(inputs[:count])
        for kind, run in (("", plain(session)), (", IO binding", bound(session, device))):
            side = partial(frames_a_second, run, batch, max(2, frames // count))
            try:
                run(batch)
            except Exception as error:
                out.say(f"{path.stem}, {way.name}, {count} cameras{kind}: it fails: {first_line(error)}")
                continue
            sides[f"{way.name}, {count} camera{'s' if count > 1 else ''}{kind}"] = side


def plain(session: Any) -> Run:
    """Return a call that takes and gives arrays."""
    return lambda frames: session.run(NAMES, {"frames": frames})


def bound(session: Any, device: str) -> Run:
    """Return a call whose input and outputs lie on the device: one copy there, one back."""
    binding = session.io_binding()
    held: dict[tuple[int, ...], Any] = {}

    def run(frames: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        if (value := held.get(frames.shape)) is None:
            held.clear()
            # On the CPU a value is the array itself, which the next frame must not overwrite.
            value = held[frames.shape] = ort.OrtValue.ortvalue_from_numpy(frames.copy(), device, 0)
            binding.bind_ortvalue_input("frames", value)
        value.update_inplace(frames)
        for name in NAMES:
            binding.bind_output(name, device)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()  # type: ignore[no-any-return]

    return run


def frames_a_second(run: Run, batch: NDArray[np.uint8], times: int) -> float:
    """Return frames/s of `times` calls; each returns when its answer is in the CPU's memory."""
    for _ in range(WARM):
        run(batch)
    started = time.perf_counter()
    for _ in range(times):
        run(batch)
    return times * len(batch) / (time.perf_counter() - started)


def report_sides(name: str, sides: Mapping[str, Callable[[], float]], rounds: int, dry: bool, out: Findings) -> None:
    """Measure all sides in turn, and say each against the first."""
    if not sides:
        out.say(f"{name}: nothing could be measured", holds=False)
        return
    measured = [
        Measured(side, "frames/s", values)
        for side, values in zip(sides, bench.in_turn(rounds, *sides.values()), strict=True)
    ]
    rows = tuple(Comparison(one.what, one, measured[0], None) for one in measured)
    report = Report(name, rows, notes=(DRY,) if dry else (), machine=bench.machine("cpu" if dry else "cuda"))
    out.told[name] = report.as_dict()
    out.lines += described(json.loads(msgspec.json.encode(report.as_dict())))


# CUDA graphs


def graphs(models: Sequence[Path], dry: bool, sizes: str, frames: int, out: Findings) -> None:
    """Say whether a student's kernels can be captured as one CUDA graph, with sizes `free` or `fixed`, and what it
    gains. That onnxruntime refuses is a finding, and no failure; another answer than without is one.
    """
    for path in models:
        model = path.read_bytes()
        name, settings = PROVIDERS["cpu" if dry else "cuda"]
        one = gather(None, path).inputs(1)[0]
        right = plain(shipped(model, dry).open())
        graph = Way("CUDA graph", model, [(name, settings if dry else {**settings, "enable_cuda_graph": "1"})])
        told = f"{path.stem}, sizes {sizes}"
        try:
            change = fixed(model, one.shape[:3]) if sizes == "fixed" else lambda options: None
            run = captured(graph.open(change), check(model).max_detections, one, "cpu" if dry else "cuda")
            with_graph, without = (frames_a_second(way, one, frames) for way in (run, right))
            same = all(np.allclose(a, b, atol=1e-2) for a, b in zip(run(one), right(one), strict=True))
        except Exception as error:  # onnxruntime's errors share no base of their own
            out.say(f"{told}: no CUDA graph: {first_line(error)}")
            out.told[told] = {"captured": False, "reason": first_line(error)}
            continue
        out.told[told] = {"captured": not dry, "with": with_graph, "without": without, "same": same}
        how = "with buffers that stay" if dry else "with a CUDA graph"
        out.say(f"{told}: {with_graph:.1f} frames/s {how}, {without:.1f} without", holds=same)


def captured(session: Any, rows: int, frames: NDArray[np.uint8], device: str) -> Run:
    """Return a call whose input and outputs stay at one place, which a captured graph needs."""
    binding = session.io_binding()
    value = ort.OrtValue.ortvalue_from_numpy(frames.copy(), device, 0)
    binding.bind_ortvalue_input("frames", value)
    shapes = {"boxes": ([1, rows, 4], np.float32), "scores": ([1, rows], np.float32), "labels": ([1, rows], np.int64)}
    kept = {name: ort.OrtValue.ortvalue_from_shape_and_type(*one, device, 0) for name, one in shapes.items()}
    for name, output in kept.items():
        binding.bind_ortvalue_output(name, output)

    def run(frames: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        value.update_inplace(frames)
        session.run_with_iobinding(binding)
        return [kept[name].numpy() for name in NAMES]

    return run


# What models leave behind


def reloads(models: Sequence[Path], dry: bool, count: int, out: Findings) -> None:
    """Make models ready as an agent does, one after another in place of the one before, and say what memory grows by.

    `culling bench swap` tells what a camera notices of it; on a GPU it takes too long for fifty.
    """
    builder, devices = Builder("cpu" if dry else "cuda"), [] if dry else gpus()
    for path in models:
        material = gather(None, path)
        [frame], sizes = material.inputs(1), []
        started = time.perf_counter()
        for number in range(count):
            # protobuf merges a message appended to another: the same model, under another hash
            model = material.model + onnx.ModelProto(doc_string=str(number)).SerializeToString()
            student = builder.build(material.manifest("bench", number + 1, model), model)
            student.graph.run(frame)
            sizes.append((bench.resident() / bench.MEGABYTE, sum(map(memory_in_use, devices)) / bench.MEGABYTE))
        seconds = (time.perf_counter() - started) / count
        early, late = sizes[count // 4], sizes[-1]
        out.told[path.stem] = {"models": count, "seconds_each": seconds, "resident_mb_gpu_mb": sizes}
        for what, first, last in zip(("resident", "GPU memory"), early, late, strict=True):
            if first:
                ratio = last / first
                told = f"{last:.0f} MB after {count} models, {first:.0f} after {count // 4 + 1}: {ratio:.3f} of it"
                out.say(f"{path.stem}, {what}: {told}, wanted at most {MOST_GROWN}", dry or ratio <= MOST_GROWN)
        out.say(f"{path.stem}: {seconds:.1f} s to make a model ready")


# What `gpu.sh` needs besides


def described(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a bench's report in JSON."""

    def span(one: Mapping[str, Any], digits: str = ".4g") -> str:
        return f"{one['median']:{digits}} ({one['min']:{digits}} to {one['max']:{digits}})"

    def bound_of(one: Mapping[str, Any]) -> str:
        target, met = one["target"], one["met"]
        return "" if target is None else f"; wanted {target['sense']} {target['value']:g}: {'met' if met else 'MISSED'}"

    lines = [str(note) for note in report["notes"]]
    for one in report["comparisons"]:
        ours, other = one["ours"], one["reference"]
        told = f"{span(ours)} {ours['unit']}, {span(one['ratio'], '.3g')} of {other['what']}'s {other['median']:.4g}"
        lines.append(f"{report['bench']}, {one['name']}: {told}{bound_of(one)}")
    lines += [f"{report['bench']}, {one['what']}: {span(one)} {one['unit']}{bound_of(one)}" for one in report["stated"]]
    return lines


def show(path: Path, provider: str, out: Findings) -> None:
    """Say what a bench found, and fail where it ran elsewhere than on `provider`."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CullingError(f"{path}: holds no report: {first_line(error)}") from None
    out.lines += described(report)
    ran = report["machine"]["provider"]
    out.say(f"{report['bench']}: ran on {ran}", holds=ran == provider)


def labels(path: Path, models: Sequence[Path]) -> None:
    """Write what a student finds in four frames of the bundled clip as a label file, sources beside the clip."""
    graph = open_graph(models[0].read_bytes(), provider="cpu")
    rows = []
    for number, picture in read_frames(BUNDLED_CLIP, [0, 40, 80, 120]):
        height, width = picture.shape[:2]
        found = see(graph, picture, input_size(width, height))
        boxes = zip(found.labels, found.scores, found.boxes, strict=True)
        named = [[graph.info.classes[label], float(score), *map(float, box)] for label, score, box in boxes]
        source = {"source": BUNDLED_CLIP.name, "frame": number, "width": width, "height": height}
        rows.append(json.dumps(source | {"detections": named}))
    path.write_text("\n".join(rows) + "\n")


def step_of(path: Path) -> int:
    """Return the step of a training's checkpoint, 0 where there is none."""
    from safetensors import safe_open

    if not path.exists():
        return 0
    with safe_open(path, "numpy") as file:
        return int(file.metadata()["step"])


def main() -> None:
    """Run one part, print its lines, write its JSON, and exit with 1 where it does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("placement", "golden", "speed", "graphs", "tensorrt", "reloads", "show", "labels", "step")
    parser.add_argument("part", choices=parts)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--dry", action="store_true", help="on the CPU, to see that it works")
    parser.add_argument("--cameras", default="1,4,16", help="frames that run together, separated by commas")
    parser.add_argument("--frames", type=int, default=64, help="frames a side and round, or golden frames")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=50, help="models that replace each other")
    parser.add_argument("--sizes", choices=("free", "fixed"), default="free", help="of the frames, for a CUDA graph")
    parser.add_argument("--cache", type=Path, default=Path("runs/tensorrt"), help="folder of TensorRT's engines")
    parser.add_argument("--model", action="append", type=Path, default=[], help="student that finds the labels")
    parser.add_argument("--json", type=Path, help="file to write the same to, as JSON")
    asked = parser.parse_args()
    if asked.part == "step":
        print(step_of(asked.files[0]))
        return
    if asked.part == "labels":
        labels(asked.files[0], asked.model)
        return
    out = Findings()
    try:
        run_part(asked, out)
    except CullingError as error:
        out.say(str(error), holds=False)
    if asked.dry:
        out.lines.insert(0, DRY)
    print("\n".join(out.lines))
    if asked.json is not None:
        asked.json.write_bytes(msgspec.json.encode({"dry": asked.dry, "holds": out.holds, **out.told}))
    sys.stdout.flush()
    # Where a capture failed, the end of a session ends the process (microsoft/onnxruntime#32081): all is said by now.
    os._exit(0 if out.holds else 1)


def run_part(asked: argparse.Namespace, out: Findings) -> None:
    """Run one part by what was asked for."""
    files, dry, frames, rounds = asked.files, asked.dry, asked.frames, asked.rounds
    cameras = [int(one) for one in asked.cameras.split(",")]
    if asked.part == "show":
        show(files[0], "cpu" if dry else "cuda", out)
        return
    if not dry:
        _find_cuda()
    if asked.part == "placement":
        placement(files, dry, out)
    elif asked.part == "golden":
        golden(files, dry, frames, out)
    elif asked.part == "speed":
        speed(files, dry, cameras, frames, rounds, out)
    elif asked.part == "graphs":
        graphs(files, dry, asked.sizes, frames, out)
    elif asked.part == "reloads":
        reloads(files, dry, asked.count, out)
    elif dry:
        out.say("TensorRT: there is none to run on a CPU")
    else:
        asked.cache.mkdir(parents=True, exist_ok=True)
        tensorrt(files, asked.cache, cameras, frames, rounds, out)


if __name__ == "__main__":
    main()
