"""Both places for bytes keep what they were given, and say what became of what they were not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.objects.bucket import Bucket
from culling.cloud.store.objects.folder import Folder
from culling.cloud.store.objects.objects import LostError, Objects, open_objects
from culling.common.errors import StorageError
from support.s3 import S3

FILES = {"frames/gate/a.jpg": b"first", "frames/gate/b.jpg": b"second one", "frames/yard/c.jpg": b"x" * 300_000}


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Folder(tmp_path)
    return Bucket(f"{request.getfixturevalue('bucket')}/some/prefix")


def test_what_was_put_is_there_whole_and_in_parts(place: Objects) -> None:
    place.put(FILES)
    assert {name: place.get(name) for name in FILES} == FILES
    assert place.range("frames/gate/b.jpg", 7, 100) == b"one"
    place.put(FILES)
    assert place.get("frames/gate/a.jpg") == b"first"


def test_a_folder_lists_what_lies_below_it(place: Objects) -> None:
    place.put(FILES)
    found = {item.name: item.size for item in place.list("frames/gate")}
    assert found == {"frames/gate/a.jpg": 5, "frames/gate/b.jpg": 10}
    assert all(abs(item.written - time.time()) < 60 for item in place.list("frames"))
    assert len(list(place.list("frames"))) == 3
    assert list(place.list("models")) == []


def test_what_is_deleted_is_lost_and_may_be_deleted_again(place: Objects) -> None:
    place.put(FILES)
    for _ in range(2):
        place.delete(["frames/gate/a.jpg", "frames/gate/b.jpg"])
    assert [item.name for item in place.list("frames")] == ["frames/yard/c.jpg"]
    with pytest.raises(LostError, match=r"frames/gate/a\.jpg"):
        place.get("frames/gate/a.jpg")
    with pytest.raises(LostError):
        place.range("frames/gate/a.jpg", 0, 1)


def test_what_is_moved_has_another_name(place: Objects) -> None:
    place.put(FILES)
    for _ in range(2):
        place.move("frames/gate/a.jpg", "corrupt/a.jpg")
    assert place.get("corrupt/a.jpg") == b"first"
    with pytest.raises(LostError):
        place.get("frames/gate/a.jpg")


def test_where_it_lies_can_be_told(place: Objects) -> None:
    assert place.place("frames/gate/a.jpg").endswith("/frames/gate/a.jpg")


def test_without_a_url_it_is_the_data_folder(tmp_path: Path) -> None:
    place = open_objects(None, tmp_path)
    place.put({"models/a.onnx": b"graph"})
    assert (tmp_path / "models" / "a.onnx").read_bytes() == b"graph"
    assert not place.shared


def test_the_package_that_a_bucket_needs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageError, match=r"pip install 'culling\[s3\]'"):
        open_objects("s3://bucket", tmp_path)


@pytest.mark.fault
def test_a_bucket_that_vanished_loses_nothing(bucket: str, s3: S3) -> None:
    place = Bucket(bucket)
    place.put(FILES)
    s3.lose()
    for do in (
        lambda: place.get("frames/gate/a.jpg"),
        lambda: place.put(FILES),
        lambda: place.delete(FILES),
        lambda: list(place.list("frames")),
    ):
        with pytest.raises(StorageError) as raised:
            do()
        assert not isinstance(raised.value, LostError), "a frame would be put aside for it"
    s3.make(bucket.removeprefix("s3://"))
    place.put(FILES)
    assert place.get("frames/gate/a.jpg") == b"first"


@pytest.fixture
def ailing(s3: S3) -> Iterator[S3]:
    yield s3
    s3.err("")


@pytest.mark.fault
def test_a_store_that_errs_and_one_that_is_slow_are_no_loss(
    bucket: str, ailing: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.store.objects.bucket.ANSWER_S", 1)
    monkeypatch.setattr("culling.cloud.store.objects.bucket.TRIES", 1)
    place = Bucket(bucket)
    place.put(FILES)
    for fault in ("503", "3"):
        ailing.err(fault)
        with pytest.raises(StorageError, match=f"{bucket}/frames/gate/a.jpg cannot be read") as raised:
            place.get("frames/gate/a.jpg")
        assert not isinstance(raised.value, LostError)
        assert "hunter2" not in str(raised.value)
    ailing.err("0.2")
    assert place.get("frames/gate/a.jpg") == b"first"
