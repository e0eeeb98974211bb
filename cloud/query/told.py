"""What came of a query: intervals of time, who looked at how many frames, what is certified, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from culling.cloud.query.bound import CONFIDENCE
from culling.cloud.query.cascade import Answers, Cascade, Sample
from culling.cloud.query.eyes import Footage, Sight

SHOWN = 10
"""Intervals on the contact sheet, the longest."""


class Interval(msgspec.Struct, frozen=True):
    """Frames in a row whose answer is yes: numbers of the first and last, and seconds of the video from and to."""

    first: int
    last: int
    start_s: float
    end_s: float

    @property
    def frames(self) -> int:
        """How many numbers it spans."""
        return self.last - self.first + 1


class Stage(msgspec.Struct, frozen=True):
    """How many frames one stage looked at, and the milliseconds of a look, as measured in this run or when kept."""

    frames: int
    ms: float


class Chosen(msgspec.Struct, frozen=True):
    """The cascade that was certified: a frame that differs by at most `difference` (0 to 255, mean of the grey picture)
    from the last one looked at keeps its answer; the student's no is believed below a score of `low`, its yes from
    `high` on.

    `wrong_yes` and `wrong_no` of the frames that certify it were not as the teacher says.
    """

    difference: float
    low: float
    high: float
    wrong_yes: int
    wrong_no: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a query found.

    `error` is what is certified, with `confidence`, of either kind of wrong answer, as a share of all frames. Without a
    `cascade` the teacher gave every answer. `chosen_by` and `certified_by` count the frames of the sample. `seconds`
    and `teacher_seconds` are frames times seconds of a look, decoding left out of both.
    """

    query: str
    video: str
    frames: int
    lost: int
    rate: float
    yes: int
    intervals: list[Interval]
    error: float
    confidence: float
    chosen_by: int
    certified_by: int
    cascade: Chosen | None
    stages: dict[str, Stage]
    unchanged: int
    seconds: float
    teacher_seconds: float
    speedup: float


def found(
    query: str, footage: Footage, sight: Sight, sample: Sample, cascade: Cascade | None, said: Answers, error: float
) -> Found:
    """Return what came of a query whose answers are `said`, by frame."""
    total = len(said)
    stages = _stages(footage, sight)
    seconds = sum(stage.frames * stage.ms for stage in stages.values()) / 1000
    teacher_s = total * stages["teacher"].ms / 1000
    return Found(
        query=query,
        video=footage.video.name,
        frames=total,
        lost=footage.lost,
        rate=footage.rate,
        yes=int(said.sum()),
        intervals=list(intervals(footage, said)),
        error=0.0 if cascade is None else error,
        confidence=CONFIDENCE,
        chosen_by=len(sample.choose),
        certified_by=len(sample.certify),
        cascade=None if cascade is None else _chosen(cascade),
        stages=stages,
        unchanged=0 if cascade is None else total - len(cascade.standing.looked),
        seconds=round(seconds, 3),
        teacher_seconds=round(teacher_s, 3),
        speedup=round(teacher_s / seconds, 2) if seconds else 0.0,
    )


def _chosen(cascade: Cascade) -> Chosen:
    low, high = cascade.levels.low, cascade.levels.high
    return Chosen(cascade.standing.level, low, high, cascade.wrong_yes, cascade.wrong_no)


def intervals(footage: Footage, said: Answers) -> Iterator[Interval]:
    """Yield runs of yes; a lost frame inside one does not end it. Its last frame is shown for as long as most are."""
    each = float(np.median(np.diff(footage.times))) if len(footage.times) > 1 else 1 / footage.rate
    edges = np.flatnonzero(np.diff(np.concatenate([[False], said, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        first, last = footage.numbers[start], footage.numbers[end - 1]
        yield Interval(first, last, round(footage.times[start], 3), round(footage.times[end - 1] + each, 3))


def middles(told: Found) -> list[int]:
    """Return the numbers of the frames in the middle of the longest intervals, ascending."""
    longest = sorted(told.intervals, key=lambda one: -one.frames)[:SHOWN]
    return sorted((one.first + one.last) // 2 for one in longest)


def lines(told: Found) -> Iterator[str]:
    """Yield what a person reads of it."""
    lost = f", {told.lost} more could not be decoded" if told.lost else ""
    yield f"{told.query} in {told.video}: {told.yes:,} of {told.frames:,} frames{lost}"
    for one in told.intervals:
        yield f"  {_clock(one.start_s)} to {_clock(one.end_s)}   {one.frames:,} frames from {one.first:,}"
    stages = told.stages
    sampled = told.chosen_by + told.certified_by
    yield (
        f"looked at: difference {stages['difference'].frames:,} frames, {told.unchanged:,} of them hardly changed; "
        f"student {stages['student'].frames:,}; teacher {stages['teacher'].frames:,}, {sampled:,} of them the sample"
    )
    yield _bounds(told)
    each = ", ".join(f"{name} {_ms(stage.ms)}" for name, stage in stages.items())
    yield (
        f"cost: {told.seconds:,.1f} s beside {told.teacher_seconds:,.1f} s for the teacher on every frame, "
        f"{told.speedup:.1f} times as fast (frames x median of a look: {each}; decoding left out of both)"
    )


def _bounds(told: Found) -> str:
    if told.chosen_by + told.certified_by == told.frames:
        return (
            "bounds: the teacher looked at every frame, since the sample is all of them; a smaller --sample, or a "
            "larger --error, leaves some to the student"
        )
    if told.cascade is None:
        return (
            "bounds: the teacher looked at every frame, since no cascade could be certified to keep to --error; "
            "a larger --error, or --sample, may help"
        )
    share = f"{100 * told.error:g} %"
    return (
        f"bounds: with {100 * told.confidence:g} % confidence at most {share} of the frames are yes where the teacher "
        f"says no, and at most {share} no where it says yes; in {told.certified_by:,} frames drawn to certify "
        f"{told.cascade.wrong_yes} and {told.cascade.wrong_no} were"
    )


def _stages(footage: Footage, sight: Sight) -> dict[str, Stage]:
    looked = {
        "difference": (len(footage.numbers), footage.grey_s),
        "student": (len(sight.by_student.score), sight.by_student.price),
        "teacher": (len(sight.by_teacher.score), sight.by_teacher.price),
    }
    return {name: Stage(frames, round(1000 * seconds, 4)) for name, (frames, seconds) in looked.items()}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02}:{rest:04.1f}"


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2f} ms"
