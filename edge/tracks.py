"""Which boxes of successive frames are one object: ByteTrack, by the package `trackers` of the extra `culling[tracks]`.

Classes are tracked apart, since a person does not become a car; numbers are a camera's own and never come again. A new
object has a number from its second frame on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.common.errors import MissingExtraError
from culling.common.frame import Detections

NONE = -1
"""The number of a box that belongs to no object yet."""
SURE, LEAST = 0.5, 0.1
"""A new object takes the first score; to follow one, the second is enough, which is ByteTrack's idea."""
GONE_FRAMES = 45
"""How long an object may go unseen, in frames of 30 a second: a second and a half."""


class Tracks:
    """The objects of one camera. Raises MissingExtraError where the package is not installed."""

    def __init__(self, camera: str) -> None:
        try:
            import supervision
            from trackers import ByteTrackTracker
        except ImportError as error:  # of the package, or of libGL.so.1, which OpenCV below it wants
            raise MissingExtraError(
                f"camera {camera}: track cannot be used: {error}; pip install 'culling[tracks]', and the system's libGL"
            ) from None
        self._boxes: Callable[..., Any] = supervision.Detections
        self._make: Callable[[], Any] = lambda: ByteTrackTracker(
            lost_track_buffer=GONE_FRAMES, track_activation_threshold=SURE, high_conf_det_threshold=SURE
        )
        self._trackers: dict[int, Any] = {}
        self._numbers: dict[int, dict[int, int]] = {}
        self._given = 0

    def update(self, found: Detections, at: float) -> NDArray[np.int64]:
        """Return the number of each detection's object, `(N,)`; `at` is the frame's time in seconds, and rises."""
        numbers = np.full(len(found), NONE, np.int64)
        for label in {*self._trackers, *found.labels.tolist()}:
            rows = np.flatnonzero((found.labels == label) & (found.scores >= LEAST))
            if label not in self._trackers:
                self._trackers[label] = self._make()
            boxes = self._boxes(xyxy=found.boxes[rows], confidence=found.scores[rows], data={"row": rows})
            tracked = self._trackers[label].update(boxes, timestamp=at)
            for row, number in zip(tracked.data.get("row", ()), tracked.tracker_id.tolist(), strict=True):
                numbers[row] = self._number(label, number)
            alive = {track.tracker_id for track in self._trackers[label].tracks}
            known = self._numbers.get(label, {})
            self._numbers[label] = {number: ours for number, ours in known.items() if number in alive}
        return numbers

    def forget(self) -> None:
        """Begin anew: labels have another meaning from now on. No number is given twice."""
        self._trackers, self._numbers = {}, {}

    def _number(self, label: int, number: int) -> int:
        """Return a camera's own number of an object that a class's tracker numbered."""
        if number < 0:
            return NONE
        known = self._numbers.setdefault(label, {})
        if number not in known:
            self._given += 1
            known[number] = self._given
        return known[number]
