"""The figures of a demo run, computed from the records that its processes left, and their plot."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from culling.cloud.bill.account import statements
from culling.cloud.control.steering.accuracy import read_measured
from culling.cloud.demo.cascade import Answering, read_answers
from culling.cloud.demo.pace import read_pace
from culling.cloud.demo.plan import Plan
from culling.cloud.demo.run import Demo
from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.evaluation.holdout import HeldOut, HeldOutScores
from culling.cloud.settings import ScheduleSettings, load_settings, sqlite_url
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.index import Index, frames
from culling.cloud.store.registry import Artefact, Model, ModelFiles, Registry
from culling.cloud.store.roster import Roster
from culling.cloud.store.rounds import Round, Rounds
from culling.common.clock import SystemClock
from culling.common.errors import CullingError
from culling.common.wire.messages import CameraState, SwapReport

OUTDONE = "evicted.window"
"""Counts held frames that better ones of their window outdid: they were dropped on purpose, not lost."""


def measure(
    run: Demo, held_out: HeldOut, plan: Plan, start: HeldOutScores, answering: Answering | None = None
) -> dict[str, Any]:
    """Return every figure of the run under stable names; students are measured on `held_out`.

    `start` are the scores of the student that the camera began with; `answering` is None where no cascade was wanted.
    """
    index = Index(sqlite_url(run.data_dir / "index.sqlite"))
    try:
        registry = Registry(index)
        models, swaps = registry.models(run.camera), registry.swaps()
        rounds = [row for row in Rounds(index).all(run.camera) if row.state != "running"]
        camera = next(row for row in Roster(index).rows() if row.name == run.camera)
        settings = load_settings(run.cloud_toml, run.changes.overrides("cloud"))
        bill = statements(index, settings, 0.0, time.time(), [run.camera])[run.camera].row()
        used = sorted((model for model in models if model.state != "rejected"), key=lambda model: model.counter)
        students = [model.model_id for model in used]
        held = are_held(index, settings.schedule, run.camera)
        pace = read_pace(index, settings, run.camera, students, camera.enrolled, SystemClock())
        with index.read() as connection:
            stored = connection.execute(sa.select(sa.func.count()).select_from(frames)).scalar_one()
            labelled = connection.execute(sa.select(sa.func.count(frames.c.labels))).scalar_one()
    finally:
        index.close()
    rounds = sorted(rounds, key=lambda row: row.id)
    candidates = _score_candidates(run, rounds, held_out)
    scores = {used[0].model_id: start} | {
        model.model_id: candidates[model.round] for model in used if model.round in candidates
    }
    first_results = read_trace(run.trace)
    rows = [_round(row, scores, candidates.get(row.id), swaps, first_results) for row in rounds]
    return {
        "video": run.video.name,
        "camera": run.camera,
        **_camera(camera.state),
        "accuracy": None if (found := read_measured(camera)) is None else msgspec.to_builtins(found.now),
        "bill": bill,
        "pace": pace,
        "cascade": None if answering is None else read_answers(run.metrics.read_text("utf-8"), run.camera, answering),
        **_traffic(run.metrics),
        "teacher_frames": labelled,
        "rounds": rows,
        "held": held,
        **_students(used, scores),
        "measured_frames": len(held_out),
        "plan": {**asdict(plan), "round_s": plan.round_s, "total_s": plan.total_s},
        "frames_lost": lost(run.folder / "edge" / "spool.sqlite", stored, camera.state.dropped if camera.state else {}),
    }


def are_held(index: Index, schedule: ScheduleSettings, camera: str) -> bool:
    """Return whether no round of a camera started since they are held: the demo itself holds them only after that."""
    held = schedule.hold or DesiredStates(index).all().get(camera, DesiredState()).held
    return held and not Rounds(index).all(camera)


def _score_candidates(run: Demo, rounds: Sequence[Round], held_out: HeldOut) -> dict[int, HeldOutScores]:
    """Return the scores of the student that each round made, published or not."""
    files = ModelFiles(run.data_dir / "models")
    made = {
        row.id: row.stages.get("gate", {}).get("artefact") or row.stages["export"]["artefact"]
        for row in rounds
        if "export" in row.stages
    }
    artefacts = {number: msgspec.convert(entered, Artefact) for number, entered in made.items()}
    return {
        number: held_out.score(files.path(one.sha256, "onnx"), one.scale, one.long_side)
        for number, one in artefacts.items()
    }


def _camera(state: CameraState | None) -> dict[str, Any]:
    if state is None:
        raise CullingError("the edge never reached the cloud: run again with --work DIR, and see DIR/edge.log")
    return {
        "frames_seen": state.seen,
        "frames_scored": state.inferred,
        "frames_forwarded": dict(state.forwarded),
        "frames_dropped": dict(state.dropped),
        "forwarded_rate": round(sum(state.forwarded.values()) / max(state.seen, 1), 4),
    }


def _traffic(metrics: Path) -> dict[str, int]:
    """Read the edge's byte counters, as scraped just before it was stopped."""
    values = {
        sample.name: int(sample.value)
        for family in text_string_to_metric_families(metrics.read_text("utf-8"))
        for sample in family.samples
    }
    return {"bytes_up": values["culling_bytes_sent_total"], "bytes_down": values["culling_bytes_received_total"]}


