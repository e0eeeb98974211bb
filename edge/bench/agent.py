"""`culling bench edge`: the whole agent's frames/s, against a bare loop of the same model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import onnxruntime as ort
import typer

from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, RoundCount, at_least
from culling.common.errors import SettingsError
from culling.common.graph import PROVIDERS, Provider
from culling.edge.bench.material import Material, Model, Threads, Video, gather
from culling.edge.bench.rig import AgentProcess
from culling.edge.model.provider import choose_provider

WARM = 3
"""Frames or batches that are not timed: the first of a shape allocate what the others use."""
GPU_BATCHING = 3.0
"""Several cameras must reach this many times one camera's frames/s on a GPU, where a batch costs little more."""


def edge_command(
    video: Video = None,
    model: Model = None,
    cameras: Annotated[str, typer.Option(help="numbers of cameras, separated by commas; 1 is always measured")] = "1",
    frames: Annotated[int, typer.Option(min=8, help="frames a side and round")] = 100,
    threads: Threads = 0,
    rounds: RoundCount = 5,
    as_json: Json = False,
) -> None:
    """Frames/s of the whole agent on a file at full speed, against a bare loop of session.run on the same frames.

    Several cameras are compared with one: what batching gains, or costs.
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


def bare_loop(material: Material, provider: Provider, threads: int, frames: int) -> Callable[[], float]:
    """Return a function that measures frames/s of onnxruntime alone, with its defaults, on prepared frames."""
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


def agent_speed(
    material: Material,
    threads: int,
    frames: int,
    cameras: int,
    outputs: Sequence[dict[str, Any]] = (),
    view: Mapping[str, Any] | None = None,
) -> float:
    """Return frames/s of a whole agent whose cameras play `frames` frames together; its start is not timed."""
    each = max(WARM + 1, frames // cameras) + WARM
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        agent = AgentProcess(Path(folder), material, cameras, threads, "max", frames=each, outputs=outputs, view=view)
        with agent.running() as process:
            times = [line.t for line in agent.finish(process)]
    timed = times[WARM * cameras - 1 :]
    return (len(timed) - 1) / (timed[-1] - timed[0])


def agent_latency(
    material: Material, threads: int, frames: int, fps: float, outputs: Sequence[dict[str, Any]] = ()
) -> float:
    """Return the 99th percentile of a frame's time in a whole agent, ms, at `fps` frames a second of one camera."""
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        agent = AgentProcess(Path(folder), material, 1, threads, "real", fps=fps, outputs=outputs)
        with agent.running() as process:
            agent.wait_for(frames + WARM, process)
            latencies = [line.latency for line in agent.trace()[WARM:]]
    return 1000 * statistics.quantiles(latencies, n=100)[-1]


def _counts(text: str) -> list[int]:
    """Return the numbers above 1, sorted, each once. Raises `SettingsError` if `text` is no list of numbers."""
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = [0]
    if counts[0] < 1:
        raise SettingsError(f"--cameras {text}: expected numbers separated by commas, e.g. 1,4,16")
    return [count for count in counts if count > 1]
