"""Second stage of culling: how wrong the student is on each frame, by the teacher's labels, and the n worst frames.

A frame's hardness is one minus its average precision at IoU 0.5, with real matching. (The paper's released code for
this stage computes no average precision, and compares frames in different orders; it is not ported.)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from culling.cloud.evaluation.matching import Compared, frame_ap50, has_false_alarm

HardnessKind = Literal["hard", "hard-negative", "easy"]

STUDENT_FLOOR = 0.2
"""Student detections below this count neither as right nor as wrong when frames are culled."""


@dataclass(frozen=True)
class Hardness:
    """How wrong the student was on one frame: `value` in [0, 1], 1 being worst.

    A `hard-negative` is a frame where the teacher sees nothing and the student something; `easy` is one that the
    student got entirely right, also where both see nothing.
    """

    value: float
    kind: HardnessKind


def frame_precision(frame: Compared, interest: Collection[int] | None = None) -> float:
    """Return the student's average precision on one frame at IoU 0.5, the teacher's detections being the truth.

    It is the mean over the classes (of `interest`, if given) that either of them sees; a class that only the student
    sees counts 0, unless the teacher doubts all of it. Where both see nothing it is 1.
    """
    values = []
    for label in map(int, np.union1d(frame.found.labels, frame.true.labels)):
        if interest is not None and label not in interest:
            continue
        if (ap50 := frame_ap50(frame, label)) is not None:
            values.append(ap50)
        elif has_false_alarm(frame, label):
            values.append(0.0)
    return float(np.mean(values)) if values else 1.0


def hardness(frame: Compared, interest: Collection[int] | None = None) -> Hardness:
    """Return how wrong the student was on a frame whose detections were already cut at `STUDENT_FLOOR`."""
    value = 1.0 - frame_precision(frame, interest)
    true = frame.true.labels if interest is None else np.intersect1d(frame.true.labels, list(interest))
    if value > 0 and not len(true):
        return Hardness(value, "hard-negative")
    return Hardness(value, "hard" if value > 0 else "easy")


def worst(frames: Sequence[Hardness], count: int) -> list[int]:
    """Return the indices of the `count` hardest frames, hardest first; of equals the earlier one goes first."""
    return sorted(range(len(frames)), key=lambda index: (-frames[index].value, index))[:count]
