"""One frame of a day: composed from the seed and its number alone, by any process, in any order, always the same.

Number i is second i after the first midnight; from 86,400 on it is the next day. What passes is laid over the plate
from far to near, by lower edges; then come light, fog, the camera's exposure, rain, noise, and where it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from culling.cloud.study.day.cast import Cast
from culling.cloud.study.day.cut import Cut
from culling.cloud.study.day.hours import Hours, Passing
from culling.cloud.study.day.light import NIGHT_NOISE, Light, Noise, beam, glow, lamp_map, lit, to_grey, to_linear
from culling.cloud.study.day.plate import Picture
from culling.cloud.study.day.rain import Rain, distance, fogged
from culling.cloud.study.day.sky import Sky, Weather
from culling.common.frame import Detections

LEAST_VISIBLE = 0.3
"""What is seen by a smaller share than this is no label."""

LEAST_SIDE = 6
"""Pixels: the same of smaller boxes."""

SHADE = 0.45
"""How much of the light a sharp shadow takes."""

FOOT = 0.35
"""The lower part of a box, in which two things cannot be at once."""

CROWDED = 0.12
"""This share of a foot may be another's; of one who walks, `CLOSE`."""

CLOSE = 0.5

WHITE, RED = np.array([1.0, 0.95, 0.8]), np.array([0.5, 0.03, 0.02])
"""Headlights and tail lights, linear."""

WET = 0.16
"""Rain darkens the ground by this much."""

WALKERS = ("person", "bicycle")
ON_WHEELS = ("car", "truck", "bus", "motorcycle")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Laid:
    """An object as it lies in the frame: its picture `(h, w, 3)`, mask `(h, w)` 0 to 1, and left upper corner."""

    label: int
    light: Light
    mask: Light
    left: int
    top: int
    place: NDArray[np.float64]
    heading: NDArray[np.float64]

    @property
    def foot(self) -> float:
        """The lower edge of its box: what is nearer lies lower."""
        return float(self.place[1])


@dataclass(frozen=True)
class Composed:
    """A frame `(H, W, 3)` and the boxes of what is visible in it; scores are 1.0 for what was laid into it."""

    picture: Picture
    labels: Detections


