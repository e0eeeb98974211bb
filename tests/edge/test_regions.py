from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.weights.classes import CLASSES
from culling.common.errors import SettingsError
from culling.common.frame import Detections
from culling.common.scaler import upright
from culling.edge.regions import PLANES, STEADY, IgnoreSettings, Mask, Regions, ZoneSettings, inside
from culling.edge.settings import load_settings
from support.site import Site, moving_clip

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
LOWER_HALF = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))


def found(*told: tuple[str, float, float], score: float = 0.9) -> Detections:
    """Boxes of 10 × 10 in a frame of 100 × 100, each given by its class and where it stands."""
    boxes = np.array([(x - 5, y - 10, x + 5, y) for _, x, y in told], np.float32).reshape(-1, 4)
    labels = np.array([CLASSES.index(label) for label, _, _ in told], np.int64)
    return Detections(boxes, np.full(len(told), score, np.float32), labels)


# Settings


def refused(folder: Path, **camera: Any) -> str:
    site = Site(folder)
    site.settings["camera"][0] |= camera
    with pytest.raises(SettingsError) as raised:
        load_settings(site.write(), {})
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("polygon", "why"),
    [
        ([[0.1, 0.1], [0.5, 0.5]], "takes at least three points, there are 2"),
        ([[0, 0], [1, 1], [1, 0], [0, 1]], "crosses itself: at the sides from its points 1 and 3"),
        ([[0, 0], [0.5, 0], [0.2, 0]], "crosses itself"),
        ([[0, 0], [1, 0], [1, 1], [0.5, 0], [0, 1]], "crosses itself"),
        ([[0, 0], [1, 0], [1, 1], [0, 0]], "a point of the polygon is given twice"),
        (
            [[0.1, 0.1], [1.2, 0.1], [0.5, 0.5]],
            "1.2 is outside the frame: points are fractions of the frame, 0 to 1: divide pixels",
        ),
        ([[-0.1, 0.1], [0.2, 0.1], [0.5, 0.5]], "-0.1 is outside the frame: points are fractions of the frame, 0 to 1"),
        ([[0.1, 0.1], [0.2], [0.5, 0.5]], "missing"),
        ([[n / 200, 0.5 * (n % 2)] for n in range(101)], "at most 100 points"),
        ("everywhere", "tuple"),
    ],
)
def test_a_polygon_that_is_none_is_one_line_that_names_the_key(tmp_path: Path, polygon: Any, why: str) -> None:
    for key, told in (
        ("mask", [polygon]),
        ("ignore", [{"polygon": polygon}]),
        ("zone", [{"name": "yard", "polygon": polygon}]),
    ):
        text = refused(tmp_path, **{key: told})
        assert f"camera.0.{key}.0" in text
        assert why in text


def test_a_mask_of_everything_is_refused_also_in_pieces(tmp_path: Path) -> None:
    whole = [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert "mask: it covers the whole frame" in refused(tmp_path, mask=[whole])
    pieces = [[[0, 0], [0.6, 0], [0.6, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]]
    assert "mask: it covers the whole frame" in refused(tmp_path, mask=pieces)


def test_zones_have_names_of_their_own_and_outputs_know_them(tmp_path: Path) -> None:
    zone = {"name": "yard", "polygon": [[0, 0], [1, 0], [1, 1]]}
    assert "two zones have the same name" in refused(tmp_path, zone=[zone, zone])
    site = Site(tmp_path)
    site.settings["camera"][0]["zone"] = [zone]
    site.settings["output"] = [{"kind": "stdout", "zones": ["yard"]}]
    assert load_settings(site.write(), {}).camera[0].zone[0].name == "yard"
    site.settings["output"] = [{"kind": "stdout", "zones": ["road"]}]
    with pytest.raises(SettingsError, match="output stdout: zones: there is no zone 'road'"):
        load_settings(site.write(), {})


# Points


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_a_point_is_inside_what_is_around_it(x: float, y: float) -> None:
    square = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    at_x, at_y = np.array([x]), np.array([y])
    assert inside(square, at_x, at_y).all()
    assert inside(LEFT_HALF, at_x, at_y)[0] == (x < 0.5)
    hollow = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.0001), (0.0, 1.0))
    assert (
        inside(hollow, at_x, at_y)[0] == (abs(x - 0.5) / 0.5 > (y - 0.0001) / 0.9999)
        or abs(abs(x - 0.5) / 0.5 - (y - 0.0001) / 0.9999) < 1e-6
    )


# Masks


def pictures() -> Iterator[tuple[str, av.VideoFrame, NDArray[np.uint8]]]:
    """A bright picture of odd size in every format, and as RGB."""
    rgb = np.random.default_rng(0).integers(100, 255, (99, 151, 3), np.uint8)
    for name in (*PLANES, "yuv420p10le", "rgb24", "bgr24", "yuyv422", "gray10le"):
        picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=name)
        yield name, picture, upright(picture)


@pytest.mark.parametrize(("name", "picture", "before"), [pytest.param(*told, id=told[0]) for told in pictures()])
def test_what_is_masked_is_gone_in_every_format_and_the_rest_is_as_it_was(
    name: str, picture: av.VideoFrame, before: NDArray[np.uint8]
) -> None:
    after = upright(Mask([LEFT_HALF]).hide(picture, 0))
    assert after[:, :73].max() <= 3, "black; nearer to the border colour comes in, from outside"
    assert after[:, :76].mean() < 1
    assert np.abs(after[:, 80:].astype(int) - before[:, 80:]).mean() < 3


