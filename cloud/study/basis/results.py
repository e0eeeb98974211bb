"""The results of a study: printed as tables, and written as CSV, JSON and PNG named after clip and study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from culling.cloud.sheet import Draw, Row, to_csv, to_png
from culling.common.atomic import write_atomic


@dataclass(frozen=True)
class ResultTable:
    """One table for people: its title, its rows as text by heading, and a note below it."""

    title: str
    rows: Sequence[Mapping[str, str]]
    note: str = ""


@dataclass(frozen=True)
class Results:
    """Every figure of a study in `rows` of the same keys, their tables and plots, and facts that belong to no row."""

    rows: Sequence[Row]
    tables: Sequence[ResultTable]
    panels: Sequence[Draw]
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_results(found: Results, name: str, told: Mapping[str, Any], out: Path, console: Console) -> list[Path]:
    """Print the tables, write `name`.csv, .json and .png into `out`, and return their paths.

    `told` comes first in the JSON. Raises StorageError when a file cannot be written.
    """
    for shown in found.tables:
        print_table(shown, console)
    figures = {**told, **found.facts, "rows": list(found.rows)}
    files = {
        "csv": to_csv(found.rows),
        "json": msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n",
        "png": to_png(*found.panels),
    }
    paths = [out / f"{name}.{suffix}" for suffix in files]
    for path, data in zip(paths, files.values(), strict=True):
        write_atomic(path, data)
    return paths


def print_table(shown: ResultTable, console: Console) -> None:
    """Print a table for people."""
    table = Table(title=shown.title, caption=shown.note or None, caption_justify="left")
    for number, heading in enumerate(shown.rows[0] if shown.rows else ()):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    for row in shown.rows:
        table.add_row(*row.values())
    console.print(table)


def text(value: float | None, form: str = ".3f") -> str:
    """Return a figure as text, "-" where there is none."""
    return "-" if value is None else f"{value:{form}}"


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return mean, least and most over several seeds; all None if one of them has no value."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return {"": None, "_min": None, "_max": None}
    return {"": mean(known), "_min": min(known), "_max": max(known)}


def merged(flats: Sequence[Mapping[str, float | None]], prefix: str = "") -> dict[str, float | None]:
    """Return the spread of every figure over the mappings, one per seed."""
    return {
        f"{prefix}{name}{suffix}": value
        for name in flats[0]
        for suffix, value in spread([flat[name] for flat in flats]).items()
    }


def with_spread(row: Row, name: str) -> str:
    """Return the mean of a figure as text, with its least and most where they differ."""
    low, high = row[f"{name}_min"], row[f"{name}_max"]
    return text(row[name]) + (f" ({low:.3f}..{high:.3f})" if low != high else "")
