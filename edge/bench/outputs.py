"""`culling bench overhead --outputs`: the agent with every output on, against the same agent with none."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from prometheus_client import CollectorRegistry

from culling.common import bench
from culling.common.bench import Comparison, Measured, Report, Stated, at_least, at_most
from culling.common.clock import SystemClock
from culling.common.errors import CullingError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.selection.selector import Action, Decision
from culling.edge.bench.agent import agent_latency, agent_speed
from culling.edge.bench.material import Material
from culling.edge.bench.receivers import Table, receivers, stalled
from culling.edge.model.provider import choose_provider
from culling.edge.output.outlet import Outlet
from culling.edge.output.seen import Seen
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, build

RECORDS = 20_000
"""Through each output: two seconds at what is wanted."""
CLASSES = tuple(f"class-{number}" for number in range(6))
BOXES = 5
"""In each record."""
MOST_S = 120.0


def outputs_report(material: Material, frames: int, threads: int, rounds: int) -> Report:
    """Measure the agent's frames/s with outputs and without, the latency of its frames with outputs that stall and
    without, and how many records a second each output takes.
    """
    with TemporaryDirectory(prefix="culling-bench-") as folder, receivers(Path(folder)) as tables:
        everything = list(tables.values())
        on, off = bench.in_turn(
            rounds,
            lambda: agent_speed(material, threads, frames, 1, everything),
            lambda: agent_speed(material, threads, frames, 1),
        )
        pace = sum(off) / len(off) / 2
        with stalled() as silent:
            late, prompt = bench.in_turn(
                rounds,
                lambda: agent_latency(material, threads, frames, pace, list(silent.values())),
                lambda: agent_latency(material, threads, frames, pace),
            )
        taken = {kind: tuple(_records_a_second(table) for _ in range(rounds)) for kind, table in tables.items()}
    names = ", ".join(tables)
    compared = Comparison(
        "outputs",
        Measured(f"the agent with {names} on", "frames/s", on),
        Measured("the agent with no output", "frames/s", off),
        at_least(0.98),
    )
    stalling = Comparison(
        "p99 latency",
        Measured(f"a frame while {', '.join(silent)} stall", "ms", late),
        Measured("a frame with no output", "ms", prompt),
        at_most(1.05),
    )
    stated = tuple(
        Stated(Measured(f"records of {BOXES} boxes through {kind}, on loopback", "records/s", values), at_least(10_000))
        for kind, values in taken.items()
    )
    missing = () if "mqtt" in tables else ("mqtt was not measured: mosquitto is not installed",)
    return Report("overhead", (compared, stalling), stated, missing, bench.machine(choose_provider(allow_cpu=True)))


def _records_a_second(table: Table) -> float:
    """Return how fast one output hands over records, from the camera path to the receiver, on a thread of its own."""
    settings = OutputSettings(**{**table, "queue": RECORDS})
    metrics, clock = Metrics(CollectorRegistry(), "edge"), SystemClock()
    seen = [_seen(number) for number in range(RECORDS)]
    with _quiet(settings.kind):
        outlet = Outlet(settings, build(settings, Around(clock)), metrics, clock)
        outlet.start()
        _wait(lambda: outlet.up)
        began = time.perf_counter()
        for one in seen:
            outlet.offer(one)
        _wait(lambda: metrics.total("output_records") >= RECORDS)
        spent = time.perf_counter() - began
        outlet.close(1.0)
    return RECORDS / spent


def _seen(number: int) -> Seen:
    rng = np.random.default_rng(number)
    found = Detections(
        rng.uniform(0, 1000, (BOXES, 4)).astype(np.float32),
        np.sort(rng.uniform(0.5, 1, BOXES).astype(np.float32))[::-1],
        rng.integers(0, len(CLASSES), BOXES),
    )
    decision = Decision(Action.SKIP, "below")
    return Seen(
        "bench", number, number / 25, 1e9 + number / 25, 1920, 1080, "bench-1", 1, CLASSES, found, decision, 2.0
    )


@contextmanager
def _quiet(kind: str) -> Iterator[None]:
    """Let an output of kind stdout write to nowhere rather than into the report."""
    if kind != "stdout":
        yield
        return
    sys.stdout.flush()
    before, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(nowhere)


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + MOST_S
    while not done():
        if time.monotonic() >= deadline:
            raise CullingError(f"an output took nothing for {MOST_S:g} s")
        time.sleep(0.001)
