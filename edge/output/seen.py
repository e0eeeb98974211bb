"""What the camera path hands to the outputs: references and numbers, from which a record is made on another thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    each; `tracks[n]` is the number of its object, -1 for none yet, or None where objects are not tracked.
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

    def record(self, wanted: NDArray[np.bool_], zones: Mapping[str, ZoneCounts]) -> Record:
        """Return the record with the detections that the mask `wanted`, `(N,)`, selects, and those `zones`."""
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
            detections=self._detections(wanted),
            zones=dict(zones),
        )

    def _detections(self, wanted: NDArray[np.bool_]) -> tuple[Detection, ...]:
        found = self.found.where(wanted)
        places: list[tuple[str, ...]] = [()] * len(found)
        if self.inside is not None:
            names = tuple(self.zones)
            places = [tuple(names[zone] for zone in np.flatnonzero(column)) for column in self.inside[:, wanted].T]
        tracks = [None] * len(found) if self.tracks is None else [_track(one) for one in self.tracks[wanted].tolist()]
        boxes = np.round(found.boxes.astype(np.float64), PIXEL_DIGITS).tolist()
        scores = np.round(found.scores.astype(np.float64), SCORE_DIGITS).tolist()
        return tuple(
            Detection(self.classes[label], score, tuple(box), track, place)
            for label, score, box, track, place in zip(
                found.labels.tolist(), scores, boxes, tracks, places, strict=True
            )
        )


def _track(number: int) -> int | None:
    return None if number < 0 else number
