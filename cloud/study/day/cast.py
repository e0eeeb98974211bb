"""Who plays: what a labelled clip has to compose a day of: its plate, what stands there, and the objects that pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from culling.cloud.annotations.lines import Label, read_labels
from culling.cloud.evaluation.evaluate import select
from culling.cloud.study.day.cut import SOLID, Cut, cut
from culling.cloud.study.day.plate import Picture, Standing, moving, plate, standing, unrest
from culling.cloud.study.day.tracks import Track, Tracker
from culling.common.errors import CameraError, InputError
from culling.common.frame import Detections
from culling.common.graph import to_frame
from culling.common.progress import shown
from culling.common.video import count_frames, frame_rate, read_frames

LINKED = 0.2
"""Boxes from this score on continue a track."""

CUT_SCORE = 0.5
"""Boxes from this score on are cut out."""

LEAST_SEEN = 2
"""Labelled frames that a course needs."""

APART = 0.05
"""A cut is clean where no other box covers more of its own than this."""

RUN_OUT_S = 3.0
"""At a border of the picture a course goes on for at most so long, so that things come in and leave."""

SLOW = 3.0
"""Pixels a second: what moves less stays."""

EDGE = 3
"""Pixels: a box that comes so near to a border is truncated by it."""

NEAR_BORDER = 0.7
"""A course that ends this near to a border, in sizes of its box, leaves there."""


Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """Where an object is: `times` `(T,)` in seconds since it came, and `(T, 4)` x, lower edge, height and width."""

    times: Numbers
    places: Numbers

    @property
    def seconds(self) -> float:
        """How long it stays."""
        return float(self.times[-1])

    def at(self, time: float) -> Numbers:
        """Return x, lower edge, height and width `(4,)` at a time."""
        return np.array([np.interp(time, self.times, self.places[:, column]) for column in range(4)])

    @property
    def heading(self) -> Numbers:
        """From where it comes to where it goes, `(2,)` pixels."""
        return np.asarray(self.places[-1, :2] - self.places[0, :2])


@dataclass(frozen=True)
class Actor:
    """An object of the clip: its class, when in the clip it came (seconds), its course, its cuts in order of time."""

    label: int
    came: float
    course: Course
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class Cast:
    """All that a day is composed of; `seconds` is the clip's length, `unrest` its noise in grey levels."""

    plate: Picture
    stands: tuple[Standing, ...]
    actors: tuple[Actor, ...]
    seconds: float
    unrest: float
    classes: tuple[str, ...]


def load_cast(video: Path, labels: Path, classes: tuple[str, ...]) -> Cast:
    """Return the cast of a labelled clip.

    Raises CameraError for a clip that cannot be used, InputError for labels that cannot, or show nothing that moves.
    """
    total, rate = count_frames(video), frame_rate(video)
    told = select(read_labels(labels, classes), video, total)
    pictures = dict(read_frames(video, told))
    if not pictures:
        raise CameraError(f"{video}: none of its labelled frames can be decoded")
    size = next(iter(pictures.values())).shape[:2]
    rows = [
        replace(row, detections=to_frame(row.detections, (row.height, row.width), (size[0], size[1])))
        for number, row in sorted(told.items())
        if number in pictures
    ]
    stands = standing(rows)
    ground = plate(pictures, rows, stands)
    noise = unrest(pictures, ground)
    tracks = _tracks(video, total, rate, {row.frame: row for row in rows}, stands, ground, noise, classes)
    played = (_actor(track, rate, (size[0], size[1])) for track in tracks)
    actors = tuple(actor for actor in played if actor is not None)
    if not actors:
        raise InputError(f"{labels}: nothing that moves in {video} can be cut out; a day needs boxes that move")
    return Cast(ground, tuple(stands), actors, total / rate, noise, classes)


def _tracks(
    video: Path,
    total: int,
    rate: float,
    told: Mapping[int, Label],
    stands: Sequence[Standing],
    ground: Picture,
    noise: float,
    classes: tuple[str, ...],
) -> list[Track]:
    tracker, grey = Tracker(), ground.astype(np.int16)
    with shown("cutting out", "frame", total) as show:
        for number, frame in read_frames(video, range(total)):
            tracker.advance(_difference(frame, grey, noise))
            if number in told:
                label = told[number]
                found = label.detections.where(moving(label, stands)).above(LINKED)
                linked = tracker.meet(number, found)
                _cut_out(frame, ground, found, linked, noise, number / rate, rate, classes)
            show(number + 1, "")
    return tracker.end()


