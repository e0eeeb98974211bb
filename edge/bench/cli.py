"""How close the edge runs to its limits: `culling bench edge`, `overhead`, `swap` and `memory edge`.

    culling bench edge --cameras 1,4,16      the whole agent's frames/s, against a bare loop of the same model
    culling bench overhead                   confidence, selection and spool, against the inference of the same frames
    culling bench swap                       200 swaps on a camera at work, against the same camera left alone
    culling bench memory edge                what each further camera costs

By default the clip and the student that come along are used; the latter is exported first, in most of a minute.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import av
import numpy as np
import onnxruntime as ort
import typer
from numpy.typing import NDArray

from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, Rounds, Stated, at_least, at_most
from culling.common.errors import SettingsError
from culling.common.frame import Detections
from culling.common.graph import PROVIDERS, Graph, Provider, open_graph, to_frame
from culling.common.progress import shown
from culling.common.selection.selector import THUMBNAIL, Action, Decision, SelectorSettings, build_selector
from culling.common.wire.codec import encode_jpeg
from culling.edge.bench.rig import Material, Trial, gather
from culling.edge.bench.swapload import Figures, SwapLoad
from culling.edge.camera.camera import Frame
from culling.edge.model.provider import choose_provider
from culling.edge.scoring import Score, Scorer
from culling.edge.settings import ConfidenceSettings
from culling.edge.spool import Spool

WARM = 3
"""Frames or batches that are not timed: the first of a shape allocate what the others use."""
QUALITY = 90
MEGABYTE = 1e6
GPU_BATCHING = 3.0

Video = Annotated[Path | None, typer.Option(help="video to play", show_default="the clip that comes along")]
Model = Annotated[Path | None, typer.Option(help="student as ONNX", show_default="the bundled one, exported first")]
Threads = Annotated[int, typer.Option(min=0, help="threads of an operator, 0 leaves it to onnxruntime")]

edge_app, overhead_app, swap_app, memory_app = (typer.Typer(add_completion=False) for _ in range(4))


@edge_app.command(name="edge")
def edge_command(
    video: Video = None,
    model: Model = None,
    cameras: Annotated[str, typer.Option(help="how many cameras to try, each number once; 1 is always tried")] = "1",
    frames: Annotated[int, typer.Option(min=8, help="frames a side and round")] = 100,
    threads: Threads = 0,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Frames/s of the whole agent on a file at full speed, against a bare loop of session.run on the same frames.

    Several cameras are held against the agent of one: what batching gains, or costs.
    """
    counts = _counts(cameras)
    material, provider = gather(video, model), choose_provider(allow_cpu=True)
    bare = bare_loop(material, provider, threads, frames)
    agents = [partial(agent_speed, material, threads, frames, count) for count in (1, *counts)]
    reference, one, *several = bench.in_turn(rounds, bare, *agents)
    unit = "frames/s"
    single = Measured("the agent with one camera", unit, one)
    loop = Measured("session.run on frames decoded before", unit, reference)
    target = at_least(0.95 if provider == "cpu" else GPU_BATCHING)
    comparisons = [Comparison("1 camera", single, loop, at_least(0.95))] + [
        Comparison(
            f"{count} cameras", Measured(f"the agent with {count} cameras, together", unit, speeds), single, target
        )
        for count, speeds in zip(counts, several, strict=True)
    ]
    bench.print_report(Report("edge", tuple(comparisons), machine=bench.machine(provider)), as_json)


