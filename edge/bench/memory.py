"""`culling bench memory edge`: what each further camera costs the agent, and whether its memory grows."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from culling.common import bench
from culling.common.bench import MEGABYTE, Comparison, Json, Measured, Report, RoundCount, Stated, at_most
from culling.edge.bench.material import Material, Model, Threads, Video, gather
from culling.edge.bench.rig import AgentProcess
from culling.edge.model.provider import choose_provider


def memory_command(
    video: Video = None,
    model: Model = None,
    cameras: Annotated[int, typer.Option(min=2, help="cameras to compare with one")] = 8,
    frames: Annotated[int, typer.Option(min=2, help="frames of each camera before memory is first read")] = 50,
    fps: Annotated[float, typer.Option(min=0.01, help="frames a second of each camera")] = 1.0,
    threads: Threads = 0,
    rounds: RoundCount = 1,
    as_json: Json = False,
) -> None:
    """Memory of the agent for each further camera, and whether it grows over three times as many frames."""
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


def agent_memory(material: Material, threads: int, cameras: int, frames: int, fps: float) -> tuple[int, int]:
    """Return an agent's resident bytes once each of its cameras has had `frames` frames, and three times as many."""
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        agent = AgentProcess(Path(folder), material, cameras, threads, "real", fps=fps)
        with agent.running() as process:
            agent.wait_for(frames, process)
            early = bench.resident(process.pid)
            agent.wait_for(3 * frames, process)
            return early, bench.resident(process.pid)
