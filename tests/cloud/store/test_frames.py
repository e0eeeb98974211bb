from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.store.frames import MOST_UNKNOWN, Arrival, Reconciled, is_guard, is_held_out
from culling.cloud.store.index import frames as table
from culling.cloud.store.picture import unseal
from culling.common.clock import DAY_S
from culling.common.errors import StorageError
from culling.common.wire.echo import AGES, encode
from culling.common.wire.ignored import place
from culling.common.wire.messages import Beside, to_wire
from culling.common.wire.protocol import frame_id
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, detections, hard_frame
from support.echoes import echo
from support.stored import EDGE, add, everything, files, known, label_all, split


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[CloudState]:
    state = CloudState(tmp_path, clock)
    yield state
    state.close()


def test_a_stored_frame_has_a_row_and_a_file_that_agree(cloud: CloudState) -> None:
    frame, jpeg = hard_frame(7)
    assert cloud.frames.add(EDGE, frame, jpeg) == "stored"
    (stored,) = everything(cloud)
    assert cloud.frames.jpeg(stored) == jpeg
    assert (stored.camera, stored.loss, stored.width, stored.height) == (CAMERA, 7.0, 64, 48)
    assert stored.detections.labels.tolist() == [0]
    assert stored.labels is None


def test_a_frame_is_stored_once_however_often_it_comes(cloud: CloudState) -> None:
    frame, jpeg = hard_frame(1)
    cloud.frames.add(EDGE, frame, jpeg)
    assert cloud.frames.add(EDGE, frame, jpeg) == "duplicate"
    assert len(files(cloud)) == len(everything(cloud)) == 1


def test_of_frames_stored_together_only_those_that_are_new_get_a_row(cloud: CloudState) -> None:
    add(cloud, 2)
    together = [Arrival(EDGE, *hard_frame(seq)) for seq in (1, 2, 3)]
    assert cloud.frames.add_all(together) == ["stored", "duplicate", "stored"]
    assert len(files(cloud)) == len(everything(cloud)) == 3


def test_of_frames_asked_for_together_those_that_came_before_are_told_with_their_hash(cloud: CloudState) -> None:
    add(cloud, 1, 3)
    names = {seq: frame_id(EDGE, "boot-1", seq) for seq in (1, 2, 3)}
    assert cloud.frames.known(names.values()) == {names[seq]: hard_frame(seq)[0].sha256 for seq in (1, 3)}
    assert cloud.frames.known([]) == {}


@pytest.mark.parametrize("change", [("f" * 40, "boot-1", 1), (EDGE, "boot-2", 1), (EDGE, "boot-1", 2)])
def test_edge_boot_and_number_name_a_frame(cloud: CloudState, change: tuple[str, str, int]) -> None:
    add(cloud, 1)
    edge, boot, seq = change
    frame, jpeg = hard_frame(seq, boot=boot)
    assert not cloud.frames.known([frame_id(edge, boot, seq)])
    assert cloud.frames.add(edge, frame, jpeg) == "stored"
    assert len(everything(cloud)) == 2


def test_no_part_of_a_name_can_be_moved_into_its_neighbour() -> None:
    assert frame_id("ab", "c", 1) != frame_id("a", "bc", 1)
    assert frame_id("a", "b1", 2) != frame_id("a", "b", 12)


def test_of_any_five_blocks_in_a_row_one_is_held_out() -> None:
    held = np.array([is_held_out(CAMERA, 1_800_000_000 + 300 * block) for block in range(5000)]).reshape(-1, 5)
    assert (held.sum(1) == 1).all()
    assert (held.sum(0) > 150).all(), "which of them is drawn anew each time"


@given(st.integers(0, 10**7), st.floats(0, 299.9), st.floats(0, 299.9))
def test_frames_of_one_block_are_all_held_out_or_none_is(block: int, one: float, other: float) -> None:
    assert is_held_out(CAMERA, block * 300.0 + one) == is_held_out(CAMERA, block * 300.0 + other)