class Composer:
    """Composes the frames of all days of a `seed` from a cast."""

    def __init__(self, cast: Cast, seed: int) -> None:
        self.cast = cast
        self.seed = seed
        self.weather = Weather(seed)
        upright = [place for place, name in enumerate(cast.classes) if name in WALKERS]
        self.hours = Hours(cast.actors, cast.seconds, seed, upright)
        self._upright = frozenset(upright)
        self._wheels = frozenset(place for place, name in enumerate(cast.classes) if name in ON_WHEELS)
        self._size = cast.plate.shape[0], cast.plate.shape[1]
        grounds = np.concatenate([actor.course.places[:, :3] for actor in cast.actors])
        inside = (grounds[:, 0] > 0) & (grounds[:, 0] < self._size[1]) & (grounds[:, 1] < self._size[0])
        self._lamps = lamp_map(self._size, grounds[inside], seed)
        self._depth = distance(self._size[0], grounds)
        self._ground = to_linear(cast.plate)
        self._noise, self._rain = Noise(self._size, seed), Rain(self._size, seed)
        self._painted = lru_cache(maxsize=512)(self._paint)

    def frame(self, number: int) -> Composed:
        """Return frame `number`, from 0 on."""
        sky, draw = self.weather.at(float(number)), np.random.default_rng([self.seed, 4, number])
        laid = self.laid(float(number))
        scene = self._ground * np.float32(1 - WET * sky.rain)
        owner = np.full(self._size, -1, np.int16)
        for place, one in enumerate(laid):
            if sky.sun > 0.02:
                _shade(scene, one, sky)
            _lay(scene, owner, one, place)
        light = self._lit(scene, laid, sky)
        shown = to_grey(light)
        if sky.rain > 0:
            shown = self._rain.fall(shown, sky.rain, sky.daylight, draw)
        noise = self.cast.unrest * (1 + (NIGHT_NOISE - 1) * (1 - sky.daylight))
        shown = self._noise.add(shown, noise, draw)
        moved = round(sky.knock[1] * self._size[0]), round(sky.knock[0] * self._size[1])
        return Composed(_moved(shown, moved), self._labels(owner, laid, moved))

    def laid(self, time: float) -> list[Laid]:
        """Return what is on the scene at `time`, from far to near; what comes later gives way where there is no room.

        It does so, too, where the same look is on the scene already.
        """
        taken: list[tuple[NDArray[np.float64], bool]] = []
        looks: set[int] = set()
        found: list[Laid] = []
        for one in self.hours.on_scene(time):
            actor = self.cast.actors[one.course]
            walks = actor.label in self._upright
            place, heading = self._where(one, time)
            room = all(_room(place, other, CLOSE if walks and also else CROWDED) for other, also in taken)
            if room and one.look not in looks:
                taken.append((place, walks))
                looks.add(one.look)
                made = self._dressed(one, actor.label, place, heading, (time - one.came) * one.pace)
                found += [made] if made is not None else []
        return sorted(found, key=lambda laid: laid.foot)

    def _where(self, one: Passing, time: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        course = self.cast.actors[one.course].course
        past = (time - one.came) * one.pace
        place = course.at(course.seconds - past if one.mirrored else past)
        place[0] += one.aside * place[3]
        return place, -course.heading if one.mirrored else course.heading

    def _dressed(
        self, one: Passing, label: int, place: NDArray[np.float64], heading: NDArray[np.float64], past: float
    ) -> Laid | None:
        cuts, own = self.cast.actors[one.look].cuts, one.look == one.course
        seconds = self.cast.actors[one.course].course.seconds
        chosen = _by_time(cuts, seconds - past if one.mirrored else past) if own else _by_place(cuts, place, past)
        if one.mirrored:  # it walks on in time, while it goes back on the course
            chosen = _mirrored_step(cuts, chosen, past)
        factor = float(place[2]) / cuts[chosen].height
        picture, mask = self._painted(one.look, chosen, one.paint)
        size = max(2, round(mask.shape[1] * factor)), max(2, round(mask.shape[0] * factor))
        across, down = cuts[chosen].offset
        if one.mirrored:
            picture, mask, across = picture[:, ::-1], mask[:, ::-1], -across - mask.shape[1]
        left, top = round(float(place[0]) + factor * across), round(float(place[1]) + factor * down)
        if left >= self._size[1] or top >= self._size[0] or left + size[0] <= 0 or top + size[1] <= 0:
            return None
        light = to_linear(_sized(picture, size))
        return Laid(label, light, np.asarray(_sized(mask, size) / 255, np.float32), left, top, place, heading)

    def _paint(self, look: int, chosen: int, paint: tuple[float, float]) -> tuple[Picture, Picture]:
        cut = self.cast.actors[look].cuts[chosen]
        return painted(cut.picture, cut.mask, *paint), cut.mask

    def _lit(self, scene: Light, laid: Sequence[Laid], sky: Sky) -> Light:
        lamps = self._lamps * np.float32(sky.lamps)
        driving = [one for one in laid if one.label in self._wheels and sky.lamps > 0]
        for one in driving:
            x, foot, high, _ = one.place
            sense = float(np.sign(one.heading[1])) if abs(one.heading[1]) > 0.3 * abs(one.heading[0]) else 0.0
            side = float(np.sign(one.heading[0])) * (1 - abs(sense))
            beam(lamps, (x + 1.2 * high * side, foot + 0.5 * high * sense), 0.9 * float(high))
        light = lit(scene, sky, lamps)
        for one in driving:
            _headlights(light, one, sky.lamps)
        if sky.fog > 0:
            night = np.float32(0.03 + 0.55 * sky.daylight)
            light = fogged(light, sky.fog, self._depth, np.asarray(sky.colour, np.float32) * night)
        return light

    def _labels(self, owner: NDArray[np.int16], laid: Sequence[Laid], moved: tuple[int, int]) -> Detections:
        rows = [(*seen, 1.0, one.label) for place, one in enumerate(laid) if (seen := _visible(owner, one, place))]
        rows += [
            (*seen, stand.score, stand.label)
            for stand in self.cast.stands
            if (seen := _uncovered(owner, stand.box, laid))
        ]
        table = np.array(rows, np.float64).reshape(-1, 6)
        shift = np.array([moved[1], moved[0]] * 2)
        limits = np.array([self._size[1], self._size[0]] * 2)
        boxes = (table[:, :4] + shift).clip(0, limits).astype(np.float32)
        found = Detections(boxes, table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))
        return found.where((boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= LEAST_SIDE)


def painted(picture: Picture, mask: Picture, hue: float, bright: float) -> Picture:
    """Return a cut with its colours turned by `hue` (radians) and its brightness multiplied, within its mask."""
    if hue == 0 and bright == 1:
        return picture
    grey = picture @ np.array([0.3, 0.59, 0.11])
    one, two = (picture[..., 0] - grey), (picture[..., 2] - grey)
    red, blue = np.cos(hue) * one - np.sin(hue) * two, np.sin(hue) * one + np.cos(hue) * two
    green = -(0.3 * red + 0.11 * blue) / 0.59
    made = (grey * bright)[..., None] + np.stack([red, green, blue], -1)
    inside = (mask / 255.0)[..., None]
    return np.asarray((made * inside + picture * (1 - inside)).clip(0, 255), np.uint8)


def _sized(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BILINEAR))


