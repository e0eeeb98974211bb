"""How a demo ends: a table of its rounds, a sentence for each that was not published, and one on what it all came to.

No improvement is a finding, and told as one; what `failure` returns is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from culling.cloud.demo import cascade, pace
from culling.common.process.console import counted

WORDS = ("round", "outcome")
"""Columns of the table that hold words, aligned left."""

NOTICEABLE = 0.005
"""A smaller change of AP50 on a few dozen frames is rounding, not learning."""

Figures = Mapping[str, Any]


def print_closing(console: Console, figures: Figures) -> None:
    """Print what left the camera, what each round came to, and what that means."""
    console.print(_traffic(figures))
    console.print(_table(figures))
    steered = (*pace.sentences(figures["pace"]), *cascade.sentences(figures["cascade"]))
    for sentence in (*_remarks(figures), *_labels(figures), *_gate(figures), *steered, verdict(figures)):
        console.print(sentence)


def verdict(figures: Figures) -> str:
    """Return one sentence on whether the loop made the student better."""
    rounds, base, final = figures["rounds"], figures["map_base"], figures["map_final"]
    used = sum(_outcome(row) == "published" for row in rounds)
    told = f"{used} of {counted(len(rounds), 'round')} put a new student into use"
    if not rounds and figures["held"]:
        return "Rounds were held, by schedule.hold or a person, and none started, so there is nothing to compare."
    if not rounds:
        return "No round ended before the time limit, so there is nothing to compare: allow more with --minutes."
    if base is None or final is None:
        return f"{told}; the teacher sees nothing on the held-back part, so only the label file measures them."
    if final > base + NOTICEABLE:
        closed = f"{(final - base) / (1 - base):.0%} of what the first student lacked"
        return f"{told}: on frames that the loop never saw, AP50 rose from {base:.3f} to {final:.3f}, {closed}."
    if used:
        went = "fell" if final < base - NOTICEABLE else "hardly changed"
        return (
            f"{told}, but on frames that the loop never saw AP50 {went}: {base:.3f} before, {final:.3f} after. The "
            "loop works; these few frames taught nothing that helps on the rest of the clip. A longer video, or more "
            "--rounds, may."
        )
    return (
        f"No round made a better student than the first one, which stays in use with AP50 {base:.3f}. The loop works; "
        "this clip has little to teach it. A longer video, or another camera's, may."
    )


def failure(figures: Figures) -> str | None:
    """Return what went wrong, for an error; None where nothing did, however little the students learned."""
    failed = [row for row in figures["rounds"] if row["outcome"] == "failed"]
    if failed:
        return (
            f"round {failed[0]['id']} failed: {failed[0]['reason']}; run again with --work DIR, and see DIR/cloud.log"
        )
    if lost := figures["frames_lost"]:
        return f"{lost} selected frames never reached the store; run again with --work DIR, and see DIR/edge.log"
    return None


def _traffic(figures: Figures) -> str:
    rate = figures["forwarded_rate"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in figures["frames_forwarded"].items())
    sent, up, down = sum(figures["frames_forwarded"].values()), figures["bytes_up"] / 1e6, figures["bytes_down"] / 1e6
    return (
        f"\n{figures['frames_seen']} frames seen, {sent} forwarded ({rate:.2%}: {reasons}), "
        f"{figures['frames_lost']} lost; {up:.1f} MB up, {down:.1f} MB down; "
        f"{figures['teacher_frames']} frames labelled; {figures['wall_s'] / 60:.1f} minutes."
    )


def _table(figures: Figures) -> Table:
    title = f"Students on {figures['measured_frames']} held-back frames, against the teacher"
    caption = f"AP50 in use, measured by audits: {_accuracy(figures['accuracy'])}\nCost: {figures['bill']['told']}"
    # 80 columns have no room for lines between.
    table = Table(title=title, caption=caption, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("round", "outcome", "AP50", "AP50:95", "scale", "train", "model lag", "swap gap"):
        table.add_column(name, justify="left" if name in WORDS else "right", no_wrap=True)
    for row in figures["rounds"]:
        table.add_row(
            str(row["id"]),
            _outcome(row),
            f"{_score(row['map_before'])} → {_score(row['map_candidate'])}",
            _score(row["map_candidate_50_95"]),
            _text(row["scale"], ".2f"),
            _text(row["train_s"], ".0f", " s"),
            _text(row["model_lag_s"], ".0f", " s"),
            _text(row["swap_gap_ms"], ".0f", " ms"),
        )
    return table


def _accuracy(found: Figures | None) -> str:
    if found is None:
        return "too few audits"
    if (ap50 := found["ap50"]) is None:
        return "nothing seen"
    return f"{ap50['value']:.2f} ({ap50['low']:.2f} to {ap50['high']:.2f})"


def _outcome(row: Figures) -> str:
    """Return what became of a round: the edge may refuse a student that was published, or go back to the one before."""
    return str(row["swap"] if row["swap"] in ("rejected", "rolled-back") else row["outcome"])


def _remarks(figures: Figures) -> Iterator[str]:
    for row in figures["rounds"]:
        if (outcome := _outcome(row)) in ("rejected", "rolled-back"):
            did = "refused its student" if outcome == "rejected" else "tried its student and went back to the old one"
            yield f"Round {row['id']}: the edge {did}: {row['swap_reason']}."
        elif row["outcome"] == "refused":
            yield f"Round {row['id']} was refused: {_why(row)}."
        elif row["outcome"] == "failed":
            yield f"Round {row['id']} failed: {row['reason']}."


def _why(row: Figures) -> str:
    return f"{row['reason']}; the student in use stays" if row["gate_after"] is not None else str(row["reason"])


def _gate(figures: Figures) -> Iterator[str]:
    if any(row["gate_after"] is not None for row in figures["rounds"]):
        yield (
            "Each gate had only minutes of video to judge by, and took the likelier of two students, or the new one "
            "where it was less than .02 behind (gate.certainty = 0.5, gate.margin = -0.02); a deployment wants to be "
            "certain at 95 %, by 64 frames of blocks of five minutes."
        )


def _labels(figures: Figures) -> Iterator[str]:
    if (against := figures["map_vs_labels"]) is not None:
        yield (
            f"Against the label file: AP50 {_score(against['base'])} → {_score(against['final'])}, "
            f"AP50:95 {_score(against['base_50_95'])} → {_score(against['final_50_95'])}."
        )


def _score(value: float | None) -> str:
    return _text(value, ".3f")


def _text(value: float | None, form: str = "", unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