def _students(models: Sequence[Model], scores: Mapping[str, HeldOutScores]) -> dict[str, Any]:
    base, final = scores[models[0].model_id], scores[models[-1].model_id]
    return {
        "map_base": _ap(base.teacher),
        "map_final": _ap(final.teacher),
        "map_base_50_95": _ap(base.teacher, strict=True),
        "map_final_50_95": _ap(final.teacher, strict=True),
        "per_class_base": _per_class(base.teacher),
        "per_class_final": _per_class(final.teacher),
        "map_vs_labels": {
            "base": _ap(base.labels),
            "final": _ap(final.labels),
            "base_50_95": _ap(base.labels, strict=True),
            "final_50_95": _ap(final.labels, strict=True),
        }
        if base.labels
        else None,
    }


def _ap(result: EvaluationResult | None, strict: bool = False) -> float | None:
    """Return AP50, or AP50:95 if `strict`; None where nothing could be measured."""
    if result is None:
        return None
    return result.ap50_95 if strict else result.ap50


def _per_class(result: EvaluationResult | None) -> dict[str, float]:
    return {name: one.ap50 for name, one in result.per_class.items()} if result else {}


def _round(
    row: Round,
    scores: Mapping[str, HeldOutScores],
    candidate: HeldOutScores | None,
    swaps: Mapping[str, SwapReport],
    first_results: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    report, model_id = row.report, row.model_id or ""
    before, after = scores.get(report.get("parent") or ""), scores.get(model_id)
    swap, first = swaps.get(f"{row.camera}/{model_id}"), first_results.get(model_id)
    newest = report.get("newest_capture")
    shown = ("labelled", "kept", "scale", "curve", "train_s")
    return {
        "id": row.id,
        "outcome": row.state,
        "reason": row.reason,
        **{name: report.get(name) for name in shown},
        "seconds": report.get("seconds") or {},
        "gate_before": report.get("map_before"),
        "gate_after": report.get("map_after"),
        "gate_frames": report.get("frames"),
        "map_before": _ap(before.teacher) if before else None,
        "map_after": _ap(after.teacher) if after else None,
        "map_before_50_95": _ap(before.teacher, strict=True) if before else None,
        "map_after_50_95": _ap(after.teacher, strict=True) if after else None,
        "map_candidate": _ap(candidate.teacher) if candidate else None,
        "map_candidate_50_95": _ap(candidate.teacher, strict=True) if candidate else None,
        "published": row.state == "published",
        "swap": swap.outcome if swap else None,
        "swap_reason": swap.reason if swap else "",
        "swap_gap_ms": round(1000 * first[1], 1) if first else None,
        "model_lag_s": round(first[0] - newest, 1) if first and newest else None,
    }


def read_trace(path: Path) -> dict[str, tuple[float, float]]:
    """Return for each model the wall time of its first result, and the seconds since the result before that."""
    if not path.exists():
        return {}  # the edge was stopped before its first result
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    first: dict[str, tuple[float, float]] = {}
    for before, line in pairwise(lines):
        if line["model_id"] != before["model_id"]:
            first.setdefault(line["model_id"], (line["t"], line["t"] - before["t"]))
    return first


def lost(spool: Path, stored: int, dropped: Mapping[str, int]) -> int:
    """Return how many selected frames never reached the store, not counting those that better ones replaced.

    `dropped` holds the camera's drops by reason; only the recorder's are of selected frames.
    """
    with closing(sqlite3.connect(spool)) as connection:
        counted = dict(connection.execute("SELECT name, SUM(value) FROM counters WHERE camera != '' GROUP BY name"))
        (spooled,) = connection.execute("SELECT COUNT(*) FROM frames").fetchone()
    arrived = counted.get("acked", 0) + counted.get(OUTDONE, 0) + spooled
    unrecorded = dropped.get("queue-full", 0) + dropped.get("storage", 0)
    return int(counted.get("made", 0) - arrived + max(0, counted.get("acked", 0) - stored) + unrecorded)


def write_plots(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the run's plot into `folder` as PNG, and return its path in a list."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (students, rates), (curves, stages) = figure.subplots(2, 2)
    _plot_students(students, figures)
    _plot_forwarded(rates, figures)
    _plot_curves(curves, figures["rounds"])
    _plot_stages(stages, figures["rounds"])
    figure.suptitle(f"{figures['video']}: {len(figures['rounds'])} rounds in {figures['wall_s'] / 60:.1f} minutes")
    path = folder / "demo.png"
    figure.savefig(path, dpi=120)
    return [path]


def _plot_students(axes: Any, figures: Mapping[str, Any]) -> None:
    published = [row for row in figures["rounds"] if row["map_after"] is not None]  # the others left no student in use
    names = ["base", *(f"round {row['id']}" for row in published)]
    for label, base, key in (("AP50", "map_base", "map_after"), ("AP50:95", "map_base_50_95", "map_after_50_95")):
        axes.plot(names, [figures[base], *(row[key] for row in published)], marker="o", label=label)
    axes.set(title="Student on the held-back part, against the teacher", ylim=(0, 1))
    axes.legend(frameon=False)


def _plot_forwarded(axes: Any, figures: Mapping[str, Any]) -> None:
    forwarded = figures["frames_forwarded"]
    bars = axes.bar(list(forwarded), list(forwarded.values()))
    axes.bar_label(bars)
    share = f"{figures['forwarded_rate']:.1%} of {figures['frames_seen']} seen"
    axes.set(title=f"Forwarded by reason: {share}", ylabel="frames")


def _plot_curves(axes: Any, rounds: Any) -> None:
    for row in rounds:
        if len(row["curve"] or ()) < 2:  # full size alone
            continue
        scales = [point["scale"] for point in row["curve"]]
        values = [point["normalised"] for point in row["curve"]]
        line = axes.plot(scales, values, marker=".", label=f"round {row['id']}")
        chosen = min(row["curve"], key=lambda point: abs(point["scale"] - row["scale"]))
        axes.plot(chosen["scale"], chosen["normalised"], marker="*", markersize=14, color=line[0].get_color())
    axes.set(title="optResolution (star: chosen)", xlabel="scale", ylabel="MSE of the loss / its mean square")
    axes.invert_xaxis()
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "full size: no smaller input was tried", ha="center", va="center", transform=axes.transAxes)


def _plot_stages(axes: Any, rounds: Any) -> None:
    names = [f"round {row['id']}" for row in rounds]
    bottom = [0.0] * len(rounds)
    for stage in dict.fromkeys(stage for row in rounds for stage in row["seconds"]):
        values = [row["seconds"].get(stage, 0.0) for row in rounds]
        axes.bar(names, values, bottom=bottom, label=stage)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set(title="Seconds per stage", ylabel="s")
    if names:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # beside the bars, not on them