def _by_time(cuts: Sequence[Cut], time: float) -> int:
    return int(np.argmin([abs(one.time - time) for one in cuts]))


def _by_place(cuts: Sequence[Cut], place: NDArray[np.float64], past: float) -> int:
    """Return the cut that was taken nearest to a place; of those about as near, one after another, a second each."""
    away = np.array([np.hypot(one.at[0] - place[0], one.at[1] - place[1]) for one in cuts])
    near = np.flatnonzero(away <= away.min() + 0.6 * place[2])
    return int(near[int(past) % len(near)])


def _mirrored_step(cuts: Sequence[Cut], chosen: int, past: float) -> int:
    near = [place for place, one in enumerate(cuts) if abs(one.at[1] - cuts[chosen].at[1]) < 0.3 * one.height]
    return near[int(past) % len(near)]


def _room(place: NDArray[np.float64], other: NDArray[np.float64], most: float) -> bool:
    """Return whether two things have room: their feet share at most that part of the smaller one's."""
    wide = min(place[0] + place[3] / 2, other[0] + other[3] / 2) - max(place[0] - place[3] / 2, other[0] - other[3] / 2)
    high = min(place[1], other[1]) - max(place[1] - FOOT * place[2], other[1] - FOOT * other[2])
    least = FOOT * min(place[2] * place[3], other[2] * other[3])
    return bool(max(0.0, wide) * max(0.0, high) <= most * least)


def _window(one: Laid, size: tuple[int, int]) -> tuple[slice, slice, slice, slice]:
    """Return rows and columns of the frame that it fills, and those of its own picture."""
    high, wide = one.mask.shape
    top, left = max(0, one.top), max(0, one.left)
    bottom, right = min(size[0], one.top + high), min(size[1], one.left + wide)
    own = slice(top - one.top, bottom - one.top), slice(left - one.left, right - one.left)
    return slice(top, bottom), slice(left, right), *own


def _lay(scene: Light, owner: NDArray[np.int16], one: Laid, place: int) -> None:
    rows, columns, own_rows, own_columns = _window(one, (scene.shape[0], scene.shape[1]))
    mask = one.mask[own_rows, own_columns]
    part = scene[rows, columns]
    part += mask[..., None] * (one.light[own_rows, own_columns] - part)
    owner[rows, columns][mask > 0.5] = place


