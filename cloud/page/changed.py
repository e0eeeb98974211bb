"""What changed by a round, for people: the held-out frames on which the student before and the new one differ most.

The boxes of both are those that the gate judged; beside them stand the labels as they are now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from culling.cloud.changed.kept import Change, Changes
from culling.cloud.page import views
from culling.cloud.page.why import apart
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index, rounds
from culling.cloud.store.rounds import Rounds
from culling.common.process.console import counted

Row = dict[str, Any]


def changed(index: Index, settings: CloudSettings, round_id: int) -> Row | None:
    """Return where the students of a round differ most; None for a round that is not there, or that kept nothing.

    `before` and `after` name both students, `after` being "" where the new one was never published. Each of `frames`
    has boxes `before`, `after` and `teacher`, `[x1, y1, x2, y2, score, class]` in pixels, and what changed in words
    (`told`); `gone` counts those that are no longer stored, which is `gone_told` in words.
    """
    with index.read() as connection:
        known = connection.execute(sa.select(rounds.c.id).where(rounds.c.id == round_id)).first()
    turn = None if known is None else Rounds(index).get(round_id)
    if turn is None or not isinstance(found := turn.report.get("changed"), dict):
        return None
    rows = [_row(index, settings, one) for one in Changes(index).of(round_id)]
    frames = [row for row in rows if row is not None]
    gone = max(0, int(found["frames"]) - len(frames))
    names = {"round": turn.id, "camera": turn.camera, "before": found["before"], "after": turn.model_id or ""}
    return {**names, "frames": frames, "gone": gone, "gone_told": gone_told(gone, int(found["frames"]))}


def gone_told(gone: int, of: int) -> str:
    """Return in words that frames are no longer stored; "" where all are."""
    if not gone:
        return ""
    some = f"{gone} of the {of} frames" if gone < of else "the frame" if of == 1 else f"all {of} frames"
    verb = "is" if gone == 1 else "are"
    return f"{some} {verb} no longer stored: retention, a quota or a purge removed them, and what was found there"


def told_of(frame: Mapping[str, Any]) -> str:
    """Return what changed in a frame, by the labels that it has now."""
    before, after, teacher = frame["before"], frame["after"], frame["teacher"]
    if teacher is None:
        return f"the student before found {counted(len(before), 'box')}, the new one {len(after)}"
    hits = [len(teacher) - len(apart(teacher, found)) for found in (before, after)]
    false = [len(apart(found, teacher)) for found in (before, after)]
    parts = []
    if teacher:
        parts.append(
            f"of {counted(len(teacher), 'labelled object')} the student before found {hits[0]}, the new one {hits[1]}"
        )
    if any(false):
        parts.append(f"boxes where nothing is labelled: {false[0]} before, {false[1]} now")
    return "; ".join(parts)


def _row(index: Index, settings: CloudSettings, one: Change) -> Row | None:
    frame = views.frame(index, settings, one.frame)
    if frame is None:
        return None
    names: Sequence[str] = list(frame["colours"])
    shown = ("id", "captured", "reason", "width", "height", "colours", "decision", "teacher")
    both = {"before": views.boxes_of(one.before, names), "after": views.boxes_of(one.after, names)}
    told = {**{name: frame[name] for name in shown}, **both, "difference": round(one.difference, 2)}
    return {**told, "told": told_of(told)}