def test_what_was_behind_a_mask_makes_no_difference() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 255, (96, 160, 3), np.uint8)
    other = one.copy()
    other[:, :80] = rng.integers(0, 255, (96, 80, 3), np.uint8)
    looks = [
        upright(Mask([LEFT_HALF]).hide(av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv444p"), 0))
        for rgb in (one, other)
    ]
    assert np.array_equal(*looks)


def test_a_mask_is_upright_as_the_picture_will_be() -> None:
    for turn in range(4):
        bright = av.VideoFrame.from_ndarray(np.full((60, 100, 3), 200, np.uint8), format="rgb24")
        masked = Mask([LOWER_HALF]).hide(bright, turn).to_ndarray(format="rgb24")
        shown = np.rot90(masked, turn)
        assert shown[shown.shape[0] // 2 :].max() == 0
        assert shown[: shown.shape[0] // 2 - 1].min() == 200


def test_the_decoder_keeps_its_own_pictures(tmp_path: Path) -> None:
    moving_clip(tmp_path / "clip.mp4", frames=30)

    def decoded(mask: Mask) -> list[NDArray[np.uint8]]:
        with av.open(str(tmp_path / "clip.mp4")) as container:
            return [upright(mask.hide(frame, 0)) for frame in container.decode(video=0)]

    plain, masked = decoded(Mask([])), decoded(Mask([LEFT_HALF]))
    assert all(np.array_equal(one[:, 82:], other[:, 82:]) for one, other in zip(plain, masked, strict=True))
    assert all(one[:, :80].max() <= 3 for one in masked)


def test_without_a_mask_nothing_is_touched() -> None:
    picture = av.VideoFrame.from_ndarray(np.full((60, 100, 3), 200, np.uint8), format="rgb24")
    assert Mask([]).hide(picture, 0) is picture


# Ignoring


def test_what_stands_in_an_ignored_place_is_not_there_by_class() -> None:
    region = IgnoreSettings(polygon=LEFT_HALF, classes=("car",))
    seen = found(("car", 20, 50), ("car", 80, 50), ("person", 20, 50))
    kept = Regions([region]).kept(seen, CLASSES, 100, 100)
    assert kept.boxes[:, 0].tolist() == [75, 15]
    everything = Regions([IgnoreSettings(polygon=LEFT_HALF)]).kept(seen, CLASSES, 100, 100)
    assert everything.boxes[:, 0].tolist() == [75]
    assert Regions().kept(seen, CLASSES, 100, 100) is seen


def test_an_object_is_where_it_stands_also_at_the_border() -> None:
    lower = Regions([IgnoreSettings(polygon=LOWER_HALF)])
    assert len(lower.kept(found(("car", 50, 55)), CLASSES, 100, 100)) == 0
    assert len(lower.kept(found(("car", 50, 49)), CLASSES, 100, 100)) == 1
    assert len(lower.kept(found(("car", 50, 104)), CLASSES, 100, 100)) == 0, "its box sticks out below"


# Zones


def test_a_zone_counts_what_is_in_it_by_class_and_score() -> None:
    zones = [
        ZoneSettings(name="left", polygon=LEFT_HALF, classes=("car",)),
        ZoneSettings(name="lower", polygon=LOWER_HALF, score=0.95),
    ]
    seen = found(("car", 20, 80), ("person", 20, 80), ("car", 80, 20))
    where, counts = Regions((), zones).count(seen, CLASSES, 100, 100)
    assert where.tolist() == [[True, False, False], [False, False, False]]
    assert counts["left"].present == {"car": 1}
    assert counts["lower"].present == {}


def entered_and_left(*frames: int) -> tuple[int, int]:
    regions = Regions((), [ZoneSettings(name="left", polygon=LEFT_HALF)])
    for cars in frames:
        _, counts = regions.count(found(*[("car", 20, 50)] * cars), CLASSES, 100, 100)
    return counts["left"].entered.get("car", 0), counts["left"].left.get("car", 0)


def test_who_comes_and_goes_is_counted_once_it_is_sure() -> None:
    stays = [1] * STEADY
    assert entered_and_left(*[0] * 5, *stays) == (1, 0)
    assert entered_and_left(*[0] * 5, *stays, *[0] * STEADY) == (1, 1)
    assert entered_and_left(*[0] * 5, *[2] * STEADY, *stays) == (2, 1)
    assert entered_and_left(*[0] * 5, *stays[1:]) == (0, 0)


def test_a_box_that_is_missed_for_a_moment_is_nobody_leaving() -> None:
    assert entered_and_left(*[1, 1, 1, 0] * 10) == (1, 0)
    assert entered_and_left(*[1, 1, 1, 2] * 10) == (1, 0)


def test_a_frame_without_a_box_and_a_camera_without_a_zone_have_counts_too() -> None:
    where, counts = Regions((), [ZoneSettings(name="left", polygon=LEFT_HALF)]).count(found(), CLASSES, 100, 100)
    assert where.shape == (1, 0)
    assert counts["left"].present == {}
    assert Regions().count(found(("car", 1, 1)), CLASSES, 100, 100)[1] == {}
