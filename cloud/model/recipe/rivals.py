"""One object, one label: where several boxes lie on one place, the best is learnt, and the others are doubted.

A teacher that is not sure calls one thing a car and a truck, and one that looks at tiles sees it twice. To learn both
would contradict itself; and of two boxes of one class that overlap so much, a student gives only one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from culling.common.frame import Detections, iou

SAME_PLACE = 0.5
"""Boxes that overlap by more than this IoU are on one place: students suppress the worse of two of one class."""


def outdone(found: Detections) -> NDArray[np.bool_]:
    """Return which boxes `(N,)` one of a higher score lies on; of equals, such as a person's labels, none is."""
    better = found.scores[None] > found.scores[:, None]
    return np.asarray((better & (iou(found.boxes, found.boxes) > SAME_PLACE)).any(1), np.bool_)
