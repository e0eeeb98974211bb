from __future__ import annotations

import msgspec
import numpy as np
import pytest

from culling.common.errors import ProtocolError
from culling.common.wire.ignored import MOST_PLACES, MOST_POINTS, Ignored, check, decode, encode, place, standing
from culling.common.wire.messages import MAX_HEADER
from support.cloud import detections

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
CLASSES = ("person", "car")


def test_a_place_keeps_its_corners_to_a_fraction_of_a_pixel() -> None:
    polygon = ((0.1234567, 0.0), (1.0, 0.3333333), (0.5, 1.0))
    (kept,) = decode(encode((place(polygon, ("car",)),)))
    assert kept.classes == ("car",)
    assert np.abs(np.array(kept.polygon) - np.array(polygon)).max() * 7680 < 0.1, "of the widest picture"


def test_what_stands_in_a_place_is_found_by_the_middle_of_its_lower_edge() -> None:
    found = detections((40, 0, 58, 50, 0.9, 0), (42, 0, 60, 50, 0.9, 0), (0, 0, 9, 9, 0.9, 1))
    assert standing((place(LEFT, ()),), found, CLASSES, 100, 100).tolist() == [True, False, True]
    assert standing((place(LEFT, ("car",)),), found, CLASSES, 100, 100).tolist() == [False, False, True]
    assert standing((place(LEFT, ("dog",)),), found, CLASSES, 100, 100).tolist() == [False, False, False]
    assert not standing((), found, CLASSES, 100, 100).any()


def test_nothing_is_kept_of_a_camera_that_ignores_nothing() -> None:
    assert encode(()) is None
    assert decode(None) == ()


def test_half_a_corner_is_refused() -> None:
    with pytest.raises(ProtocolError, match="half a corner"):
        check((Ignored(b"x" * 13),))
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode([{"corners": b"x" * 8}]))


def test_the_most_places_of_the_most_corners_fit_into_a_header() -> None:
    polygon = [(n / MOST_POINTS, n % 2) for n in range(MOST_POINTS)]
    assert len(encode((place(polygon, ()),) * MOST_PLACES) or b"") < MAX_HEADER
