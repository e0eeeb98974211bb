"""What the last decisions of people changed where students are judged.

The gate goes by held-out frames. Of the last decisions, those on such frames count there at once: how right the student
is on them by what people said, beside what the teacher had said, tells what the looking was worth. It is the student in
use where that has looked at a frame, else the one that forwarded it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from culling.cloud.evaluation.ignored import compare_on
from culling.cloud.evaluation.matching import class_precision
from culling.cloud.review.desk import Desk
from culling.cloud.review.disputes import Students
from culling.cloud.store.frames import StoredFrame
from culling.common.process.console import counted

LAST = 20
"""Decisions that are looked back on: what somebody remembers of a session."""


def effect(desk: Desk, camera: str, students: Students) -> dict[str, Any] | None:
    """Return what a camera's last `LAST` decisions changed, None where nobody decided anything.

    `decided` of them `judges` are of held-out frames; on those the student's boxes have an AP50 in [0, 1], the mean
    over classes, of `by_teacher` and `by_people`, None without an object; `told` says it in words.
    """
    said = {one.frame: one for one in desk.reviews.newest(camera, LAST)}
    stored = [frame for frame in desk.store.get(said) if frame.held_out and frame.labels is not None]
    if not said:
        return None
    before = [replace(one, labels=teachers) for one in stored if (teachers := said[one.id].teacher) is not None]
    before += [one for one in stored if said[one.id].teacher is None]
    by_teacher, by_people = (_precision(desk, frames, students) for frames in (before, stored))
    told = _told(len(said), len(stored), by_teacher, by_people)
    return {
        "decided": len(said),
        "judges": len(stored),
        "by_teacher": by_teacher,
        "by_people": by_people,
        "told": told,
    }


def _precision(desk: Desk, frames: Sequence[StoredFrame], students: Students) -> float | None:
    """Return the AP50 of the student's boxes in frames by their labels, the mean over the classes of interest."""
    teacher = desk.settings.teacher
    compared = [compare_on(frame, students.found(frame)[1], teacher.true_score, teacher.min_score) for frame in frames]
    labels = {int(label) for one in compared for label in one.true.labels}
    wanted = desk.settings.round.labels_of_interest(frames[0].classes) if frames else None
    found = [class_precision(compared, label) for label in sorted(labels if wanted is None else labels & set(wanted))]
    return round(float(np.mean([one.ap50 for one in found if one is not None])), 4) if found else None


def _told(decided: int, judges: int, by_teacher: float | None, by_people: float | None) -> str:
    last = f"Of the last {counted(decided, 'decision')} {judges or 'none'}"
    if not judges:
        return f"{last} is on a frame that students are judged by."
    people, teacher = ("no object" if one is None else f"AP50 {one:.2f}" for one in (by_people, by_teacher))
    return (
        f"{last} {'is' if judges == 1 else 'are'} on frames that students are judged by: the student's boxes "
        f"have {people} there by what people said, {teacher} by what the teacher had said."
    )
