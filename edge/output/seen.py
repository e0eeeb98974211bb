"""What the camera path hands to the outputs: references and numbers, from which a record is made on another thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.common.detections import Detection, Record, ZoneCounts
from culling.common.frame import Detections
from culling.common.selection.selector import Decision

PIXEL_DIGITS, SCORE_DIGITS, TIME_DIGITS = 1, 4, 3
"""Digits behind the point: what float32 boxes and scores are worth, and milliseconds."""


@dataclass(frozen=True)
class Seen:
    """One inferred frame. `inside[z, n]` says whether detection `n` is in zone `z` of `zones`, which has the counts of
    each; `tracks[n]` is the number of its object, -1 for none yet, or None where objects are not tracked. `teacher` is
    the name of whom the detections are, "" for the student.
    """

    camera: str
    seq: int
    pts: float
    captured: float
    width: int
    height: int
    model: str
    counter: int
    classes: tuple[str, ...]
    found: Detections
    decision: Decision
    loss: float
    zones: Mapping[str, ZoneCounts] = field(default_factory=dict)
    inside: NDArray[np.bool_] | None = None
    tracks: NDArray[np.int64] | None = None
    teacher: str = ""

    def record(self, wanted: NDArray[np.bool_], zones: Mapping[str, ZoneCounts]) -> Record:
        """Return the record with the detections that the mask `wanted`, `(N,)`, selects, and those `zones`."""
        return records([self], wanted, [zones])[0]

    def _record(self, detections: tuple[Detection, ...], zones: Mapping[str, ZoneCounts]) -> Record:
        return Record(
            camera=self.camera,
            model=self.model,
            counter=self.counter,
            seq=self.seq,
            pts=round(self.pts, TIME_DIGITS),
            at=round(self.captured, TIME_DIGITS),
            width=self.width,
            height=self.height,
            decision=self.decision.action.value,
            reason=self.decision.reason,
            loss=round(self.loss, SCORE_DIGITS),
            detections=detections,
            zones=dict(zones),
            by="teacher" if self.teacher else "student",
            teacher=self.teacher,
        )

    def _places(self, wanted: NDArray[np.bool_]) -> list[tuple[str, ...]]:
        """Return for each detection that is wanted the names of the zones it is in."""
        names, inside = tuple(self.zones), self.inside
        if inside is None:
            return [()] * int(wanted.sum())
        return [tuple(names[zone] for zone in np.flatnonzero(column)) for column in inside[:, wanted].T]

    def _numbers(self, wanted: NDArray[np.bool_]) -> list[int | None]:
        if self.tracks is None:
            return [None] * int(wanted.sum())
        return [None if number < 0 else number for number in self.tracks[wanted].tolist()]


def records(
    frames: Sequence[Seen], wanted: NDArray[np.bool_], zones: Sequence[Mapping[str, ZoneCounts]]
) -> list[Record]:
    """Return the records of frames, of all of whose detections, one frame after the other, those `wanted` are told.

    Their numbers are rounded together: numpy takes as long for the boxes of one frame as for those of a hundred.
    """
    found = [one.found for one in frames]
    boxes = np.concatenate([one.boxes for one in found])[wanted].astype(np.float64).round(PIXEL_DIGITS).tolist()
    scores = np.concatenate([one.scores for one in found])[wanted].astype(np.float64).round(SCORE_DIGITS).tolist()
    labels = np.concatenate([one.labels for one in found])[wanted].tolist()
    ends = np.cumsum([len(one) for one in found]).tolist()
    told_before = [0, *np.cumsum(wanted).tolist()]
    made, start = [], 0
    for one, end, counts in zip(frames, ends, zones, strict=True):
        mine = slice(told_before[start], told_before[end])
        names = [one.classes[label] for label in labels[mine]]
        parts: list[Iterable[Any]] = [names, scores[mine], map(tuple, boxes[mine])]
        if one.inside is not None or one.tracks is not None:
            own = wanted[start:end]
            parts += [one._numbers(own), one._places(own)]
        made.append(one._record(tuple(map(Detection, *parts)), counts))
        start = end
    return made
