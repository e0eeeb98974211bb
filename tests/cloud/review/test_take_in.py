from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.annotations.classes import Wanted
from culling.cloud.annotations.convert import KINDS, Converted, read
from culling.cloud.annotations.folder import Sizes
from culling.cloud.annotations.looks import FORMATS, Format
from culling.cloud.annotations.picture import Box, Picture
from culling.cloud.review.desk import Desk
from culling.cloud.review.export import chosen, export
from culling.cloud.review.take_in import TakenIn, take_in
from culling.cloud.store.index import frames
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import CAR, PERSON, by_number, rows
from support.stored import add

Reviewed = tuple[CloudState, Desk]
BUS = Box("bus", 1.0, 3, 4, 33, 44)


def file_of(*pictures: Picture, kind: Format = "culling") -> Converted:
    return Converted(kind, pictures, CLASSES)


def picture(name: str, *boxes: Box, at: str = "labels.jsonl:1") -> Picture:
    return Picture(name, 0, 64, 48, boxes, at)


def take(
    desk: Desk, found: Converted, images: Path | None = None, confirm: bool = False, camera: str = CAMERA
) -> TakenIn:
    return take_in(desk, camera, found, images, "ann@desk", confirm, lambda _: None)


@pytest.mark.parametrize("to", FORMATS)
def test_of_all_that_was_exported_only_what_was_changed_becomes_a_persons(
    reviewed: Reviewed, tmp_path: Path, to: Format
) -> None:
    cloud, desk = reviewed
    numbered = by_number(cloud)
    done = export(desk, chosen(desk, CAMERA, "all", None), tmp_path / "out", to, lambda *_: None)
    source = tmp_path / "out" if KINDS[to].folder else done.labels
    found = read(source, None, Wanted(CLASSES), Sizes())
    assert take(desk, found) == TakenIn(0, 10, 0)
    changed = [replace(one, boxes=(BUS,)) if one.source == f"{numbered[3].id}.jpg" else one for one in found.pictures]
    again = replace(found, pictures=tuple(changed))
    assert take(desk, again) == TakenIn(1, 9, 1)
    assert rows(by_number(cloud)[3].labels) == [(3.0, 4.0, 33.0, 44.0, 1.0, 4)]
    assert take(desk, again) == TakenIn(0, 10, 0), "the same file once more changes nothing"
    assert desk.reviews.of(CAMERA, [numbered[3].id])[numbered[3].id].who == "ann@desk"


def test_a_person_who_looked_at_all_of_them_says_so(reviewed: Reviewed, tmp_path: Path) -> None:
    cloud, desk = reviewed
    done = export(desk, chosen(desk, CAMERA, "all", None), tmp_path / "out", "coco", lambda *_: None)
    found = read(done.labels, None, Wanted(CLASSES), Sizes())
    assert take(desk, found, confirm=True).taken == 10
    assert take(desk, found, confirm=True) == TakenIn(0, 10, 0)
    sure = detections((*PERSON[:4], 1.0, 0), (*CAR[:4], 1.0, 2))
    assert rows(by_number(cloud)[3].labels) == rows(sure), "the doubtful one is gone, the others are certain"


