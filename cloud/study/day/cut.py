"""An object cut out of its frame: with a soft mask from its difference to the plate, where the cut is clean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from culling.cloud.study.day.plate import Picture

RIM = 3
"""Pixels around its box that are cut too: feet and mirrors stick out of boxes."""

LEAST_SIDE = 9
"""Pixels: what is smaller shows nothing when it is flown."""

FILLED, FILLED_SOLID = 0.3, 0.5
"""A clean cut fills at least this share of its box."""

SOLID = ("car", "truck", "bus")

SMEARED = 0.35
"""What differs by a smaller share of what differs two pixels beside it is that one's blur."""

HOLLOW = 0.15
"""Where more than this of it does not differ from the plate, something stands before it, and would be cut too."""

TIGHT = 1
"""Pixels by which a cut is taken tighter than its difference to the plate, which codecs smear."""

GAP = 0.1
"""Gaps of a solid thing up to this share of its smaller side, to each side, are filled in."""

REACHES = 0.8
"""It reaches over this share of the box's height, and of its width."""

SHADOWED = 0.4
"""Shadows are looked for in so much of a cut, from its lower edge."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """One look of an object: its picture `(h, w, 3)` and mask `(h, w)`, both uint8, with the box it fills.

    `at` is `(x, bottom)`, the middle of the box's lower edge in pixels of the frame; `offset` is how far the cut's left
    upper corner lies from it; `height` and `width` are the box's; `time` is in seconds since its track began.
    """

    picture: Picture
    mask: Picture
    at: tuple[float, float]
    offset: tuple[float, float]
    height: float
    width: float
    time: float


def cut(
    frame: Picture, ground: Picture, box: NDArray[np.float32], unrest: float, time: float, solid: bool
) -> Cut | None:
    """Return the object in `box` of `frame`, None where it is truncated, or hardly differs from the plate `ground`.

    What is `solid` has neither limbs nor gaps: parts of it that have the ground's own grey are filled in.
    """
    x1, y1, x2, y2 = (float(edge) for edge in box)
    height, width = frame.shape[:2]
    if min(x2 - x1, y2 - y1) < LEAST_SIDE or x1 < 2 or y1 < 2 or x2 > width - 2 or y2 > height - 2:
        return None
    left, top = max(0, int(x1) - RIM), max(0, int(y1) - RIM)
    right, bottom = min(width, int(np.ceil(x2)) + RIM), min(height, int(np.ceil(y2)) + RIM)
    picture, behind = frame[top:bottom, left:right], ground[top:bottom, left:right]
    mask = _mask(picture, behind, unrest, solid)
    if not _clean(mask > 127, (x2 - x1, y2 - y1), FILLED_SOLID if solid else FILLED):
        return None
    offset = left - (x1 + x2) / 2, top - y2
    return Cut(_own_colours(picture, mask), mask, ((x1 + x2) / 2, y2), offset, y2 - y1, x2 - x1, time)


def _mask(picture: Picture, ground: Picture, unrest: float, solid: bool) -> Picture:
    """Return how much of each pixel is the object's, 0 to 255: soft at its edge, without holes, in one piece."""
    difference = np.abs(picture.astype(np.int16) - ground).max(-1).clip(0, 255).astype(np.uint8)
    if not solid:
        difference[_shadow(picture, ground)] = 0
    reach = 1 + min(8, round(GAP * min(difference.shape))) * solid
    smooth = np.asarray(Image.fromarray(difference).filter(ImageFilter.GaussianBlur(0.8)), np.float32)
    low, high = 2.0 * unrest + 5, 4.0 * unrest + 16
    soft = ((smooth - low) / (high - low)).clip(0, 1)
    peaks = np.asarray(Image.fromarray(smooth.astype(np.uint8)).filter(ImageFilter.MaxFilter(5)), np.float32)
    soft[smooth < SMEARED * peaks] = 0
    room = reach + TIGHT + 1  # a filter has no edge to shrink from at the border of its picture
    closed = without_holes(_grown(np.pad(soft > 0.5, room), reach))
    body = largest(_shrunk(closed, reach + TIGHT)[room:-room, room:-room])
    if not solid and (soft[body] == 0).sum() > HOLLOW * body.sum():
        return np.zeros_like(difference)
    made = np.where(body, 1.0, np.where(_grown(body), 0.6 * soft, 0.0))
    made[[0, -1]] = 0
    made[:, [0, -1]] = 0
    return np.asarray(Image.fromarray(np.asarray(255 * made, np.uint8)).filter(ImageFilter.GaussianBlur(0.6)))


def _shadow(picture: Picture, ground: Picture) -> Mask:
    """Return where the ground is only darker than the plate, in the lower part of a cut: all colours by one factor."""
    ratio = (picture + 4.0) / (ground + 4.0)
    plain = (ratio.max(-1) - ratio.min(-1) < 0.12) & (ratio.min(-1) > 0.5) & (ratio.max(-1) < 1.0)
    plain[: round((1 - SHADOWED) * len(plain))] = False
    return np.asarray(plain)


def _own_colours(picture: Picture, mask: Picture) -> Picture:
    """Return a cut whose rim has the colours of what lies further in: what was behind it shines through there."""
    core = _shrunk(mask > 200)
    if core.sum() < 9:
        return picture.copy()
    weight = _blurred(np.asarray(255 * core, np.uint8))[..., None] + 1e-3
    inner = np.stack([_blurred(np.where(core, picture[..., one], 0)) for one in range(3)], -1) * 255 / weight
    bled = np.where(weight > 8, inner, picture)
    return np.asarray(np.where(core[..., None], picture, bled).clip(0, 255), np.uint8)


def _blurred(grey: Picture) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(1.2)), np.float32)


def _grown(body: Mask, reach: int = 1) -> Mask:
    return (
        np.asarray(Image.fromarray(np.asarray(255 * body, np.uint8)).filter(ImageFilter.MaxFilter(2 * reach + 1))) > 127
    )


def _shrunk(body: Mask, reach: int = 1) -> Mask:
    return (
        np.asarray(Image.fromarray(np.asarray(255 * body, np.uint8)).filter(ImageFilter.MinFilter(2 * reach + 1))) > 127
    )


def _clean(body: Mask, size: tuple[float, float], filled: float) -> bool:
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    if not len(rows):
        return False
    reaches = (columns[-1] - columns[0] + 1) / size[0], (rows[-1] - rows[0] + 1) / size[1]
    return min(reaches) >= REACHES and float(body.sum()) >= filled * size[0] * size[1]


def without_holes(body: Mask) -> Mask:
    """Return a mask with what it encloses."""
    outside = np.zeros_like(np.pad(body, 1))
    outside[[0, -1]] = outside[:, [0, -1]] = True
    return ~_spread(outside, ~np.pad(body, 1))[1:-1, 1:-1]


def largest(body: Mask) -> Mask:
    """Return the largest connected part of a mask."""
    left, best = body.copy(), np.zeros_like(body)
    while left.sum() > best.sum():
        seed = np.zeros_like(body)
        seed[np.unravel_index(int(left.argmax()), left.shape)] = True
        part = _spread(seed, left)
        best = part if part.sum() > best.sum() else best
        left &= ~part
    return best


def _spread(seed: Mask, inside: Mask) -> Mask:
    """Return what is connected to `seed` `inside` a mask, by edges."""
    reached, count = seed & inside, -1
    while (now := int(reached.sum())) != count:
        count = now
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        reached = grown & inside
    return reached
