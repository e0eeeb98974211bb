"""Why a frame was hard, in words: what the student doubted, what the teacher sees beside it, and why the frame left.

It reads the boxes that are shown, so that the words never say anything else than the picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from culling.common.frame import iou
from culling.common.process.console import counted

UNSURE = (0.4, 0.6)
"""Scores between which a student says neither yes nor no."""

FOUND = 0.5
"""The overlap from which two boxes of a class are the same object; as in AP50."""

DRAWN = {
    "audit": "drawn at random, to see what is missed",
    "bootstrap": "one of a new camera's first frames",
    "manual": "somebody asked for it",
}

Box = Sequence[Any]


def why(frame: Mapping[str, Any]) -> str:
    """Return it for a row of the gallery, whose boxes are `[x1, y1, x2, y2, score, class]`."""
    student, teacher = frame["student"], frame["teacher"]
    parts = [DRAWN[frame["reason"]]] if frame["reason"] in DRAWN else []
    low, high = UNSURE
    if unsure := sum(low <= box[4] < high for box in student):
        parts.append(f"{counted(unsure, 'box')} between {low:.1f} and {high:.1f}")
    if teacher is None:
        return "; ".join([*parts, "the teacher has not looked yet"])
    missed, false = apart(teacher, student), apart(student, teacher)
    if missed:
        parts.append(f"the teacher sees {_named(missed)} more")
    if false:
        parts.append(f"the student sees {_named(false)} that the teacher does not")
    if not missed and not false:
        parts.append("both see the same" if teacher else "both see nothing")
    return "; ".join(parts)


def apart(mine: Sequence[Box], theirs: Sequence[Box]) -> list[str]:
    """Return the class of each of my boxes that none of theirs matches, each of theirs matching once."""
    left, alone = list(theirs), []
    for box in sorted(mine, key=lambda one: -one[4]):
        same = [other for other in left if other[5] == box[5]]
        overlaps = iou(_array([box]), _array(same))[0] if same else np.zeros(0)
        if len(overlaps) and overlaps.max() >= FOUND:
            left.remove(same[int(overlaps.argmax())])
        else:
            alone.append(str(box[5]))
    return alone


def _array(boxes: Sequence[Box]) -> Any:
    return np.array([box[:4] for box in boxes], np.float32).reshape(-1, 4)


def _named(classes: Sequence[str]) -> str:
    return ", ".join(counted(count, name) for name, count in Counter(classes).most_common())