@overhead_app.command(name="overhead")
def overhead_command(
    video: Video = None,
    model: Model = None,
    frames: Annotated[int, typer.Option(min=8, help="frames a side and round")] = 200,
    threads: Threads = 0,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Time of confidence, selection and spool, against the time of inference, a frame, on the first frames of a camera.

    Those are the dearest: until the first window is full, every frame that spacing lets pass goes to the spool.
    """
    material, provider = gather(video, model), choose_provider(allow_cpu=True)
    graph = open_graph(material.model, provider=provider, threads=threads)
    shown = Shown(material, material.pictures(frames), material.inputs(frames), graph)
    culling, inference = bench.in_turn(rounds, shown.cull, shown.infer)
    unit = "ms a frame"
    comparison = Comparison(
        "overhead",
        Measured("loss, thumbnail, decision, JPEG and fsynced spool", unit, culling),
        Measured("inference", unit, inference),
        at_most(0.01),
    )
    spooled = Stated(Measured("share of frames that went to the spool", "", (shown.spooled / frames,)))
    bench.print_report(Report("overhead", (comparison,), (spooled,), machine=bench.machine(provider)), as_json)


@swap_app.command(name="swap")
def swap_command(
    video: Video = None,
    model: Model = None,
    swaps: Annotated[int, typer.Option(min=1, help="swaps in all, spread evenly over the rounds")] = 200,
    threads: Threads = 0,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Swaps on a camera that fills half the student's time, against the same camera left alone for as long.

    Each model is another file: vetted in its own process, loaded, warmed, switched to between two frames, and compared
    with the one before. Probation takes the fewest frames that it can, so that swaps follow each other closely.
    """
    material, provider = gather(video, model), choose_provider(allow_cpu=True)
    each = -(-swaps // rounds)
    with (
        TemporaryDirectory(prefix="culling-bench-") as folder,
        SwapLoad(Path(folder), material, provider, threads) as load,
        shown("bench swap", "swap", each * rounds) as show,
    ):
        show(0, "")
        found: list[Figures] = []
        alone: list[Figures] = []
        for _ in range(rounds):
            found.append(load.swap(each, lambda: show(len(load.resident), "")))
            alone.append(load.rest(found[-1].seconds))
        sizes, fps = load.resident, load.fps
    warm = sizes[len(sizes) // 4]
    latency = Comparison(
        "p99 latency",
        Measured("a frame while models are swapped", "ms", tuple(one.p99_ms for one in found)),
        Measured("a frame with no swap", "ms", tuple(one.p99_ms for one in alone)),
        at_most(1.5),
    )
    memory = Comparison(
        "memory",
        Measured("resident after the last swap", "MB", (sizes[-1] / MEGABYTE,)),
        Measured("resident after a quarter of the swaps", "MB", (warm / MEGABYTE,)),
        at_most(1.05),
    )
    stated = (
        Stated(Measured("frames lost while swapping", "frames", (float(sum(one.lost for one in found)),)), at_most(0)),
        Stated(Measured("frames lost with no swap", "frames", (float(sum(one.lost for one in alone)),))),
        Stated(Measured("swaps that did not go live", "swaps", (float(sum(one.failed for one in found)),)), at_most(0)),
        Stated(Measured("the camera's pace", "frames/s", (fps,))),
    )
    bench.print_report(Report("swap", (latency, memory), stated, machine=bench.machine(provider)), as_json)


@memory_app.command(name="edge")
def memory_command(
    video: Video = None,
    model: Model = None,
    cameras: Annotated[int, typer.Option(min=2, help="cameras to hold against one")] = 8,
    frames: Annotated[int, typer.Option(min=2, help="frames of each camera until memory is read first")] = 50,
    fps: Annotated[float, typer.Option(min=0.01, help="frames a second of each camera")] = 1.0,
    threads: Threads = 0,
    rounds: Rounds = 1,
    as_json: Json = False,
) -> None:
    """Memory of the agent for each further camera, and whether it stays the same over three times as many frames."""
    material, provider = gather(video, model), choose_provider(allow_cpu=True)
    sizes = {1: ([], []), cameras: ([], [])}  # type: dict[int, tuple[list[float], list[float]]]
    for _ in range(rounds):
        for count, found in sizes.items():
            for values, size in zip(found, agent_memory(material, threads, count, frames, fps), strict=True):
                values.append(size / MEGABYTE)
    one, many = (late for _, late in sizes.values())
    further = tuple((high - low) / (cameras - 1) for low, high in zip(one, many, strict=True))
    flat = Comparison(
        f"{cameras} cameras over time",
        Measured(f"resident after {3 * frames} frames of each", "MB", tuple(many)),
        Measured(f"resident after {frames} frames of each", "MB", tuple(sizes[cameras][0])),
        at_most(1.05),
    )
    stated = (Stated(Measured("one camera", "MB", tuple(one))), Stated(Measured("each further camera", "MB", further)))
    bench.print_report(Report("memory edge", (flat,), stated, machine=bench.machine(provider)), as_json)


# The sides


def bare_loop(material: Material, provider: Provider, threads: int, frames: int) -> Callable[[], float]:
    """Return what measures frames/s of onnxruntime alone, as it comes, on frames decoded and scaled before."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session: Any = ort.InferenceSession(material.model, options, providers=[PROVIDERS[provider]])
    inputs = material.inputs(frames)

    def run() -> float:
        for one in inputs[:WARM]:
            session.run(None, {"frames": one})
        started = time.perf_counter()
        for one in inputs:
            session.run(None, {"frames": one})
        return len(inputs) / (time.perf_counter() - started)

    return run


def agent_speed(material: Material, threads: int, frames: int, cameras: int) -> float:
    """Return frames/s of a whole agent whose cameras play `frames` frames together, its start not counted."""
    each = max(WARM + 1, frames // cameras) + WARM
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        trial = Trial(Path(folder), material, cameras, threads, "max", frames=each)
        with trial.running() as process:
            times = [line.t for line in trial.finish(process)]
    timed = times[WARM * cameras - 1 :]
    return (len(timed) - 1) / (timed[-1] - timed[0])


def agent_memory(material: Material, threads: int, cameras: int, frames: int, fps: float) -> tuple[int, int]:
    """Return bytes resident of an agent once each of its cameras has had `frames` frames, and three times as many."""
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        trial = Trial(Path(folder), material, cameras, threads, "real", fps=fps)
        with trial.running() as process:
            trial.wait_for(frames, process)
            early = bench.resident(process.pid)
            trial.wait_for(3 * frames, process)
            return early, bench.resident(process.pid)


@dataclass
class Shown:
    """Frames of one camera, and both things that are done with each; `spooled` is how many went to the spool."""

    material: Material
    pictures: list[av.VideoFrame]
    inputs: list[NDArray[np.uint8]]
    graph: Graph
    spooled: int = 0

    def __post_init__(self) -> None:
        size = self.material.size
        full = (self.pictures[0].height, self.pictures[0].width)
        self._found = [to_frame(self.graph.run(one)[0], size, full) for one in self.inputs]

    def infer(self) -> float:
        """Return milliseconds a frame of the student."""
        started = time.perf_counter()
        for one in self.inputs:
            self.graph.run(one)
        return 1000 * (time.perf_counter() - started) / len(self.inputs)

    def cull(self) -> float:
        """Return milliseconds a frame of all that is done to choose and keep some, in turn and on one thread."""
        with TemporaryDirectory(prefix="culling-bench-") as folder:
            spool = Spool(Path(folder) / "spool.sqlite", 1 << 30, "bench")
            selector = build_selector(SelectorSettings(), random.Random(0))
            scorer = Scorer(self.material.manifest("bench", 1, self.material.model), ConfidenceSettings())
            self.spooled, began = 0, time.time()
            started = time.perf_counter()
            for number, (picture, found) in enumerate(zip(self.pictures, self._found, strict=True)):
                at = began + float(picture.time or 0)
                frame = Frame("bench", number, at - began, at, 0.0, picture)
                score = scorer.score(found, frame.width, frame.height)
                thumbnail = frame.input(*THUMBNAIL)[..., 1] if score.loss > 0 else None
                selector.close_window(at)
                decision = selector.decide(score.worth, at, thumbnail)
                if decision.action is not Action.SKIP:
                    self._spool(spool, frame, found, score, decision)
            spent = time.perf_counter() - started
            spool.close()
        return 1000 * spent / len(self.pictures)

    def _spool(self, spool: Spool, frame: Frame, found: Detections, score: Score, decision: Decision) -> None:
        jpeg, held = encode_jpeg(frame.rgb(), QUALITY), decision.action is Action.HOLD
        spool.add(frame, found=found, score=score, reason=decision.reason, model_id="bench-1", jpeg=jpeg, held=held)
        self.spooled += 1


def _counts(text: str) -> list[int]:
    """Return the numbers above 1, each once and rising. Raises `SettingsError` for what is no list of numbers."""
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = [0]
    if counts[0] < 1:
        raise SettingsError(f"--cameras {text}: expected numbers with commas between them, e.g. 1,4,16")
    return [count for count in counts if count > 1]
