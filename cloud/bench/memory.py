"""`culling bench memory cloud`: what a hundred further edges cost the service, and whether its memory grows."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from culling.cloud.bench.crowd import Crowd, Folder, acked_by_service, frames, service
from culling.common import bench
from culling.common.bench import MEGABYTE, Comparison, Json, Measured, Report, RoundCount, Stated, at_most


def memory_command(
    edges: Annotated[int, typer.Option(min=1, help="edges that join at once")] = 100,
    count: Annotated[int, typer.Option("--frames", min=1, help="frames sent before memory is read")] = 400,
    size: Annotated[int, typer.Option(min=2000, help="bytes of a frame")] = 100_000,
    folder: Folder = None,
    rounds: RoundCount = 1,
    as_json: Json = False,
) -> None:
    """Memory of the service for each hundred further edges, and whether it grows over further frames."""
    readings = []
    for _ in range(rounds):
        with TemporaryDirectory(prefix="culling-bench-", dir=folder) as name:
            readings.append(service_memory(Path(name), edges, count, size))
    start, first, second, later = (tuple(values) for values in zip(*readings, strict=True))
    flat = Comparison(
        f"{2 * edges} edges over time",
        Measured(f"resident after {3 * count} further frames", "MB", later),
        Measured(f"resident after {count} frames", "MB", second),
        at_most(1.05),
    )
    further = tuple(100 * (high - low) / edges for low, high in zip(first, second, strict=True))
    stated = [
        Stated(Measured(what, "MB", values))
        for what, values in (("no edge", start), (f"{edges} edges", first), ("each hundred further edges", further))
    ]
    bench.print_report(Report("memory cloud", (flat,), tuple(stated), machine=bench.machine("none")), as_json)


def service_memory(folder: Path, edges: int, count: int, size: int) -> tuple[float, float, float, float]:
    """Return resident MB of a service: without edges, with `edges`, with twice as many, and with those later on.

    `count` frames are sent before each reading, three times as many before the last.
    """
    with ExitStack() as life:
        served = life.enter_context(service(folder, 2 * edges))
        found = [bench.resident(served.pid)]
        secrets = iter(served.secrets.items())
        crowds: list[Crowd] = []
        for _ in range(2):
            mine = dict(islice(secrets, edges))
            crowds.append(life.enter_context(Crowd([served.endpoint], served.server_key, mine, acked_by_service)))
            crowds[-1].greet()
            crowds[-1].deliver(frames(crowds[-1].cameras, count, size))
            found.append(bench.resident(served.pid))
        for _ in range(3):
            crowds[0].deliver(frames(crowds[0].cameras, count, size))
        found.append(bench.resident(served.pid))
    start, first, second, later = (size / MEGABYTE for size in found)
    return start, first, second, later
