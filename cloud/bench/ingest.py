"""`culling bench ingest`: durable frames/s of a real service, against a bare socket and a bare disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from culling.cloud.bench.crowd import BareDisk, Crowd, Folder, acked_by_service, bare_socket, frames, service
from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, RoundCount, Stated, at_least
from culling.common.process.console import counted


def ingest_command(
    edges: Annotated[int, typer.Option(min=2, help="edges to measure beside a single one")] = 200,
    count: Annotated[int, typer.Option("--frames", min=1, help="frames a side and round")] = 600,
    size: Annotated[int, typer.Option(min=2000, help="bytes of a frame")] = 100_000,
    folder: Folder = None,
    rounds: RoundCount = 5,
    as_json: Json = False,
) -> None:
    """Durable frames/s of a real service with CURVE on, against a bare CURVE socket and bare fsynced SQLite commits.

    The reference is the smaller of the two in each round. Every side gets the same frames at the same window.
    """
    with TemporaryDirectory(prefix="culling-bench-", dir=folder) as name:
        found = ingest_speeds(Path(name), (1, edges), count, size, rounds)
    unit = "frames/s"
    disk = Measured("SQLite commits, WAL, synchronous=FULL", unit, found["disk"])
    comparisons, stated = [], [Stated(disk)]
    for number in (1, edges):
        who = counted(number, "edge")
        socket = Measured(f"a bare CURVE socket, {who}", unit, found[f"socket {number}"])
        smaller = tuple(map(min, socket.values, disk.values))
        reference = Measured("the smaller of the bare socket and the bare disk", unit, smaller)
        ours = Measured(f"the service, {who}", unit, found[f"service {number}"])
        comparisons.append(Comparison(who, ours, reference, at_least(0.5)))
        stated.append(Stated(socket))
    bench.print_report(Report("ingest", tuple(comparisons), tuple(stated), machine=bench.machine("none")), as_json)


def ingest_speeds(
    folder: Path, crowds: Sequence[int], count: int, size: int, rounds: int
) -> dict[str, tuple[float, ...]]:
    """Return frames/s by "disk", and by "service N" and "socket N" for each crowd of N edges, in every round."""
    with ExitStack() as life:
        served = life.enter_context(service(folder, sum(crowds)))
        address, key = life.enter_context(bare_socket())
        disk = life.enter_context(BareDisk(folder))
        secrets = iter(served.secrets.items())
        sides: dict[str, Callable[[], float]] = {"disk": partial(disk.commit, count, size)}
        for edges in crowds:
            mine = dict(islice(secrets, edges))
            linked = life.enter_context(Crowd([served.endpoint], served.server_key, mine, acked_by_service))
            linked.greet()
            bare = life.enter_context(Crowd([address], key, mine, lambda _: True))
            bare.deliver(frames(bare.cameras, edges, size))  # connects them
            sides[f"service {edges}"] = partial(_deliver, linked, count, size)
            sides[f"socket {edges}"] = partial(_deliver, bare, count, size)
        return dict(zip(sides, bench.in_turn(rounds, *sides.values()), strict=True))


def _deliver(crowd: Crowd, count: int, size: int) -> float:
    return crowd.deliver(frames(crowd.cameras, count, size))