def test_cameras_are_not_held_out_at_the_same_times() -> None:
    times = [1_800_000_000.0 + 300 * block for block in range(100)]
    assert [is_held_out("gate", at) for at in times] != [is_held_out("yard", at) for at in times]


def test_a_file_without_a_row_is_written_over_by_the_repeat(cloud: CloudState) -> None:
    frame, jpeg = hard_frame(1)
    path = cloud.data_dir / "frames" / CAMERA / f"{frame_id(EDGE, 'boot-1', 1)}.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(jpeg[:10])
    assert cloud.frames.add(EDGE, frame, jpeg) == "stored"
    assert unseal(path.read_bytes())[0] == jpeg


def test_what_a_power_cut_left_is_settled_at_the_next_start(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    folder = cloud.data_dir / "frames" / CAMERA
    (folder / "0123.jpg").write_bytes(b"a stranger's file")
    (folder / ".0123.jpg.abc.tmp").write_bytes(b"half")
    assert cloud.frames.reconcile() == Reconciled(removed=1, quarantined=1)
    assert len(files(cloud)) == 2
    assert (cloud.data_dir / "corrupt" / "0123.jpg").read_bytes() == b"a stranger's file"
    assert cloud.frames.reconcile() == Reconciled()


def test_an_index_older_than_the_frames_gets_their_rows_again(cloud: CloudState, clock: FakeClock) -> None:
    add(cloud, *range(100))
    before = everything(cloud)
    received = clock.now()
    with cloud.index.write() as connection:
        connection.execute(table.delete().where(table.c.seq > 0))
    clock.advance(DAY_S)
    assert cloud.frames.reconcile() == Reconciled(reindexed=99)
    assert [repr(frame) for frame in everything(cloud)] == [repr(frame) for frame in before]
    assert all(cloud.frames.jpeg(frame) is not None for frame in before)
    with cloud.index.read() as connection:
        assert set(connection.execute(sa.select(table.c.received)).scalars()) == {received}


def test_the_probability_of_an_audit_is_kept_and_outlives_its_row(cloud: CloudState) -> None:
    audit, jpeg = hard_frame(1, reason="audit", probability=0.005)
    cloud.frames.add(EDGE, audit, jpeg)
    add(cloud, 2)
    for _ in range(2):
        assert {frame.reason: frame.probability for frame in everything(cloud)} == {"audit": 0.005, "hard": None}
        with cloud.index.write() as connection:
            connection.execute(table.delete())
        assert cloud.frames.reconcile() == Reconciled(reindexed=2)


def test_the_places_that_a_camera_ignored_are_kept_and_outlive_the_row(cloud: CloudState) -> None:
    corner = place(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), ("car",))
    add(cloud, 1, ignored=(corner,))
    for _ in range(2):
        assert [frame.ignored for frame in everything(cloud)] == [(corner,)]
        with cloud.index.write() as connection:
            connection.execute(table.delete())
        assert cloud.frames.reconcile() == Reconciled(reindexed=1)


def test_what_a_shadow_found_is_kept_and_outlives_the_row(cloud: CloudState) -> None:
    beside = Beside("gate-2", to_wire(detections((1, 1, 20, 20, 0.9, 0))))
    add(cloud, 1, shadow=beside)
    for _ in range(2):
        with cloud.index.write() as connection:
            (blob,) = connection.execute(sa.select(table.c.shadow)).scalars()
            connection.execute(table.delete())
        assert msgspec.msgpack.decode(blob, type=Beside) == beside
        assert cloud.frames.reconcile() == Reconciled(reindexed=1)