def _shade(scene: Light, one: Laid, sky: Sky) -> None:
    """Let the sun throw an object's shadow on the ground behind it, in place."""
    high, wide = one.mask.shape
    long = 0.35 + 0.5 * abs(sky.sun_at)
    lean = -1.1 * sky.sun_at
    room = int(abs(lean) * high) + 3
    size = wide + 2 * room, int(long * high) + 3
    foot = size[1] - 2.0
    silhouette = Image.fromarray(np.asarray(255 * one.mask, np.uint8))
    # Row y of the shadow is the object's at (foot - y) / long above its lower edge, moved aside by `lean` for each.
    across = (1.0, lean / long, -room - lean * foot / long, 0.0, 1 / long, high - 1 - foot / long)
    thrown = silhouette.transform(size, Image.Transform.AFFINE, across, Image.Resampling.BILINEAR)
    soft = np.asarray(thrown.filter(ImageFilter.GaussianBlur(0.6 + 0.02 * high)), np.float32) / 255
    top, left = one.top + high - size[1], one.left - room
    y, x = max(0, top), max(0, left)
    part = scene[y : max(0, top + size[1]), x : max(0, left + size[0])]
    shade = soft[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]]
    part *= 1 - np.float32(SHADE * sky.sun) * shade[..., None]


def _headlights(light: Light, one: Laid, lamps: float) -> None:
    x, foot, high, wide = (float(value) for value in one.place)
    across, down = one.heading
    if abs(down) > 0.3 * abs(across):
        towards = down > 0
        colour = (WHITE if towards else RED) * lamps
        for side in (-0.3, 0.3):
            glow(light, (x + side * wide, foot - (0.3 if towards else 0.42) * high), max(1.0, 0.07 * wide), colour)
        return
    ahead = float(np.sign(across))
    glow(light, (x + 0.45 * ahead * wide, foot - 0.35 * high), max(1.0, 0.05 * wide), WHITE * lamps)
    glow(light, (x - 0.45 * ahead * wide, foot - 0.4 * high), max(1.0, 0.04 * wide), RED * lamps)


def _moved(picture: Picture, moved: tuple[int, int]) -> Picture:
    """Return a picture moved down and right by pixels; what comes into view mirrors what is at the border."""
    if moved == (0, 0):
        return picture
    down, right = moved
    pads = (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0))
    wide = np.pad(picture, (*pads, (0, 0)), "reflect")
    return np.ascontiguousarray(
        wide[pads[0][1] : pads[0][1] + picture.shape[0], pads[1][1] : pads[1][1] + picture.shape[1]]
    )


def _visible(owner: NDArray[np.int16], one: Laid, place: int) -> tuple[float, float, float, float] | None:
    """Return the box of what is seen of an object; None where that is too little."""
    rows, columns, _, _ = _window(one, (owner.shape[0], owner.shape[1]))
    seen = owner[rows, columns] == place
    if seen.sum() < LEAST_VISIBLE * (one.mask > 0.5).sum() or not seen.any():
        return None
    return _bounds(seen, columns.start, rows.start)


def _uncovered(
    owner: NDArray[np.int16], box: NDArray[np.float32], laid: Sequence[Laid]
) -> tuple[float, float, float, float] | None:
    """Return the box of what is seen of a thing of the plate: all, if little of it is covered."""
    x1, y1, x2, y2 = (round(float(edge)) for edge in box)
    part = owner[max(0, y1) : y2, max(0, x1) : x2]
    lower = np.array([one.foot for one in laid] or [0.0])
    seen = (part < 0) | (lower[part.clip(0)] < y2)
    share = float(seen.mean()) if seen.size else 0.0
    if share < LEAST_VISIBLE:
        return None
    if share > 0.85:
        return float(box[0]), float(box[1]), float(box[2]), float(box[3])
    return _bounds(seen, max(0, x1), max(0, y1))


def _bounds(seen: Mask, left: int, top: int) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return (
        float(left + columns[0]),
        float(top + rows[0]),
        float(left + columns[-1] + 1),
        float(top + rows[-1] + 1),
    )
