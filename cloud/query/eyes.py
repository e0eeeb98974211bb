"""What looks at a stored video: the difference detector at every frame, student and teacher at those they are given.

Frames are indices of those that can be decoded, in order. A call of student or teacher plays the video up to the last
frame that it wants and was not looked at before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from culling.cloud.query.cascade import Answers, Indices
from culling.cloud.query.difference import GRID
from culling.cloud.teacher.remembered import Remembered
from culling.common.errors import CameraError
from culling.common.frame import Detections
from culling.common.progress import shown
from culling.common.scaler import quarter_turns, scale_picture
from culling.common.video import FAILURES, announced_frames, frame_rate, play, read_frames

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Footage:
    """A video as it was played once: the `numbers` of its frames, their small grey pictures `(N, 36, 64)`, the `times`
    at which they are shown, in seconds from the first, its `rate` in frames/s as announced, the upright `size`
    `(width, height)`, how many frames were `lost`, and seconds per grey picture.

    Frames need not come at even distances: a recording has gaps where its camera was away. `cut` where it may go on
    beyond them; `announced` is how many frames its container has by its header, None where that says nothing.
    """

    video: Path
    numbers: tuple[int, ...]
    greys: NDArray[np.uint8]
    times: tuple[float, ...]
    rate: float
    size: tuple[int, int]
    lost: int
    grey_s: float
    cut: bool = False
    announced: int | None = None

    @property
    def held(self) -> int:
        """How many frames it holds up to where it was played, with those that are lost or only announced."""
        played = len(self.numbers) + self.lost
        return played if self.cut else max(played, self.announced or 0)

    def pictures(self, frames: Sequence[int]) -> Iterator[Picture]:
        """Yield those frames as `(H, W, 3)` RGB; they are ascending."""
        for _, picture in read_frames(self.video, [self.numbers[frame] for frame in frames]):
            yield picture


def watch(video: Path, most: int | None = None) -> Footage:
    """Return the video, or its first `most` frames. Raises CameraError where there is no picture in it."""
    numbers, greys, shown, seconds, lost = [], [], [], [], 0
    size = (0, 0)
    for frame in islice(play(video), most):
        started = time.perf_counter()
        try:
            grey = None if frame.picture is None else scale_picture(frame.picture, *GRID, "gray")
        except FAILURES:
            grey = None
        if grey is None or frame.picture is None:
            lost += 1
            continue
        seconds.append(time.perf_counter() - started)
        size = frame.picture.width, frame.picture.height
        if quarter_turns(frame.picture) % 2:
            size = size[1], size[0]
        numbers.append(frame.number)
        greys.append(grey)
        shown.append(frame.picture.time)
    if not numbers:
        raise CameraError(f"{video}: no frame of it can be decoded; give another video")
    played = len(numbers) + lost
    told, rate = (played == most, announced_frames(video)), frame_rate(video)
    times = _times(numbers, shown, rate)
    return Footage(video, tuple(numbers), np.stack(greys), times, rate, size, lost, median(seconds), *told)


def _times(numbers: Sequence[int], shown: Sequence[float | None], rate: float) -> tuple[float, ...]:
    """Return when each frame is shown, in seconds from the video's first; by its number where the file does not say."""
    known = [at for at in shown if at is not None]
    if len(known) < len(shown) or any(after <= before for before, after in pairwise(known)):
        return tuple(number / rate for number in numbers)
    begin = known[0] - numbers[0] / rate
    return tuple(at - begin for at in known)


@dataclass
class Looks:
    """What was looked at by one of the two, and the seconds of each look."""

    score: dict[int, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def price(self) -> float:
        """The seconds of a look: the median, since the first ones also make ready what the others use."""
        return median(self.seconds) if self.seconds else 0.0


class Sight:
    """Student and teacher of one question, on one video.

    `student` returns what it finds in one picture, and `score` how much that speaks for a yes; `teacher` remembers what
    it found, and `answer` says what that means. Raises what these raise.
    """

    def __init__(
        self,
        footage: Footage,
        student: Callable[[Picture], Detections],
        score: Callable[[Detections], float],
        teacher: Remembered,
        answer: Callable[[Detections], bool],
    ) -> None:
        self._footage = footage
        self._student, self._score = student, score
        self._teacher, self._answer = teacher, answer
        self.by_student, self.by_teacher = Looks(), Looks()

    def student(self, frames: Indices) -> NDArray[np.float64]:
        """Return the score in [0, 1] by which the student would say yes."""
        looks, new = self.by_student, _new(self.by_student, frames)
        if new:
            with shown("student", "frame", len(new)) as show:
                for done, (frame, picture) in enumerate(zip(new, self._footage.pictures(new), strict=True), 1):
                    started = time.perf_counter()
                    looks.score[frame] = self._score(self._student(picture))
                    looks.seconds.append(time.perf_counter() - started)
                    show(done, "")
        return np.array([looks.score[int(frame)] for frame in frames], np.float64)

    def teacher(self, frames: Indices) -> Answers:
        """Return the answer by the teacher."""
        looks, new = self.by_teacher, _new(self.by_teacher, frames)
        if new:
            seen = self._teacher.see(self._footage.pictures(new), len(new))
            looks.score |= {frame: self._answer(one.found) for frame, one in zip(new, seen, strict=True)}
            looks.seconds += [one.seconds for one in seen]
        return np.array([looks.score[int(frame)] for frame in frames], bool)

    def price(self) -> tuple[float, float]:
        """Return the seconds that a look of student and of teacher takes."""
        return self.by_student.price, self.by_teacher.price


def _new(looks: Looks, frames: Indices) -> list[int]:
    """Return those of `frames` that were not looked at, ascending."""
    return sorted({int(frame) for frame in frames} - looks.score.keys())
