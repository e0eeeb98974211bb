"""Frames and models in a bucket: durable before their rows, never overwritten, and found again without an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from culling.cloud.check.checks import check_all
from culling.cloud.store.frames import Reconciled
from culling.cloud.store.fsck import fsck
from culling.cloud.store.objects.bucket import Bucket
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.store.objects.orphans import SETTLED_S, collect
from culling.cloud.store.purge.purge import purge
from culling.cloud.store.registry import ModelFiles
from culling.common.clock import SystemClock
from culling.common.errors import ModelError, StorageError
from culling.common.process.checks import Result
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, hard_frame
from support.s3 import S3
from support.stored import EDGE, add, everything

NAME = frame_id(EDGE, "boot-1", 1)


@pytest.fixture
def cloud(tmp_path: Path, bucket: str) -> Iterator[CloudState]:
    state = CloudState(tmp_path, store={"objects": f"{bucket}/yard"})
    state.enroll()
    yield state
    state.close()


@pytest.fixture
def objects(cloud: CloudState) -> Bucket:
    found = open_objects(cloud.settings.store.objects, cloud.data_dir)
    assert isinstance(found, Bucket)
    return found


def names(objects: Bucket, folder: str = "frames") -> list[str]:
    return [item.name for item in objects.list(folder)]


def later() -> float:
    return SystemClock().now() + 2 * SETTLED_S


def test_a_picture_lies_under_a_name_that_says_what_it_is(cloud: CloudState, objects: Bucket) -> None:
    frame, jpeg = hard_frame(1)
    assert cloud.frames.add(EDGE, frame, jpeg) == "stored"
    assert names(objects) == [f"frames/{CAMERA}/{NAME}-{frame.sha256[:16]}.jpg"]
    (stored,) = everything(cloud)
    assert cloud.frames.jpeg(stored) == jpeg
    assert cloud.frames.place(CAMERA, NAME) == f"{cloud.settings.store.objects}/{names(objects)[0]}"
    assert not list(cloud.data_dir.rglob("*.jpg"))


def test_frames_and_models_in_a_bucket_are_checked(cloud: CloudState, objects: Bucket) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    add(cloud, 1, 2)
    assert fsck(cloud.settings).findings == ()
    objects.delete(names(objects)[:1])
    (finding,) = fsck(cloud.settings, repair=True).findings
    assert "its file cannot be read" in str(finding)
    assert len(everything(cloud)) == 1


def test_another_picture_of_the_same_name_harms_nothing(cloud: CloudState, objects: Bucket) -> None:
    add(cloud, 1)
    (stored,) = everything(cloud)
    before = cloud.frames.jpeg(stored)
    frame, jpeg = hard_frame(2)
    assert cloud.frames.add(EDGE, msgspec.structs.replace(frame, seq=1), jpeg) == "duplicate"
    assert cloud.frames.jpeg(stored) == before
    assert collect(cloud.index, objects, cloud.frames, later()) == Reconciled(removed=1)
    assert names(objects) == [f"frames/{CAMERA}/{NAME}-{stored.sha256[:16]}.jpg"]


def test_what_is_removed_is_removed_from_the_bucket(cloud: CloudState, objects: Bucket) -> None:
    add(cloud, 1, 2, 3)
    cloud.frames.remove(CAMERA, [NAME])
    assert len(names(objects)) == 2
    cloud.frames.put_aside(everything(cloud)[0])
    assert len(names(objects)) == len(names(objects, "corrupt")) == 1
    done = purge(cloud.index, cloud.data_dir, CAMERA, None, SystemClock().now(), objects)
    assert done.pictures == 2
    assert names(objects) == names(objects, "corrupt") == []


def test_an_index_is_made_again_from_the_bucket(cloud: CloudState, objects: Bucket, tmp_path: Path) -> None:
    add(cloud, *range(1, 6))
    objects.put({f"frames/{CAMERA}/{'f' * 32}-0123456789abcdef.jpg": b"no frame of ours"})
    (tmp_path / "new").mkdir()
    new = CloudState(tmp_path / "new", store={"objects": cloud.settings.store.objects})
    assert new.frames.reconcile() == Reconciled(), "others may be writing: nothing is looked for at a start"
    assert collect(new.index, objects, new.frames, SystemClock().now()) == Reconciled(), "a row may be on its way"
    assert collect(new.index, objects, new.frames, later()) == Reconciled(reindexed=5, quarantined=1)
    assert new.frames.counts() == cloud.frames.counts()
    assert collect(new.index, objects, new.frames, later()) == Reconciled()
    new.close()


def test_a_frame_that_its_edge_sent_again_is_no_orphan_any_more(cloud: CloudState, objects: Bucket) -> None:
    add(cloud, 1)
    (name,) = names(objects)
    assert cloud.frames.settle_object(name) is None
    assert names(objects) == [name]


def test_frames_that_came_before_there_was_a_bucket_are_read_where_they_lie(tmp_path: Path, bucket: str) -> None:
    before = CloudState(tmp_path)
    before.enroll()
    add(before, 1, 2, 3)
    before.close()
    cloud = CloudState(tmp_path, store={"objects": bucket})
    add(cloud, 4)
    assert all(cloud.frames.jpeg(frame) is not None for frame in everything(cloud))
    cloud.frames.remove(CAMERA, [NAME])
    cloud.frames.put_aside(everything(cloud)[0])
    assert len(list((cloud.data_dir / "frames").rglob("*.jpg"))) == 1
    objects = Bucket(bucket)
    done = purge(cloud.index, cloud.data_dir, CAMERA, None, SystemClock().now(), objects)
    assert done.pictures == 3
    assert [*cloud.data_dir.rglob("*.jpg"), *objects.list("frames")] == []
    cloud.close()


@pytest.mark.fault
def test_while_the_bucket_is_gone_nothing_is_acknowledged_and_nothing_is_put_aside(
    cloud: CloudState, objects: Bucket, s3: S3, bucket: str
) -> None:
    add(cloud, 1)
    (stored,) = everything(cloud)
    s3.lose()
    with pytest.raises(StorageError, match="there is no such bucket"):
        cloud.frames.add(EDGE, *hard_frame(2))
    with pytest.raises(StorageError, match="there is no such bucket"):
        cloud.frames.jpeg(stored)
    assert [frame.id for frame in everything(cloud)] == [NAME]
    s3.make(bucket.removeprefix("s3://"))
    assert cloud.frames.add(EDGE, *hard_frame(2)) == "stored"
    assert cloud.frames.jpeg(stored) is None, "in a bucket that is there again and empty, it is lost"


def test_a_model_is_copied_from_the_bucket_once(cloud: CloudState, objects: Bucket, tmp_path: Path) -> None:
    artefact = cloud.artefact()
    there = ModelFiles(tmp_path / "elsewhere" / "models", objects)
    assert there.keeps(artefact.sha256)
    assert there.piece(artefact.sha256, 0, 100) == cloud.files.read(artefact.sha256)[:100]
    assert cloud.files.prune(set(), later()) == 1
    assert names(objects, "models") == []
    assert there.read(artefact.sha256), "its copy is enough"
    assert not cloud.files.keeps(artefact.sha256)
    with pytest.raises(ModelError, match="cannot be read"):
        cloud.files.read(artefact.sha256)


def test_a_live_model_outlives_the_machine_that_made_it(cloud: CloudState, tmp_path: Path) -> None:
    model = cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    (tmp_path / "new").mkdir()
    new = CloudState(tmp_path / "new", store={"objects": cloud.settings.store.objects})
    new.enroll()
    assert new.publisher.publish(CAMERA, model.artefact, "base").artefact.sha256 == model.artefact.sha256
    new.close()


def test_a_check_tries_the_bucket(cloud: CloudState, objects: Bucket, s3: S3) -> None:
    def tried() -> Result:
        return next(result for result in check_all(cloud.settings) if result.what == "frames")

    assert tried().detail == f"written, read and removed in {cloud.settings.store.objects}"
    assert names(objects, "check") == []
    s3.lose()
    assert "there is no such bucket" in str(tried().error)