def test_the_echo_of_an_audit_is_kept_by_the_classes_of_its_camera_and_outlives_the_row(cloud: CloudState) -> None:
    two = detections((0, 0, 9, 9, 0.9, 2), (0, 0, 9, 9, 0.5, 0))
    audit, jpeg = hard_frame(1, reason="audit", probability=0.005, echo=encode(echo([two])))
    cloud.frames.add(EDGE, audit, jpeg)
    for _ in range(2):
        [frame] = everything(cloud)
        assert frame.echo is not None
        assert [one.labels.tolist() for one in frame.echo.found] == [[2, 0]] * len(AGES)
        with cloud.index.write() as connection:
            connection.execute(table.delete())
        assert cloud.frames.reconcile() == Reconciled(reindexed=1)
    cloud.frames.remove(CAMERA, [frame.id])
    with cloud.index.read() as connection:
        assert connection.execute(sa.select(table.c.echo)).scalar_one() is None


def test_a_frame_that_a_row_says_is_gone_is_not_indexed_again(cloud: CloudState) -> None:
    add(cloud, 1)
    [path] = files(cloud)
    data = path.read_bytes()
    cloud.frames.remove(CAMERA, [path.stem])
    path.write_bytes(data)  # as when the power went before the file was unlinked
    assert cloud.frames.reconcile() == Reconciled(removed=1)
    assert files(cloud) == []


@pytest.mark.parametrize("spoil", ["picture", "record", "name", "camera"])
def test_a_file_that_is_not_what_it_says_is_moved_to_quarantine(cloud: CloudState, spoil: str) -> None:
    add(cloud, 1)
    [path] = files(cloud)
    data = bytearray(path.read_bytes())
    if spoil in ("picture", "record"):
        data[100 if spoil == "picture" else -20] ^= 0xFF
        path.write_bytes(data)
    if spoil == "name":
        path.rename(path.with_name(f"{'0' * 32}.jpg"))
    if spoil == "camera":
        (other := path.parent.with_name("other")).mkdir()
        path.rename(other / path.name)
    with cloud.index.write() as connection:
        connection.execute(table.delete())
    assert cloud.frames.reconcile() == Reconciled(quarantined=1)
    assert len(list((cloud.data_dir / "corrupt").iterdir())) == 1


def test_many_files_that_nothing_names_are_left_where_they_are(cloud: CloudState) -> None:
    folder = cloud.data_dir / "frames" / CAMERA
    folder.mkdir(parents=True)
    for number in range(MOST_UNKNOWN + 1):  # version 0.1 wrote no record
        (folder / f"{number:032x}.jpg").write_bytes(b"jpeg")
    with pytest.raises(StorageError, match="restore the index"):
        cloud.frames.reconcile()
    assert len(files(cloud)) == MOST_UNKNOWN + 1


def test_a_disk_that_refuses_leaves_no_row(cloud: CloudState) -> None:
    (cloud.data_dir / "frames").write_text("a file where the folder should be")
    frame, jpeg = hard_frame(1)
    with pytest.raises(StorageError):
        cloud.frames.add(EDGE, frame, jpeg)
    assert not known(cloud)


def test_beside_a_held_out_block_lies_a_guard() -> None:
    block = next(block for block in range(6_000_000, 6_000_050) if is_held_out(CAMERA, 300.0 * block))
    before, after = 300.0 * block, 300.0 * (block + 1)
    assert not is_guard(CAMERA, before, 300.0, 60.0)
    for at, inside in ((before - 61, False), (before - 59, True), (after + 59, True), (after + 61, False)):
        assert is_guard(CAMERA, at, 300.0, 60.0) == (inside and not is_held_out(CAMERA, at))
    assert not any(is_guard(CAMERA, before - 1 + shift, 300.0, 0.0) for shift in range(303))


