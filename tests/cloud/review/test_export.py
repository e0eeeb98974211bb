from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from culling.cloud.annotations.classes import Wanted
from culling.cloud.annotations.convert import KINDS, read
from culling.cloud.annotations.folder import Sizes
from culling.cloud.annotations.looks import FORMATS, Format
from culling.cloud.review.desk import Desk
from culling.cloud.review.export import What, chosen, export
from culling.cloud.store.people.reviews import Said
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError
from support.cloud import CAMERA, CloudState, detections
from support.reviewing import CAR, by_number, number

Reviewed = tuple[CloudState, Desk]


def quiet(done: int, note: str) -> None:
    pass


def numbers(desk: Desk, what: What, most: int | None = None) -> list[int]:
    return [number(frame) for frame in chosen(desk, CAMERA, what, most)]


def test_each_set_has_its_frames(reviewed: Reviewed) -> None:
    cloud, desk = reviewed
    frames = by_number(cloud)
    held = [seq for seq, frame in frames.items() if frame.held_out and not frame.guard]
    trained = [seq for seq, frame in frames.items() if not frame.held_out]
    cloud.lifecycle.keep([frames[seq].id for seq in trained[:2]], 1)
    cloud.lifecycle.keep([frames[seq].id for seq in trained[2:4]], 2)
    assert numbers(desk, "culled") == trained[2:4], "the latest set"
    assert numbers(desk, "held-out") == held
    assert numbers(desk, "all") == list(range(1, 11))
    assert numbers(desk, "all", most=3) == [1, 2, 3]
    assert sorted(numbers(desk, "disputed")) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("what", ["culled", "held-out", "disputed", "all"])
def test_an_empty_set_says_why(tmp_path: Path, what: What) -> None:
    from support.reviewing import reviewing

    cloud, desk = reviewing(tmp_path, count=0)
    with pytest.raises(InputError, match=f"camera {CAMERA}: nothing to export, "):
        chosen(desk, CAMERA, what, None)
    with pytest.raises(InputError, match="there is no camera yard"):
        chosen(desk, "yard", what, None)
    cloud.close()


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_written_are_the_pictures_as_stored_and_the_labels_that_count(
    reviewed: Reviewed, tmp_path: Path, to: Format
) -> None:
    _, desk = reviewed
    out = tmp_path / "out"
    frames = chosen(desk, CAMERA, "all", None)
    done = export(desk, frames, out, to, quiet)
    assert (done.frames, done.boxes, done.lost) == (10, 15, 0)
    assert done.labels.exists()
    pictures = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.jpg")}
    assert pictures == {frame.id: frame.sha256 for frame in frames}
    source = out if KINDS[to].folder else done.labels
    found = read(source, None, Wanted(CLASSES), Sizes())
    assert {picture.source for picture in found.pictures} == {f"{frame.id}.jpg" for frame in frames}
    assert found.boxes == 15, "doubtful boxes stay here"


def test_pycocotools_opens_it(reviewed: Reviewed, tmp_path: Path) -> None:
    _, desk = reviewed
    done = export(desk, chosen(desk, CAMERA, "all", None), tmp_path / "out", "coco", quiet)
    found = COCO(str(done.labels))
    assert len(found.getImgIds()) == 10
    assert len(found.getAnnIds(catIds=found.getCatIds(["car"]))) == 5


def test_a_persons_labels_are_what_is_exported(reviewed: Reviewed, tmp_path: Path) -> None:
    cloud, desk = reviewed
    name = by_number(cloud)[1].id
    desk.reviews.enter(CAMERA, {name: Said("corrected", detections(CAR))}, "ann", 1.0, lambda _: None)
    done = export(desk, chosen(desk, CAMERA, "all", 1), tmp_path / "out", "culling", quiet)
    (picture,) = read(done.labels, None, Wanted(CLASSES), Sizes()).pictures
    assert [(box.name, box.score) for box in picture.boxes] == [("car", 1.0)]


def test_a_damaged_picture_is_left_out_and_counted(reviewed: Reviewed, tmp_path: Path) -> None:
    _, desk = reviewed
    frames = chosen(desk, CAMERA, "all", None)
    desk.store.path(CAMERA, frames[0].id).write_bytes(b"rotten")
    done = export(desk, frames, tmp_path / "out", "voc", quiet)
    assert (done.frames, done.lost) == (9, 1)


def test_a_folder_that_holds_something_is_not_written_to(reviewed: Reviewed, tmp_path: Path) -> None:
    _, desk = reviewed
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        export(desk, chosen(desk, CAMERA, "all", None), tmp_path / "out", "coco", quiet)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