def test_a_second_import_of_a_picture_takes_the_place_of_the_first(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    name = f"{by_number(cloud)[3].id}.jpg"
    assert take(desk, file_of(picture(name, BUS))) == TakenIn(1, 0, 1)
    assert take(desk, file_of(picture(name, replace(BUS, name="car")))) == TakenIn(1, 0, 1)
    assert rows(by_number(cloud)[3].labels) == [(3.0, 4.0, 33.0, 44.0, 1.0, 2)]


def test_a_frame_in_which_a_person_sees_nothing_is_taken_over(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    assert take(desk, file_of(picture(f"{by_number(cloud)[3].id}.jpg"))) == TakenIn(1, 0, 0)
    assert rows(by_number(cloud)[3].labels) == []


def test_of_a_frame_that_nobody_labelled_anything_is_news(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    add(cloud, 60)
    name = by_number(cloud)[60].id
    assert take(desk, file_of(picture(f"{name}.jpg"))) == TakenIn(1, 0, 0)
    assert take(desk, file_of(picture(f"{name}.jpg"))) == TakenIn(0, 1, 0)


@pytest.mark.parametrize("name", ["{}.jpg", "images/{}.png", "{}_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "x-{}"])
def test_a_frame_is_known_wherever_a_tool_put_its_name(reviewed: Reviewed, name: str) -> None:
    cloud, desk = reviewed
    assert take(desk, file_of(picture(name.format(by_number(cloud)[3].id), BUS))).taken == 1


def test_a_renamed_picture_is_known_by_its_bytes(reviewed: Reviewed, tmp_path: Path) -> None:
    cloud, desk = reviewed
    frame = by_number(cloud)[3]
    jpeg = desk.store.jpeg(frame)
    assert jpeg is not None
    (tmp_path / "one.jpg").write_bytes(jpeg)
    assert take(desk, file_of(picture("one.jpg", BUS)), images=tmp_path).taken == 1
    assert rows(by_number(cloud)[3].labels) == [(3.0, 4.0, 33.0, 44.0, 1.0, 4)]
    (tmp_path / "one.jpg").write_bytes(jpeg + b" ")
    with pytest.raises(InputError, match=r"1 of 1 pictures are no stored frames of camera gate: one\.jpg"):
        take(desk, file_of(picture("one.jpg", BUS)), images=tmp_path)


def elsewhere(cloud: CloudState) -> str:
    cloud.enroll("yard", edge="edge-2")
    add(cloud, 50, camera="yard")
    (frame,) = cloud.frames.select("yard", sa.true(), frames.c.captured.asc(), None)
    return frame.id


def gone(cloud: CloudState) -> str:
    name = by_number(cloud)[5].id
    cloud.frames.remove(CAMERA, [name])
    return name


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (lambda _: "0" * 32, "nothing is taken over"),
        (elsewhere, "1 are of camera yard; nothing is taken over"),
        (gone, r"1 are no longer stored \(expired\); nothing is taken over"),
        (lambda _: "IMG_0001", "Names of frames are 32 hex digits.*--images"),
    ],
)
def test_a_picture_without_a_frame_is_named_and_nothing_is_half_taken(
    reviewed: Reviewed, other: Callable[[CloudState], str], why: str
) -> None:
    cloud, desk = reviewed
    before = rows(by_number(cloud)[3].labels)
    name = other(cloud)
    with pytest.raises(InputError, match=rf"f:2: 1 of 2 pictures are no stored .*{name}\.jpg.*{why}"):
        take(desk, file_of(picture(f"{by_number(cloud)[3].id}.jpg", BUS), picture(f"{name}.jpg", at="f:2")))
    assert rows(by_number(cloud)[3].labels) == before


def test_many_unknown_pictures_are_counted_and_some_named(reviewed: Reviewed) -> None:
    _, desk = reviewed
    with pytest.raises(InputError, match=r"20 of 20 pictures .*0\.jpg, 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg and 15 more"):
        take(desk, file_of(*(picture(f"{at}.jpg") for at in range(20))))


def test_a_picture_of_another_size_or_that_comes_twice_is_named(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    name = by_number(cloud)[3].id
    small = replace(picture(f"{name}.jpg", BUS), width=32, height=24)
    with pytest.raises(InputError, match=r"is 32x24, the frame 64x48: label it at its own size"):
        take(desk, file_of(small))
    with pytest.raises(InputError, match=rf"f:9: b/{name}\.jpg is the same frame as {name}\.jpg at labels\.jsonl:1"):
        take(desk, file_of(picture(f"{name}.jpg"), picture(f"b/{name}.jpg", at="f:9")))
