"""What a fixed camera knows of its labels: a box of middling score may be no object, and its other frames tell.

    standing  it stays in one place for minutes in most frames, and scores middling there: a bunch of balloons that the
              teacher takes for a person at .3 to .47 for as long as it hangs there
    flash     the frames just before and just after have nothing of its class within the reach of a moving object

Such a box becomes a doubtful label, which counts neither as right nor as wrong, and under which nothing is trained.
Labels stay as the teacher gave them; this is applied as they are read, since later frames tell more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from culling.common.frame import Detections, iou

MIDDLING = 0.6
"""Boxes from here on are objects. The bundled teacher gives true ones that stand still this much in most frames."""

SAME_PLACE = 0.7
"""The overlap of two boxes of one thing that stands still: a teacher draws its edges a little differently each time."""

STANDS_S = 60.0
"""A walker pauses and a car waits at a light for less."""

HORIZON_S = 3600.0
"""How far to look in either direction: light and teacher change over hours, and so does what stands there."""

WITNESSES = 24
"""Frames that are asked about one, evenly spread over the horizon; more would cost time and tell the same."""

LEAST_WITNESSES = 5
"""Fewer frames say nothing of what usually stands in a place."""

FLASH_S = 2.0
"""The next frame on either side must be this near to tell of a flash; later, anything may have come and gone."""

SPEED = 6.0
"""How many of its own sides an object moves in a second, at most: a car of 4 m at 86 km/h."""


def settled(
    times: Sequence[float], labels: Sequence[Detections], asked: Collection[int], true_score: float
) -> dict[int, Detections]:
    """Return the labels of the frames `asked` (indices), the doubted ones with a score just below `true_score`.

    `times` are the seconds at which the camera's labelled frames were captured, ascending, and `labels` what the
    teacher said of each. Only scores from `true_score` to `MIDDLING` are doubted.
    """
    at = np.asarray(times, np.float64)
    return {index: _settled(at, labels, index, true_score) for index in asked}


def _settled(at: NDArray[np.float64], labels: Sequence[Detections], index: int, true_score: float) -> Detections:
    own = labels[index]
    middling = (own.scores >= true_score) & (own.scores < MIDDLING)
    if not middling.any():
        return own
    doubted = np.zeros(len(own), np.bool_)
    doubted[middling] = _stands(at, labels, index, own.where(middling)) | _flashes(
        at, labels, index, own.where(middling)
    )
    scores = np.where(doubted, np.nextafter(np.float32(true_score), np.float32(0)), own.scores)
    order = np.argsort(-scores, kind="stable")
    return Detections(own.boxes[order], scores[order].astype(np.float32), own.labels[order])


def _stands(at: NDArray[np.float64], labels: Sequence[Detections], index: int, own: Detections) -> NDArray[np.bool_]:
    """Return which boxes stand in their place for minutes, in most frames, and are middling there."""
    first, last = np.searchsorted(at, (at[index] - HORIZON_S, at[index] + HORIZON_S))
    picked = np.unique(np.linspace(first, last - 1, min(WITNESSES, last - first)).round().astype(int))
    witnesses = picked[picked != index]
    if len(witnesses) < LEAST_WITNESSES:
        return np.zeros(len(own), np.bool_)
    seen = np.array([_score_there(own, labels[witness]) for witness in witnesses])  # (W, B), 0 where nothing is
    there = seen > 0
    span = np.where(there, at[witnesses][:, None], at[index])
    lasts = span.max(0) - span.min(0) >= STANDS_S
    usual = [
        float(np.median(scores[found])) if found.any() else 1.0 for scores, found in zip(seen.T, there.T, strict=True)
    ]
    return np.asarray(lasts & (there.mean(0) > 0.5) & (np.array(usual) < MIDDLING))


def _score_there(own: Detections, other: Detections) -> NDArray[np.float64]:
    """Return the best score that another frame has for each box's class in its place, 0 where there is none."""
    if not len(other):
        return np.zeros(len(own))
    same = (own.labels[:, None] == other.labels[None]) & (iou(own.boxes, other.boxes) >= SAME_PLACE)
    return np.asarray(np.where(same, other.scores[None], 0.0).max(1), np.float64)


def _flashes(at: NDArray[np.float64], labels: Sequence[Detections], index: int, own: Detections) -> NDArray[np.bool_]:
    """Return which boxes have nothing of their class within reach in the frame before and in the one after."""
    lonely = np.ones(len(own), np.bool_)
    for other in (index - 1, index + 1):
        if not 0 <= other < len(at) or abs(at[other] - at[index]) > FLASH_S:
            return np.zeros(len(own), np.bool_)
        lonely &= ~_within_reach(own, labels[other], abs(float(at[other] - at[index])))
    return lonely


def _within_reach(own: Detections, other: Detections, seconds: float) -> NDArray[np.bool_]:
    centres, others = (part.boxes.reshape(-1, 2, 2).mean(1) for part in (own, other))
    side = (own.boxes[:, 2:] - own.boxes[:, :2]).max(1, initial=0.0)
    distance = np.abs(centres[:, None] - others[None]).max(2)
    near = distance <= ((1.0 + SPEED * seconds) * side)[:, None]
    return np.asarray((near & (own.labels[:, None] == other.labels[None])).any(1))
