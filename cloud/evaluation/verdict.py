"""What becomes of a candidate, and why, in words: published, published as provisional, or refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from culling.cloud.evaluation.bootstrap import LEAST_BLOCKS
from culling.cloud.evaluation.comparison import Check, StudentComparison
from culling.common.process.console import counted

Outcome = Literal["published", "provisional", "refused"]


@dataclass(frozen=True)
class Verdict:
    """What becomes of a candidate, and the sentence that says why."""

    outcome: Outcome
    reason: str


def decide(found: StudentComparison, margin: float, wanted: int, first: bool, classes: Sequence[str]) -> Verdict:
    """Return the verdict on a candidate.

    It is published when its gain is certainly above `margin` and every check passes. Where only certainty is missing,
    fewer than `wanted` frames judge, and it would be the camera's `first` trained student, it is provisional.
    """
    told = f"AP50 {found.gain:+.3f} ({found.before:.3f} → {found.after:.3f}, {_on(found, wanted)})"
    failed = [check for check in found.checks if not check.passed]
    if found.gain <= margin:
        return Verdict("refused", f"{told}, which is not more than {margin:+g}")
    if not failed and found.low > margin:
        return Verdict("published", f"{told}, at least {found.low:+.3f} ({_percent(found)})")
    missing = f"{told}, but {_doubt(found, margin, failed, classes)}"
    likely = all(check.likely for check in found.checks)
    if first and likely and found.frames < wanted:
        return Verdict("provisional", f"{missing}; provisional until {wanted} frames judge")
    return Verdict("refused", missing)


def describe(check: Check, classes: Sequence[str]) -> str:
    """Return a check in words: what it is of, and both figures."""
    if check.kind == "alarms":
        seen = f"{check.after:.0%} of frames have a false {classes[int(check.name)]}, {check.before:.0%} before"
        return f"{seen}{_low(check)}"
    what = classes[int(check.name)] if check.kind == "class" else check.name
    of = f"{check.judged} {'objects' if check.kind == 'class' else 'frames'}"
    return f"{what} {check.gain:+.3f} ({check.before:.3f} → {check.after:.3f}, {of}){_low(check)}"


def _doubt(found: StudentComparison, margin: float, failed: Sequence[Check], classes: Sequence[str]) -> str:
    if failed:
        return "; ".join(f"{describe(check, classes)}, limit {-check.margin:+.3f}" for check in failed)
    if found.blocks < LEAST_BLOCKS:
        return f"frames of {found.blocks} of {LEAST_BLOCKS} blocks of time that it takes to be certain judge"
    return f"the gain may be as low as {found.low:+.3f} ({_percent(found)}), and must exceed {margin:+g}"


def _low(check: Check) -> str:
    return "" if check.low is None else f", may be as low as {check.low:+.3f}"


def _percent(found: StudentComparison) -> str:
    return f"{100 * found.certainty:g} %"


def _on(found: StudentComparison, wanted: int) -> str:
    blocks = f"in {counted(found.blocks, 'block')}"
    if found.frames < wanted:
        return f"{found.frames} of {wanted} judges wanted, {blocks}"
    return f"{found.frames} judges {blocks}"
