"""What of a frame counts: places that its camera ignored when it was taken are left out of every comparison.

A label there is doubtful, whoever made it: it is neither learnt nor background, and no object. A detection there is
neither right nor wrong, by whichever student.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from culling.cloud.evaluation.matching import Compared, compare
from culling.cloud.store.frames import StoredFrame
from culling.common.frame import Detections
from culling.common.wire.ignored import standing


def counted(frame: StoredFrame, true_score: float) -> StoredFrame:
    """Return a frame whose labels in ignored places have a score just below `true_score`, at most."""
    if frame.labels is None or not frame.ignored:
        return frame
    return replace(frame, labels=_doubted(frame, frame.labels, true_score))


def outside(frame: StoredFrame, found: Detections) -> Detections:
    """Return the detections, in the frame's pixels, that stand in no ignored place."""
    return (
        found.where(~standing(frame.ignored, found, frame.classes, frame.width, frame.height))
        if frame.ignored
        else found
    )


def compare_on(frame: StoredFrame, found: Detections, true_score: float, doubtful_score: float) -> Compared:
    """Return what a model found on a labelled frame beside its labels, as `compare` does."""
    assert frame.labels is not None, frame.id
    labels = _doubted(frame, frame.labels, true_score)
    return compare(outside(frame, found), labels, true_score, doubtful_score)


def _doubted(frame: StoredFrame, labels: Detections, true_score: float) -> Detections:
    there = standing(frame.ignored, labels, frame.classes, frame.width, frame.height)
    if not there.any():
        return labels
    doubtful = np.nextafter(np.float32(true_score), np.float32(0))
    scores = np.where(there, np.minimum(labels.scores, doubtful), labels.scores)
    order = np.argsort(-scores, kind="stable")
    return Detections(labels.boxes[order], scores[order].astype(np.float32), labels.labels[order])