def test_frames_of_a_guard_are_neither_trained_on_nor_judged_by(tmp_path: Path, clock: FakeClock) -> None:
    cloud = CloudState(tmp_path, clock, store={"held_out_block_s": 10.0, "guard_s": 3.0})
    add(cloud, *range(1, 101))
    found = everything(cloud)
    guards = [frame for frame in found if frame.guard]
    judges = [frame for frame in found if frame.held_out and not frame.guard]
    assert len(guards) >= 6
    assert cloud.frames.counts()[CAMERA].asking == 100 - len(guards)
    label_all(cloud)
    counts = cloud.frames.counts()[CAMERA]
    assert (counts.held_out, counts.waiting) == (len(judges), 100 - len(guards) - len(judges))
    assert {frame.id for frame in cloud.lifecycle.held_out(CAMERA, 100)} == {frame.id for frame in judges}
    assert not {frame.id for frame in cloud.lifecycle.pool(CAMERA, 100)} & {frame.id for frame in guards}
    cloud.close()


def test_held_out_frames_do_not_wait_for_a_round(cloud: CloudState, clock: FakeClock) -> None:
    trained, held = split(20)
    add(cloud, *trained, *held)
    counts = cloud.frames.counts()[CAMERA]
    assert (counts.waiting, counts.held_out) == (0, 0), "before they are labelled"
    assert (counts.asking_others, counts.asking_judges) == (len(trained), len(held))
    label_all(cloud)
    counts = cloud.frames.counts()[CAMERA]
    assert held
    assert (counts.stored, counts.waiting, counts.held_out) == (20, len(trained), len(held))
    assert counts.bytes == sum(path.stat().st_size for path in files(cloud))
    assert counts.oldest_waiting == clock.now()


def test_a_flipped_byte_puts_a_frame_aside(cloud: CloudState) -> None:
    add(cloud, 1, 2)
    path = files(cloud)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = [cloud.frames.jpeg(frame) for frame in everything(cloud)]
    assert found.count(None) == 1
    assert len(everything(cloud)) == 1
    assert [kept.read_bytes() for kept in (cloud.data_dir / "corrupt").iterdir()] == [bytes(data)]


def test_a_file_that_cannot_be_read_puts_a_frame_aside(cloud: CloudState) -> None:
    add(cloud, 1)
    path = files(cloud)[0]
    path.unlink()
    path.mkdir()  # nobody reads that, not even root
    assert cloud.frames.jpeg(everything(cloud)[0]) is None
    assert everything(cloud) == []


def test_a_missing_file_puts_a_frame_aside_and_its_repeat_is_still_known(cloud: CloudState) -> None:
    add(cloud, 1)
    files(cloud)[0].unlink()
    assert cloud.frames.jpeg(everything(cloud)[0]) is None
    assert everything(cloud) == []
    assert known(cloud)


def test_frames_come_back_in_the_order_named(cloud: CloudState) -> None:
    add(cloud, 1, 2, 3)
    ids = [frame.id for frame in everything(cloud)]
    assert [frame.id for frame in cloud.frames.get([ids[2], "f" * 32, ids[0]])] == [ids[2], ids[0]]


def test_a_picture_that_does_not_decode_can_be_put_aside(cloud: CloudState) -> None:
    add(cloud, 1)
    (frame,) = everything(cloud)
    cloud.frames.put_aside(replace(frame))
    assert everything(cloud) == []
    assert len(list((cloud.data_dir / "corrupt").iterdir())) == 1


def test_a_row_that_cannot_be_decoded_is_put_aside_and_the_others_come(cloud: CloudState) -> None:
    add(cloud, 1, 2, 3)
    rotten = frame_id(EDGE, "boot-1", 2)
    with cloud.index.write() as connection:
        connection.execute(table.update().where(table.c.id == rotten).values(detections=b"\xc1"))
    found = cloud.frames.select(CAMERA, sa.true(), table.c.seq, None)
    assert [frame.id for frame in found] == [frame_id(EDGE, "boot-1", seq) for seq in (1, 3)]
    assert (cloud.data_dir / "corrupt" / f"{rotten}.jpg").exists()
    assert known(cloud, 2)
