"""Labels of a few frames linked over time: each object is followed through the frames between by its own look.

What is followed is the difference to the plate, where the ground is black, so that the ground holds nothing back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from culling.cloud.study.day.cut import Cut
from culling.common.frame import Detections, iou

MISSES = 2
"""A track ends when so many labelled frames in a row do not have it."""

MEETS = 0.25
"""IoU from which on a label is taken for what was followed to there."""

WIDEST = 7
"""Most pixels that an object may move otherwise than as before, from one frame to the next."""

PIXELS = 20
"""A look is compared at about this many pixels squared."""

Grey = NDArray[np.float32]
Box = NDArray[np.float32]


@dataclass(eq=False)
class Track:
    """One object: where labels had it, frame by frame, and its clean cuts. `votes` are scores by class."""

    first: int
    box: Box
    speed: NDArray[np.float32] = field(default_factory=lambda: np.zeros(2, np.float32))
    frames: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    votes: dict[int, float] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    missed: int = 0

    @property
    def label(self) -> int:
        """The class that its labels speak for."""
        return max(self.votes, key=lambda one: self.votes[one])

    def seen(self, number: int, box: Box, label: int, score: float) -> None:
        """Note where a label has it in frame `number`."""
        if self.frames and number > self.frames[-1]:
            middle = (box[:2] + box[2:] - self.boxes[-1][:2] - self.boxes[-1][2:]) / 2
            self.speed = np.asarray(middle / (number - self.frames[-1]), np.float32)
        self.box, self.missed = box, 0
        self.frames.append(number)
        self.boxes.append(box)
        self.votes[label] = self.votes.get(label, 0.0) + score


class Tracker:
    """Follows all objects through the frames of a clip, which come in order."""

    def __init__(self) -> None:
        self.ended: list[Track] = []
        self._live: list[Track] = []
        self._before: Grey | None = None

    def advance(self, ahead: Grey) -> None:
        """Follow everything into the next frame, whose difference to the plate is `ahead` `(H, W)`."""
        if self._before is not None:
            for track in self._live:
                moved = follow(self._before, ahead, track.box, track.speed)
                track.speed = np.asarray(0.7 * track.speed + 0.3 * moved, np.float32)
                track.box = track.box + np.tile(moved, 2)
        self._before = ahead

    def meet(self, number: int, found: Detections) -> list[Track | None]:
        """Link the labels of frame `number` to tracks, old or new; return the track of each.

        What has a low score begins no track.
        """
        linked: list[Track | None] = [None] * len(found)
        for mine, theirs in _pairs(self._live, found.boxes):
            linked[theirs] = mine
        for place, track in enumerate(linked):
            if track is None and found.scores[place] >= 0.4:
                track = linked[place] = Track(number, found.boxes[place])
                self._live.append(track)
            if track is not None:
                track.seen(number, found.boxes[place], int(found.labels[place]), float(found.scores[place]))
        for track in self._live:
            track.missed += track.frames[-1] != number
        self._let_go(MISSES)
        return linked

    def end(self) -> list[Track]:
        """Return all tracks, after the last frame."""
        self._let_go(0)
        return self.ended

    def _let_go(self, misses: int) -> None:
        self.ended += [track for track in self._live if track.missed >= misses]
        self._live = [track for track in self._live if track.missed < misses]


def follow(before: Grey, ahead: Grey, box: Box, speed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far `(dx, dy)` what fills `box` moved from one frame to the next, if it moved by about `speed`."""
    height, width = before.shape
    x1, y1 = max(0, round(float(box[0]))), max(0, round(float(box[1])))
    x2, y2 = min(width, round(float(box[2]))), min(height, round(float(box[3])))
    if x2 - x1 < 4 or y2 - y1 < 4:
        return speed
    reach = int(np.clip(round(0.08 * max(x2 - x1, y2 - y1)) + 1, 2, WIDEST))
    dx, dy = round(float(speed[0])), round(float(speed[1]))
    top, left = y1 + dy - reach, x1 + dx - reach
    if top < 0 or left < 0 or y2 + dy + reach > height or x2 + dx + reach > width:
        return speed
    step = max(1, round(((y2 - y1) * (x2 - x1)) ** 0.5 / PIXELS))
    look = before[y1:y2, x1:x2]
    windows = sliding_window_view(ahead[top : y2 + dy + reach, left : x2 + dx + reach], look.shape)
    off = np.abs(windows[:, :, ::step, ::step] - look[::step, ::step]).mean((2, 3))
    down, right = np.unravel_index(int(off.argmin()), off.shape)
    return np.array([dx + int(right) - reach, dy + int(down) - reach], np.float32)


def _pairs(tracks: Sequence[Track], boxes: Box) -> list[tuple[Track, int]]:
    """Return which track meets which box: those that overlap most first, each once."""
    if not tracks or not len(boxes):
        return []
    overlap = iou(np.stack([track.box for track in tracks]), boxes)
    pairs: list[tuple[Track, int]] = []
    while overlap.max() >= MEETS:
        mine, theirs = np.unravel_index(int(overlap.argmax()), overlap.shape)
        pairs.append((tracks[int(mine)], int(theirs)))
        overlap[mine], overlap[:, theirs] = 0.0, 0.0
    return pairs
