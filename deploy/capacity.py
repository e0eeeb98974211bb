"""What so many cameras take in the cloud, and what that costs: `python deploy/capacity.py --set cameras=100000`.

Prints what is put in, with where it comes from, and what comes out, as the two tables of docs/capacity.md. Measured are
unit costs on two CPU cores and counted operations; prices, and how fast a GPU is, are assumptions that you replace with
`--set NAME=VALUE`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

DAY_S, MONTH_D = 86_400, 30.4
TB, PFLOP = 1e12, 1e15


def given(value: float, unit: str, source: str) -> float:
    """Return a field with its unit, and where its value comes from."""
    return field(default=value, metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class Given:
    """What is put in. A source is a setting, a page on which the measurement stands, or the word `assumed`."""

    cameras: float = given(100_000, "", "yours")
    cameras_per_edge: float = given(4, "", "yours")
    frames_per_window: float = given(40, "frames an hour and camera", "`selector.frames_per_window`")
    labels_per_day: float = given(640, "frames a day and camera, at most", "`labelling.per_day`")
    retention_days: float = given(30, "days", "`store.retention_days`")
    heartbeat_s: float = given(5, "seconds", "`cloud.heartbeat_s`")
    rounds_per_day: float = given(2, "a day and camera", "docs/sizing.md")
    jpeg_kb: float = given(108, "kB a frame", "docs/sizing.md")
    model_mb: float = given(57.6, "MB of ONNX a round", "docs/sizing.md")
    weights_mb: float = given(28.8, "MB of weights a round", "docs/sizing.md")
    models_kept: float = given(3, "a camera", "assumed")
    label_s: float = given(1.16 / 2.3, "seconds of two cores a label", "docs/sizing.md")
    round_s: float = given(1200, "seconds of two cores a round", "docs/sizing.md")
    label_gflop: float = given(158, "GFLOP a label", "docs/sizing.md")
    round_tflop: float = given(397, "TFLOP a round, at most", "docs/sizing.md")
    ingest_per_s: float = given(1290, "frames/s an ingest", "docs/sizing.md")
    edge_mb: float = given(0.18, "MB of an ingest an edge", "docs/sizing.md")
    gpu_tflop_s: float = given(15, "TFLOP/s that a GPU really does", "assumed: none was measured")
    busy: float = given(0.7, "of the time, workers work", "assumed")
    core_hour: float = given(0.04, "money an hour of a core", "assumed")
    gpu_hour: float = given(1.0, "money an hour of a GPU", "assumed")
    storage_gb: float = given(0.023, "money a GB and month", "assumed")
    put_million: float = given(5.0, "money a million writes", "assumed")
    get_million: float = given(0.4, "money a million reads", "assumed")
    egress_gb: float = given(0.05, "money a GB that leaves", "assumed")
    database_month: float = given(2000, "money a month, a pair of servers", "assumed")


@dataclass(frozen=True)
class Row:
    """One line of what comes out."""

    name: str
    value: float
    unit: str
    formula: str


def flows(put: Given) -> list[Row]:
    """What goes in and out, and what is kept."""
    frames = put.cameras * put.frames_per_window * 24 / DAY_S
    edges = put.cameras / put.cameras_per_edge
    rounds = put.cameras * put.rounds_per_day
    pictures = frames * DAY_S * put.jpeg_kb * 1e3
    models = (put.model_mb + put.weights_mb) * 1e6 * put.models_kept * put.cameras
    return [
        Row("edges", edges, "", "cameras / cameras_per_edge"),
        Row("frames in", frames, "a second", "cameras * frames_per_window / 3,600"),
        Row("beats in", edges / put.heartbeat_s, "a second", "edges / heartbeat_s"),
        Row("pictures in", pictures / TB, "TB a day", "frames * jpeg_kb"),
        Row("models out", rounds * put.model_mb * 1e6 / TB, "TB a day, at most", "cameras * rounds_per_day * model_mb"),
        Row(
            "kept",
            (pictures * put.retention_days + models) / TB,
            "TB",
            "pictures * retention_days + cameras * models_kept * (model_mb + weights_mb)",
        ),
        Row("writes", (frames * DAY_S + 2 * rounds) / 1e6, "million a day", "frames + 2 * rounds"),
        Row("reads", put.cameras * put.labels_per_day * 2 / 1e6, "million a day", "2 * cameras * labels_per_day"),
    ]


def machines(put: Given) -> list[Row]:
    """What has to run, at the load of a mean hour."""
    frames = put.cameras * put.frames_per_window * 24 / DAY_S
    labels, rounds = (put.cameras * each / DAY_S for each in (put.labels_per_day, put.rounds_per_day))
    cores = 2 * (labels * put.label_s + rounds * put.round_s) / put.busy
    work = labels * put.label_gflop * 1e9 + rounds * put.round_tflop * 1e12
    edges = put.cameras / put.cameras_per_edge
    return [
        Row("ingests", max(3.0, frames / put.ingest_per_s / put.busy), "at least 3", "frames / ingest_per_s / busy"),
        Row("memory of all ingests", edges * put.edge_mb / 1e3, "GB", "edges * edge_mb"),
        Row(
            "cores, if no GPU is used",
            cores,
            "",
            "2 * (cameras * labels_per_day * label_s + rounds * round_s) / 86,400 / busy",
        ),
        Row("work", work / PFLOP, "PFLOP/s", "(labels * label_gflop + rounds * round_tflop) / 86,400"),
        Row("GPUs instead of those", work / (put.gpu_tflop_s * 1e12) / put.busy, "", "work / gpu_tflop_s / busy"),
    ]


def bill(put: Given) -> list[Row]:
    """Money a month; the two ways to label and train exclude each other."""
    out = {row.name: row.value for row in (*flows(put), *machines(put))}
    hours = 24 * MONTH_D
    kept = [
        Row("bytes kept", out["kept"] * 1e3 * put.storage_gb, "a month", "kept * storage_gb"),
        Row(
            "requests",
            (out["writes"] * put.put_million + out["reads"] * put.get_million) * MONTH_D,
            "a month",
            "writes * put_million + reads * get_million",
        ),
        Row("models out", out["models out"] * 1e3 * put.egress_gb * MONTH_D, "a month", "models out * egress_gb"),
        Row("database", put.database_month, "a month", "database_month"),
        Row(
            "ingest, page, control",
            (2 * out["ingests"] + 8) * put.core_hour * hours,
            "a month",
            "(2 * ingests + 8) * core_hour",
        ),
    ]
    gpus = out["GPUs instead of those"] * put.gpu_hour * hours
    cores = out["cores, if no GPU is used"] * put.core_hour * hours
    rest = sum(row.value for row in kept)
    return [
        *kept,
        Row("labels and rounds on GPUs", gpus, "a month", "GPUs * gpu_hour"),
        Row("labels and rounds on cores", cores, "a month", "cores * core_hour"),
        Row("all, with GPUs", rest + gpus, "a month", "the five and the GPUs"),
        Row("a camera, with GPUs", (rest + gpus) / put.cameras, "a month", "all / cameras"),
    ]


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    """Return a table of Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def told(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def tables(put: Given) -> str:
    """Return what is put in, and what comes out."""
    inputs = [
        (f"`{one.name}`", told(getattr(put, one.name)), one.metadata["unit"], one.metadata["source"])
        for one in fields(put)
    ]
    outputs = [
        (row.name, told(row.value), row.unit, f"`{row.formula}`") for row in (*flows(put), *machines(put), *bill(put))
    ]
    first = table(("put in", "value", "unit", "from"), inputs)
    return f"{first}\n\n{table(('comes out', 'value', 'unit', 'formula'), outputs)}"


def parsed(pairs: list[str]) -> Given:
    """Return the defaults with `NAME=VALUE` in their place. Raises ValueError that names what is known."""
    names = [one.name for one in fields(Given)]
    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in names:
            raise ValueError(f"--set {pair}: expected NAME=VALUE; known are {', '.join(names)}")
        try:
            changes[name] = float(value)
        except ValueError:
            raise ValueError(f"--set {pair}: {value!r} is no number") from None
    return replace(Given(), **changes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What so many cameras take in the cloud, and what that costs.")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="replace what is put in")
    try:
        print(tables(parsed(parser.parse_args().set)))
    except ValueError as error:
        parser.error(str(error))
