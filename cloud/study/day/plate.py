"""The place without what moves: the background plate of a clip, and the labelled objects that stand in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from culling.cloud.annotations.lines import Label
from culling.common.frame import iou

SAME_PLACE = 0.6
"""Boxes of two frames that overlap by this much (IoU) are of one thing that stands."""

STANDS = 0.5
"""What is in the same place in this share of the labelled frames belongs to the plate."""

TRUE_SCORE = 0.4
"""Labels from this score on are true; a thing is, where half of its boxes are."""

DOUBTED = 0.3
"""The score of a label that counts neither as right nor as wrong."""

MARGIN = 0.15
"""By this share of its size, at each side, a mover's box is enlarged before it is taken out: shadows reach further."""

LEAST = 3
"""Where fewer frames than this show the ground, the plain median is taken."""

QUIET = 25
"""Of the pixels, so many per cent show neither what moves nor leaves in the wind: the noise is measured there."""

LEAST_NOISE = 0.8
"""Grey levels: no camera has less, whatever a codec has taken away."""

ROWS = 32
"""Rows of the picture that are computed at once, which bounds the memory."""

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Standing:
    """A labelled object of the plate: class, box `(4,)` xyxy in pixels, and 1.0, or less where labels doubt it."""

    label: int
    box: NDArray[np.float32]
    score: float


def standing(labels: Sequence[Label]) -> list[Standing]:
    """Return what is seen in the same place in most of the labelled frames.

    A thing that is now of one class and now of another is of that in which it is surely seen most often; any other is
    doubtful there.
    """
    seen: list[tuple[int, Standing]] = []
    for label in sorted({int(one) for frame in labels for one in frame.detections.labels}):
        for boxes, scores in _places(labels, label):
            if len(boxes) >= STANDS * len(labels):
                sure = int(np.sum(scores >= TRUE_SCORE))
                score = 1.0 if 2 * sure >= len(scores) else DOUBTED
                seen.append((sure, Standing(label, np.median(boxes, 0).astype(np.float32), score)))
    found: list[Standing] = []
    for _, one in sorted(seen, key=lambda each: -each[0]):
        there = any(iou(one.box[None], other.box[None])[0, 0] >= SAME_PLACE for other in found)
        found.append(replace(one, score=DOUBTED) if there else one)
    return found


def moving(label: Label, stands: Sequence[Standing]) -> Mask:
    """Return which boxes `(N,)` of a frame are of none of the standing things."""
    boxes = label.detections.boxes
    if not stands or not len(boxes):
        return np.ones(len(boxes), np.bool_)
    overlap = iou(boxes, np.stack([one.box for one in stands]))
    return np.asarray(overlap.max(1) < SAME_PLACE)


def plate(pictures: Mapping[int, Picture], labels: Sequence[Label], stands: Sequence[Standing]) -> Picture:
    """Return the median `(H, W, 3)` of the pictures of labelled frames, without what moves there."""
    frames = [pictures[label.frame] for label in labels]
    free = np.stack([_free(label, stands, frames[0].shape[:2]) for label in labels])
    made = np.empty_like(frames[0])
    for top in range(0, len(made), ROWS):
        strip = np.stack([frame[top : top + ROWS] for frame in frames])
        made[top : top + ROWS] = _median(strip, free[:, top : top + ROWS])
    return made


def unrest(pictures: Mapping[int, Picture], ground: Picture) -> float:
    """Return the deviation of a pixel that shows nothing but ground from its plate, in grey levels: the noise."""
    differences = [np.abs(one[::4, ::4, 1].astype(np.int16) - ground[::4, ::4, 1]) for one in pictures.values()]
    mostly = np.mean(np.minimum(np.stack(differences), 12), 0)  # of each pixel; a median of whole levels is too coarse
    return max(LEAST_NOISE, float(np.percentile(mostly, QUIET)) * 1.2533)


def _places(labels: Sequence[Label], label: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the boxes and scores of one class, grouped by where they are."""
    rows = [(frame.detections.boxes, frame.detections.scores, frame.detections.labels == label) for frame in labels]
    boxes = np.concatenate([box[own] for box, _, own in rows])
    scores = np.concatenate([score[own] for _, score, own in rows])
    places = []
    while len(boxes):
        centre = int((iou(boxes, boxes) >= SAME_PLACE).sum(1).argmax())
        own = iou(boxes, boxes[centre : centre + 1])[:, 0] >= SAME_PLACE
        if own.sum() < STANDS * len(labels):
            break
        places.append((boxes[own], scores[own]))
        boxes, scores = boxes[~own], scores[~own]
    return places


def _free(label: Label, stands: Sequence[Standing], size: tuple[int, int]) -> Mask:
    free = np.ones(size, np.bool_)
    for x1, y1, x2, y2 in label.detections.boxes[moving(label, stands)]:
        x, y = MARGIN * (x2 - x1) + 2, MARGIN * (y2 - y1) + 2
        free[max(0, int(y1 - y)) : int(y2 + y) + 1, max(0, int(x1 - x)) : int(x2 + x) + 1] = False
    return free


def _median(strip: Picture, free: Mask) -> Picture:
    """Return the median over the first axis of `(F, h, W, 3)` where `(F, h, W)` is free."""
    used = free | (free.sum(0) < LEAST)
    ordered = np.sort(np.where(used[..., None], strip.astype(np.int16), 999), 0, kind="stable")
    middle = (used.sum(0) // 2)[None, ..., None]
    return np.asarray(np.take_along_axis(ordered, middle, 0)[0], np.uint8)
