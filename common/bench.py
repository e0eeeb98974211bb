"""What every `culling bench` shares: sides measured in turn, their ratio with its spread, and the report of both.

All sides of a comparison run once in every round, each round beginning with another side, so that a machine that slows
down slows all sides alike. A ratio is taken within a round; the report gives its median, least and most.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from culling.common.errors import CullingError
from culling.common.progress import shown

PACKAGES = ("culling", "numpy", "onnxruntime", "onnxruntime-gpu", "av", "pyzmq", "torch", "torchvision")
MEGABYTE = 1e6

RoundCount = Annotated[int, typer.Option(min=1, help="measurements of each side; the median counts")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


class Spread(msgspec.Struct, frozen=True):
    """Several measurements of one thing."""

    median: float
    min: float
    max: float


class Measured(msgspec.Struct, frozen=True):
    """One side of a comparison: what it is, and its figure in each round, in `unit`."""

    what: str
    unit: str
    values: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """The values' median, least and most."""
        return spread(self.values)


class Target(msgspec.Struct, frozen=True):
    """The bound that a figure must keep: `sense` is "at least" or "at most"."""

    sense: Literal["at least", "at most"]
    value: float

    def met(self, figure: float) -> bool:
        """Return whether `figure` keeps it."""
        return figure >= self.value if self.sense == "at least" else figure <= self.value

    def shortfall(self, figure: float) -> float:
        """Return how many times `figure` misses the target; below 1 where it is met with room to spare."""
        most, least = (self.value, figure) if self.sense == "at least" else (figure, self.value)
        return most / least if least > 0 else float("inf") if most > 0 else 1.0


class Comparison(msgspec.Struct, frozen=True):
    """`ours` over `reference`, round by round, and the target of that ratio; None where it has none."""

    name: str
    ours: Measured
    reference: Measured
    target: Target | None

    @property
    def ratio(self) -> Spread:
        """Median, least and most of the rounds' ratios."""
        return spread([a / b for a, b in zip(self.ours.values, self.reference.values, strict=True)])

    @property
    def met(self) -> bool | None:
        """Whether the median ratio meets the target."""
        return None if self.target is None else self.target.met(self.ratio.median)

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        sides = {"ours": self.ours, "reference": self.reference}
        figures = {name: msgspec.to_builtins(side) | msgspec.to_builtins(side.spread) for name, side in sides.items()}
        return {"name": self.name, "ratio": self.ratio, "target": self.target, "met": self.met, **figures}


class Stated(msgspec.Struct, frozen=True):
    """A figure without a reference."""

    measured: Measured
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target."""
        return None if self.target is None else self.target.met(self.measured.spread.median)

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        measured = msgspec.to_builtins(self.measured) | msgspec.to_builtins(self.measured.spread)
        return {**measured, "target": self.target, "met": self.met}


class Report(msgspec.Struct, frozen=True):
    """What one bench found: at least one comparison, figures without a reference, and notes for the reader."""

    bench: str
    comparisons: tuple[Comparison, ...]
    stated: tuple[Stated, ...] = ()
    notes: tuple[str, ...] = ()
    machine: Mapping[str, Any] = {}

    @property
    def decisive(self) -> Comparison:
        """The comparison that misses its target by most, or comes closest to missing it."""
        bound = [one for one in self.comparisons if one.target is not None]
        return max(bound or self.comparisons, key=_shortfall)

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON; `ratio`, `target`, `ours` and `reference` are the decisive comparison's."""
        verdicts = [one.met for one in self.comparisons] + [one.met for one in self.stated]
        return {
            "bench": self.bench,
            **self.decisive.as_dict(),
            "met": all(met for met in verdicts if met is not None),
            "comparisons": [one.as_dict() for one in self.comparisons],
            "stated": [one.as_dict() for one in self.stated],
            "notes": self.notes,
            "machine": self.machine,
        }


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the least and the most of `values`, which are not empty."""
    return Spread(statistics.median(values), min(values), max(values))


def in_turn(rounds: int, *sides: Callable[[], float]) -> list[tuple[float, ...]]:
    """Call every side once a round, each round beginning with the next side; return the figures of each side."""
    found: list[list[float]] = [[] for _ in sides]
    with shown("bench", "measurement", rounds * len(sides)) as show:
        show(0, "")
        for number in range(rounds):
            for step in range(len(sides)):
                side = (number + step) % len(sides)
                found[side].append(sides[side]())
                show(number * len(sides) + step + 1, "")
    return [tuple(values) for values in found]


def at_least(value: float) -> Target:
    """Return the target of a figure that must be `value` or more."""
    return Target("at least", value)


def at_most(value: float) -> Target:
    """Return the target of a figure that must be `value` or less."""
    return Target("at most", value)


def machine(provider: str) -> dict[str, Any]:
    """Return what the figures depend on; `provider` ran the model, or is "none"."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "provider": provider,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def resident(pid: int | None = None) -> int:
    """Return the resident memory of process `pid` (None: this one) in bytes. Raises `CullingError` if it has ended."""
    try:
        status = Path(f"/proc/{pid or os.getpid()}/status").read_text()
    except OSError:
        raise CullingError(f"process {pid} has ended before its memory was read") from None
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")] or ["VmRSS: 0 kB"]
    return int(line.split()[1]) * 1024


def print_report(report: Report, as_json: bool) -> None:
    """Print a table, or JSON."""
    if as_json:
        typer.echo(msgspec.json.encode(report.as_dict()).decode())
        return
    console = Console()
    table = Table("", "ours", "reference", "ratio", "target", "met", title=f"culling bench {report.bench}")
    for row in _rows(report):
        table.add_row(*row)
    console.print(table)
    for one in report.comparisons:
        console.print(f"{one.name}: {one.ours.what}, against {one.reference.what}", highlight=False)
    for note in (*report.notes, _describe(report.machine)):
        console.print(note, highlight=False)


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    for one in report.comparisons:
        yield one.name, _figure(one.ours), _figure(one.reference), _span(one.ratio), _wanted(one.target), _met(one.met)
    for stated in report.stated:
        yield stated.measured.what, _figure(stated.measured), "", "", _wanted(stated.target), _met(stated.met)


def _figure(measured: Measured) -> str:
    return f"{_span(measured.spread)} {measured.unit}"


def _span(found: Spread) -> str:
    return f"{found.median:.3g} ({found.min:.3g} to {found.max:.3g})"


def _wanted(target: Target | None) -> str:
    return "stated" if target is None else f"{target.sense} {target.value:g}"


def _met(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "no"


def _describe(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    where = f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}, provider {facts['provider']}"
    return f"{where}, {facts['system']}, Python {facts['python']}, {versions}"


def _shortfall(one: Comparison) -> float:
    return 0.0 if one.target is None else one.target.shortfall(one.ratio.median)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
