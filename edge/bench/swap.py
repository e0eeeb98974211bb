"""`culling bench swap`: swaps on a camera at work, against the same camera left alone."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from culling.common import bench
from culling.common.bench import MEGABYTE, Comparison, Json, Measured, Report, RoundCount, Stated, at_most
from culling.common.progress import shown
from culling.edge.bench.material import Model, Threads, Video, gather
from culling.edge.bench.swapload import Figures, SwapLoad
from culling.edge.model.provider import choose_provider


def swap_command(
    video: Video = None,
    model: Model = None,
    swaps: Annotated[int, typer.Option(min=1, help="total number of swaps, spread evenly over the rounds")] = 200,
    threads: Threads = 0,
    rounds: RoundCount = 5,
    as_json: Json = False,
) -> None:
    """Swaps on a camera that takes half the student's time, against the same camera without swaps for as long.

    Each model is another file: vetted in its own process, loaded, warmed, switched to between two frames, and compared
    with the previous one. Probation takes as few frames as it can, so that swaps follow each other closely.
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