def _difference(frame: Picture, ground: NDArray[np.int16], noise: float) -> NDArray[np.float32]:
    """Return how far each pixel `(H, W)` is from the plate, all channels together, 0 within the noise."""
    apart = np.abs(frame - ground)
    whole = apart[..., 0] + apart[..., 1] + apart[..., 2]  # numpy is slow over a last dimension of 3
    return np.asarray((whole - 6 * noise).clip(0, 200), np.float32)


def _cut_out(
    frame: Picture,
    ground: Picture,
    found: Detections,
    linked: Sequence[Track | None],
    noise: float,
    at: float,
    rate: float,
    classes: tuple[str, ...],
) -> None:
    for place, track in enumerate(linked):
        alone = _covered(found.boxes, place) <= APART
        if track is not None and alone and found.scores[place] >= CUT_SCORE:
            solid = classes[int(found.labels[place])] in SOLID
            made = cut(frame, ground, found.boxes[place], noise, at - track.first / rate, solid)
            track.cuts += [made] if made is not None else []


def _covered(boxes: NDArray[np.float32], place: int) -> float:
    """Return the largest share of a box that another one covers."""
    own, others = boxes[place], np.delete(boxes, place, 0)
    wide = np.minimum(own[2], others[:, 2]) - np.maximum(own[0], others[:, 0])
    high = np.minimum(own[3], others[:, 3]) - np.maximum(own[1], others[:, 1])
    area = float((own[2] - own[0]) * (own[3] - own[1]))
    return float(np.max(wide.clip(0) * high.clip(0), initial=0.0)) / max(area, 1.0)


def _inside(box: NDArray[np.float32], size: tuple[int, int]) -> bool:
    return bool(min(box[:2]) > EDGE and box[2] < size[1] - EDGE and box[3] < size[0] - EDGE)


def _actor(track: Track, rate: float, size: tuple[int, int]) -> Actor | None:
    """Return what a track plays: from the first box that no border truncates to the last, and the way in and out.

    None where it has no clean cut, or too few such boxes.
    """
    whole = [place for place, box in enumerate(track.boxes) if _inside(box, size)]
    if not track.cuts or len(whole) < LEAST_SEEN:
        return None
    part = slice(whole[0], whole[-1] + 1)
    boxes = np.stack(track.boxes[part]).astype(np.float64)
    places = np.stack(
        [(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], 1
    )
    times = (np.array(track.frames[part]) - track.first) / rate
    came = _run_out(times[::-1], places[::-1], size, whole[0] > 0)
    left = _run_out(times, places, size, whole[-1] + 1 < len(track.boxes))
    times, places = np.concatenate([came[0], times, left[0]]), np.vstack([came[1], places, left[1]])
    cuts = tuple(replace(one, time=one.time - times[0]) for one in track.cuts)
    return Actor(track.label, track.first / rate + times[0], Course(times - times[0], places), cuts)


def _run_out(times: Numbers, places: Numbers, size: tuple[int, int], cut_off: bool) -> tuple[Numbers, Numbers]:
    """Return where a course goes on behind its end, if it is `cut_off` or near a border: one more point, or none.

    In reversed order it is where a course comes from.
    """
    x, bottom, high, wide = places[-1]
    speed = (places[-1] - places[-2]) / (times[-1] - times[-2])
    ahead = speed * np.sign(times[-1] - times[-2])
    back, forth = np.array([x + wide / 2, bottom]), np.array([size[1] - x + wide / 2, size[0] - bottom + high])
    needed = np.where(ahead[:2] < 0, back, forth)
    leaves = (np.abs(ahead[:2]) > SLOW) & (cut_off | (needed < (1 + NEAR_BORDER) * np.array([wide, high])))
    seconds = float(np.where(leaves, needed / np.maximum(np.abs(ahead[:2]), 1e-9), np.inf).min())
    if seconds > RUN_OUT_S:
        return np.zeros(0), np.zeros((0, 4))
    there = places[-1] + ahead * seconds
    there[2:] = np.clip(there[2:], 0.75 * places[-1, 2:], 1.25 * places[-1, 2:])
    return times[-1:] + np.sign(times[-1] - times[-2]) * seconds, there[None]
