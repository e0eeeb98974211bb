"""Is a composed day worth studying? Student and teacher on composed frames of clear day, and on the clip's own.

A composition that gave itself away to a detector, or made its work easier, would score otherwise than the clip does.
Real frames are judged by the clip's labels, composed ones by what was laid into them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from culling.cloud.annotations.lines import read_labels
from culling.cloud.evaluation.evaluate import DOUBTFUL, EvaluationResult, frames_of, score, select, student
from culling.cloud.evaluation.holdout import TRUE_SCORE
from culling.cloud.evaluation.matching import compare
from culling.cloud.model.base import first_student
from culling.cloud.settings import CloudSettings
from culling.cloud.study.basis.results import ResultTable, text
from culling.cloud.study.day.compose import Composer
from culling.cloud.study.day.plate import Picture
from culling.cloud.teacher.loading import load_teacher
from culling.common.clock import DAY_S
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.graph import to_frame
from culling.common.progress import shown
from culling.common.video import count_frames

CLOSE = 0.05
"""AP50 of a detector on composed frames should be that near to its AP50 on real ones."""

CANDIDATES = 2000
"""Moments of the day among which clear ones are looked for."""

Shown = tuple[Picture, Detections]
Look = Callable[[Picture], Detections]


@dataclass(frozen=True)
class Checked:
    """One detector on real and on composed frames."""

    name: str
    real: EvaluationResult
    composed: EvaluationResult

    @property
    def close(self) -> bool:
        """Whether both are about equally hard."""
        return bool(abs(self.real.ap50 - self.composed.ap50) <= CLOSE)


def check(composer: Composer, video: Path, labels: Path, count: int, settings: CloudSettings) -> list[Checked]:
    """Return how the student and the teacher of the settings do on `count` frames of each kind.

    Raises InputError where the day is never clear, or frames of one kind show nothing to judge by.
    """
    classes = composer.cast.classes
    model, own = first_student(settings, classes)
    small = student(model, long_side=settings.student.long_side)
    large = load_teacher(settings)
    looks: dict[str, Look] = {
        "student": lambda picture: small(picture).among(own, classes),
        "teacher": lambda picture: large.label([picture])[0],
    }
    kinds = {"real": real_frames(video, labels, count, classes), "composed": clear_frames(composer, count)}
    found = []
    with shown("checking", "frame", 2 * len(looks) * count) as show:
        for place, (name, look) in enumerate(looks.items()):
            results = {kind: _score(look, frames, classes) for kind, frames in kinds.items()}
            found.append(Checked(name, **results))
            show(2 * (place + 1) * count, "")
    return found


def real_frames(video: Path, labels: Path, count: int, classes: tuple[str, ...]) -> list[Shown]:
    """Return labelled frames of the clip, evenly spaced, at most `count`."""
    told = select(read_labels(labels, classes), video, count_frames(video))
    numbers = sorted(told)
    chosen = {numbers[int(place)] for place in np.linspace(0, len(numbers) - 1, min(count, len(numbers)))}
    rows = frames_of(video, {number: told[number] for number in chosen})
    return [
        (frame, to_frame(label.detections, (label.height, label.width), (frame.shape[0], frame.shape[1])))
        for label, frame in rows
    ]


def clear_frames(composer: Composer, count: int) -> list[Shown]:
    """Return composed frames of clear day, between ten and four, evenly spaced among what is clear then.

    Raises InputError where the first day has none.
    """
    moments = np.linspace(10 / 24 * DAY_S, 16 / 24 * DAY_S, CANDIDATES).astype(int)
    clear = [int(moment) for moment in moments if composer.weather.clear(float(moment))]
    if not clear:
        raise InputError(f"--seed {composer.seed}: it rains from ten to four on the first day; check another seed")
    chosen = [clear[int(place)] for place in np.linspace(0, len(clear) - 1, min(count, len(clear)))]
    made = [composer.frame(number) for number in chosen]
    return [(one.picture, one.labels) for one in made]


def table(found: Sequence[Checked]) -> ResultTable:
    """Return the table for people."""
    rows = [
        {
            "detector": one.name,
            "AP50, real": text(one.real.ap50),
            "AP50, composed": text(one.composed.ap50),
            "apart": f"{one.composed.ap50 - one.real.ap50:+.3f}",
            f"within {CLOSE}": "yes" if one.close else "no",
            "by class, real / composed": _by_class(one),
        }
        for one in found
    ]
    note = f"{found[0].real.frames} real and {found[0].composed.frames} composed frames of clear day"
    return ResultTable("Is the composed day as hard as the clip?", rows, note)


def _by_class(one: Checked) -> str:
    names = list(one.real.per_class | one.composed.per_class)
    return ", ".join(f"{name} {_ap50(one.real, name)} / {_ap50(one.composed, name)}" for name in names)


def _ap50(result: EvaluationResult, name: str) -> str:
    return text(result.per_class[name].ap50) if name in result.per_class else "-"


def _score(look: Look, frames: Sequence[Shown], classes: tuple[str, ...]) -> EvaluationResult:
    return score([compare(look(picture), told, TRUE_SCORE, DOUBTFUL) for picture, told in frames], classes)
