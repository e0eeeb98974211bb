"""One clip in two lights, day and night: what a camera is fed in each, and what a student is measured on in each.

A clip whose light falls by itself is taken as it is: its first or its last part is the night, whichever is darker. Any
other is darkened (`dusk.py`): the same frames are day and night, and the teacher's word on the day's picture counts for
both, so that what is measured is the student's memory and not the teacher's eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from culling.cloud.evaluation.holdout import HeldOut, plan
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.dusk import dusk
from culling.common.errors import CameraError
from culling.common.frame import Detections
from culling.common.video import FED, count_frames, read_frames
from culling.common.wire.codec import decode_jpeg, encode_jpeg

LightName = Literal["day", "night"]

PART = 0.4
"""Of a clip whose light falls by itself, so much at each end is day or night; what lies between is neither."""

OWN_DUSK = 0.85
"""It does so, if one end has less than this share of the other's mean brightness: 93 of carpark-drift's 136."""

LOOKED_AT = 16
"""Frames of each end by which that is seen."""


@dataclass(frozen=True)
class Light:
    """A part of a clip, from fraction `first` to `last`, under one light; `darkness` is what is added to it."""

    first: float
    last: float
    darkness: float = 0.0

    @property
    def learnt_until(self) -> float:
        """The fraction of the clip from which on it is measured on."""
        return self.first + FED * (self.last - self.first)

    def shown(self, number: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a frame of the clip as the camera sees it."""
        return dusk(frame, self.darkness, number)


@dataclass(frozen=True)
class Fed:
    """A frame that the camera forwards: its number in the clip, its picture, and what the teacher sees in it.

    `probability` is that with which it was drawn as an audit; None: it was forwarded as a hard one.
    """

    number: int
    jpeg: bytes
    labels: Detections
    probability: float | None = 1.0


def lights(video: Path) -> dict[LightName, Light]:
    """Return the day and the night of a clip. Raises CameraError if it cannot be used."""
    early, late = (_brightness(video, *part) for part in ((0.0, PART), (1.0 - PART, 1.0)))
    if min(early, late) >= OWN_DUSK * max(early, late):
        return {"day": Light(0.0, 1.0), "night": Light(0.0, 1.0, darkness=1.0)}
    first, last = Light(0.0, PART), Light(1.0 - PART, 1.0)
    return {"day": first, "night": last} if early > late else {"day": last, "night": first}


def fed(corpus: Corpus, light: Light, count: int, turn: int, turns: int) -> list[Fed]:
    """Return `count` frames that the camera forwards in one of the `turns` of a light, evenly over its first part.

    Every turn has frames of its own. Raises CameraError where there are not so many.
    """
    total = count_frames(corpus.video)
    start, end = round(light.first * total), round(light.learnt_until * total)
    if end - start < (needed := count * turns):
        raise CameraError(
            f"{corpus.video}: {needed} frames of one light are needed, it has {end - start}: "
            "take a longer clip, or ask for fewer"
        )
    numbers = [int(number) for number in np.linspace(start, end - 1, needed)]
    clear = [(number, encode_jpeg(frame)) for number, frame in read_frames(corpus.video, numbers[turn::turns])]
    told = corpus.labeller.see((decode_jpeg(jpeg) for _, jpeg in clear), len(clear))
    return [
        Fed(number, jpeg if not light.darkness else _darkened(light, number, jpeg), seen.found)
        for (number, jpeg), seen in zip(clear, told, strict=True)
    ]


def measured(corpus: Corpus, light: Light) -> HeldOut:
    """Return what students are measured on in a light: as many frames of its last part as the corpus measures on."""
    count = len(corpus.measured.numbers)
    chosen = plan(corpus.video, light.learnt_until, count, corpus.label_file, light.last, corpus.measured.classes)
    return HeldOut(chosen, corpus.labeller, corpus.interest, light.shown)


def _darkened(light: Light, number: int, jpeg: bytes) -> bytes:
    return encode_jpeg(light.shown(number, decode_jpeg(jpeg)))


def _brightness(video: Path, first: float, last: float) -> float:
    total = count_frames(video)
    numbers: Sequence[int] = [int(number) for number in np.linspace(first * total, last * total - 1, LOOKED_AT)]
    seen = [float(frame.mean()) for _, frame in read_frames(video, set(numbers))]
    if not seen:
        raise CameraError(f"{video}: none of its frames can be decoded")
    return mean(seen)
