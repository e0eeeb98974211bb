"""The spool: what is durable, what goes first, and that every frame is accounted for, on real SQLite files."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from culling.common.clock import DAY_S
from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.selection.budget import Spent
from culling.common.selection.sampling import Draw
from culling.common.selection.selector import Released, Waiting
from culling.common.wire import ignored
from culling.common.wire.messages import WireDetections, WireFeatures, from_wire
from culling.edge.spool.rows import ROW_BYTES, Leaving
from culling.edge.spool.spool import Spool, SpoolCounts, Spooled
from support.scores import FEATURES, score


@dataclass(frozen=True)
class Shot:
    camera: str = "gate"
    seq: int = 7
    pts: float = 0.28
    captured: float = 1.7e9
    width: int = 640
    height: int = 480


def leaving(left: list[Leaving]) -> list[tuple[str, int]]:
    """Return reason and size of each."""
    return [one[:2] for one in left]


FOUND = Detections(np.array([[1.0, 2.0, 30.0, 40.0]], np.float32), np.array([0.4], np.float32), np.array([2], np.int64))
MIB = 1 << 20


def put(
    spool: Spool,
    loss: float = 1.0,
    *,
    worth: float | None = None,
    camera: str = "gate",
    reason: str = "hard",
    held: bool = False,
    jpeg: bytes | None = None,
    found: Detections = FOUND,
    model: str = "m1",
    draw: Draw | None = None,
) -> int:
    return spool.add(
        Shot(camera=camera),
        found=found,
        score=score(loss, worth),
        reason=reason,
        model_id=model,
        jpeg=random.Random(loss).randbytes(2000) if jpeg is None else jpeg,
        held=held,
        draw=draw,
    )


def balanced(counts: SpoolCounts) -> bool:
    return counts.made == counts.acked + counts.evicted + counts.ready + counts.held


def weight(frames: int, jpeg: int = 2000) -> int:
    """Bytes that `frames` frames put here weigh."""
    wire = sum(len(msgspec.msgpack.encode(each)) for each in (WireDetections(b"0" * 16, b"0" * 4, b"0"), FEATURES))
    return frames * (jpeg + wire + ROW_BYTES)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db", 10 * MIB, "boot-1")
    yield spool
    spool.close()


def drain(spool: Spool) -> list[Spooled]:
    """Acknowledge all that is ready; fails if that never ends."""
    taken = []
    for _ in range(1000):
        frames = spool.ready(10)
        if not frames:
            return taken
        for frame in frames:
            spool.delete(frame.boot, frame.seq)
        taken += frames
    raise AssertionError("the spool never runs dry")


def test_a_frame_comes_back_as_it_went_in(spool: Spool) -> None:
    seq = put(spool, 1.25, reason="audit", jpeg=b"\xff\xd8 jpeg \xff\xd9")
    (frame,) = spool.ready(5)
    assert (frame.boot, frame.seq, frame.camera, frame.frame) == ("boot-1", seq, "gate", 7)
    assert (frame.pts, frame.captured, frame.reason, frame.loss) == (0.28, 1.7e9, "audit", 1.25)
    assert (frame.model_id, frame.width, frame.height) == ("m1", 640, 480)
    assert frame.jpeg == b"\xff\xd8 jpeg \xff\xd9"
    assert msgspec.msgpack.decode(frame.features, type=WireFeatures) == FEATURES
    found = from_wire(msgspec.msgpack.decode(frame.detections, type=WireDetections))
    np.testing.assert_array_equal(found.boxes, FOUND.boxes)
    np.testing.assert_array_equal(found.labels, FOUND.labels)


def test_ready_frames_come_oldest_first_and_held_ones_not_at_all(spool: Spool) -> None:
    first, _, third = put(spool, 1.0), put(spool, 9.0, held=True), put(spool, 5.0)
    assert [frame.seq for frame in spool.ready(10)] == [first, third]
    assert [frame.seq for frame in spool.ready(1)] == [first]
    assert [frame.seq for frame in spool.ready(10, without={first})] == [third]


def test_a_frame_stays_until_it_is_deleted_by_its_whole_name(spool: Spool) -> None:
    seq = put(spool)
    assert not spool.delete("another-boot", seq)
    assert not spool.delete("boot-1", seq + 1)
    assert len(spool.ready(5)) == 1
    assert spool.delete("boot-1", seq)
    assert not spool.delete("boot-1", seq)
    assert spool.counts() == SpoolCounts(1, 1, 0, 0, 0, 0, {}, 0)


def test_a_held_frame_cannot_be_deleted_by_an_early_ack(spool: Spool) -> None:
    seq = put(spool, held=True)
    assert not spool.delete("boot-1", seq)
    assert spool.counts().held == 1


def test_a_frame_the_cloud_will_never_take_is_counted_under_its_reason(spool: Spool) -> None:
    assert spool.give_up("boot-1", put(spool), reason="refused")
    assert spool.counts().reasons == {"refused": 1}
    assert balanced(spool.counts())


def test_release_takes_the_best_of_one_camera_and_drops_its_rest(spool: Spool) -> None:
    low, best, good = (put(spool, loss, held=True, jpeg=bytes(int(loss * 1000))) for loss in (1.0, 3.0, 2.0))
    other = put(spool, 0.5, camera="yard", held=True)
    assert leaving(spool.release("gate", Released(2), 0.0)) == [("hard", 3000), ("hard", 2000)]
    assert [frame.seq for frame in spool.ready(10)] == [best, good]
    assert low not in [frame.seq for frame in spool.ready(10)]
    assert spool.counts("gate").reasons == {"window": 1}
    assert spool.counts("yard").held == 1
    assert leaving(spool.release("yard", Released(5), 0.0)) == [("hard", 2000)]
    assert other in [frame.seq for frame in spool.ready(10)]


def test_frames_are_valued_by_their_worth_and_not_by_their_loss(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(2), "b")
    for loss, worth in ((9.0, 0.1), (1.0, 0.7), (2.0, 0.4)):
        put(spool, loss, worth=worth, held=True)
    assert sorted(spool.held("gate").losses) == [0.4, 0.7]
    spool.release("gate", Released(1), 0.0)
    assert [(frame.loss, frame.worth) for frame in spool.ready(9)] == [(1.0, 0.7)]
    spool.close()


def test_release_of_none_drops_all_that_are_held(spool: Spool) -> None:
    put(spool, held=True)
    assert spool.release("gate", Released(0), 0.0) == []
    assert spool.counts().reasons == {"window": 1}


def test_of_equal_losses_the_earlier_frame_is_released(spool: Spool) -> None:
    early, _ = put(spool, 1.0, held=True), put(spool, 1.0, held=True)
    spool.release("gate", Released(1), 0.0)
    assert [frame.seq for frame in spool.ready(10)] == [early]


def test_least_valuable_frames_go_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(9), "b")
    worth = [("hard", 9.0, True), ("hard", 1.0, False), ("hard", 2.0, False), ("bootstrap", 0.2, False)]
    worth += [("manual", 0.3, False), ("audit", 0.1, False)]
    ranked = [put(spool, loss, reason=reason, held=held) for reason, loss, held in worth]
    held, *ready = ranked
    spool._max_bytes = weight(6)
    for given_up in range(1, 7):
        put(spool, 99.0, reason="audit")  # the newcomer is worth more than all of them
        assert spool.counts().held == 0, f"{held} went first"
        left = {frame.seq for frame in spool.ready(20)} & set(ranked)
        assert left == (set(ready[given_up - 1 :]) if given_up < 6 else {ranked[-1]}), "of audits the newest goes"
    assert spool.counts().reasons == {"pressure": 6}
    spool.close()


def test_under_pressure_a_camera_pushes_out_no_other_whatever_their_frames_are_worth(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(12), "b")
    by_ranker = [put(spool, worth=0.01 * place, camera="ranked") for place in range(6)]
    for loss in range(50):
        put(spool, 20.0 + loss, camera="by-loss")
    left = spool.ready(99)
    assert [frame.seq for frame in left if frame.camera == "ranked"] == by_ranker
    assert [frame.loss for frame in left if frame.camera == "by-loss"] == [64.0, 65.0, 66.0, 67.0, 68.0, 69.0]
    assert spool.counts("ranked").evicted == 0
    spool.close()


def test_frames_that_two_models_chose_give_way_in_turn(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(8), "b")
    for place in range(8):
        put(spool, 10.0 + place, model="m1")
    for place in range(8):
        put(spool, worth=0.1 * place, model="m2")
    worths = [frame.worth for frame in spool.ready(99)]
    assert worths[:4] == [14.0, 15.0, 16.0, 17.0]
    assert worths[4:] == pytest.approx([0.4, 0.5, 0.6, 0.7])
    spool.close()


def test_audits_of_any_camera_outlast_all_other_frames(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(4), "b")
    audits = [put(spool, 0.0, camera="gate", reason="audit") for _ in range(3)]
    for loss in range(5):
        put(spool, float(loss), camera="yard")
    held = put(spool, 0.0, camera="gate", reason="audit", held=True, draw=Draw(0.5, 9))
    assert [frame.seq for frame in spool.ready(9)] == audits
    assert spool.held("gate") == Waiting([], [0.5], 9)
    put(spool, 0.0, camera="gate", reason="audit", held=True, draw=Draw(0.4, 10))
    assert spool.held("gate") == Waiting([], [0.4], 10), f"of held audits the highest lot goes: {held}"
    spool.close()


def test_the_drawn_leave_with_their_probability_and_the_lots_of_hard_frames_count(spool: Spool) -> None:
    best = put(spool, 9.0, held=True, draw=Draw(0.01, 1))
    unlucky = put(spool, 8.0, held=True, draw=Draw(0.7, 2))
    lucky = put(spool, 7.0, held=True, draw=Draw(0.1, 3))
    drawn = put(spool, 0.0, held=True, reason="audit", draw=Draw(0.2, 40))
    assert spool.held("gate") == Waiting([7.0, 8.0, 9.0], [0.2], 40)
    assert leaving(spool.release("gate", Released(1, 2, 101), 0.0)) == [
        ("hard", 2000),
        ("audit", 2000),
        ("audit", 2000),
    ]
    found = {frame.seq: (frame.reason, frame.probability) for frame in spool.ready(9)}
    assert found == {best: ("hard", None), lucky: ("audit", 0.02), drawn: ("audit", 0.02)}
    assert spool.counts().reasons == {"window": 1}, f"{unlucky} stayed"
    assert spool.held("gate") == Waiting([], [], 0)
    assert balanced(spool.counts())


def test_a_frame_whose_place_in_the_draw_is_taken_is_dropped(spool: Spool) -> None:
    put(spool, 0.0, held=True, reason="audit", draw=Draw(0.5, 1))
    put(spool, 0.0, camera="yard", held=True, reason="audit", draw=Draw(0.5, 1))
    put(spool, 0.0, held=True, reason="audit", draw=Draw(0.3, 7, ousts=0.5))
    assert spool.held("gate") == Waiting([], [0.3], 7)
    assert spool.held("yard") == Waiting([], [0.5], 1)
    assert spool.counts().reasons == {"window": 1}
    assert balanced(spool.counts())


def test_a_draw_is_known_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", 10 * MIB, "b1")
    put(spool, 0.0, held=True, reason="audit", draw=Draw(0.5, 3))
    spool.tally("gate", 61)
    spool.close()
    again = Spool(tmp_path / "spool.db", 10 * MIB, "b2")
    assert again.held("gate") == Waiting([], [0.5], 61)
    assert leaving(again.release("gate", Released(0, 1, 100), 0.0)) == [("audit", 2000)]
    assert [(frame.boot, frame.probability) for frame in again.ready(9)] == [("b1", 0.01)]
    again.close()


def test_the_places_that_a_frame_was_judged_without_are_sealed_with_it(spool: Spool, tmp_path: Path) -> None:
    corner = ignored.place(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), ("car",))
    told = {"score": score(1.0), "reason": "hard", "model_id": "m", "jpeg": b"x", "held": False}
    spool.add(Shot(), found=FOUND, ignored=(corner,), **told)  # type: ignore[arg-type]
    put(spool)
    assert [ignored.decode(frame.ignored) for frame in spool.ready(9)] == [(corner,), ()]
    rot(tmp_path / "spool.db", "ignored", None, "ignored IS NOT NULL")
    assert [frame.ignored for frame in spool.ready(9)] == [None]
    assert spool.counts().reasons == {"corrupt": 1}


def test_what_a_shadow_found_is_kept_while_the_frame_waits_and_leaves_with_it(spool: Spool, tmp_path: Path) -> None:
    drawn = put(spool, 0.0, held=True, reason="audit", draw=Draw(0.5, 1))
    gone = put(spool)
    assert spool.stand_beside(drawn, b"found")
    assert not spool.stand_beside(gone, b"found"), "it may have left"
    assert not spool.stand_beside(99, b"found")
    spool.release("gate", Released(0, 1, 10), 0.0)
    assert not spool.stand_beside(drawn, b"later")
    assert {frame.seq: frame.shadow for frame in spool.ready(9)} == {drawn: b"found", gone: None}
    assert [frame.reason for frame in spool.ready(9)] == ["audit", "hard"]
    rot(tmp_path / "spool.db", "shadow", b"other", "shadow IS NOT NULL")
    assert [frame.seq for frame in spool.ready(9)] == [gone]


def test_a_held_frame_that_rotted_is_not_sealed_anew_with_what_a_shadow_found(spool: Spool, tmp_path: Path) -> None:
    rotten = put(spool, 0.0, held=True, reason="audit", draw=Draw(0.5, 1))
    rot(tmp_path / "spool.db", "pts", 99.0, f"seq = {rotten}")
    assert not spool.stand_beside(rotten, b"found")
    assert leaving(spool.release("gate", Released(0, 1, 10), 0.0)) == []
    assert spool.counts().reasons == {"corrupt": 1}
    assert balanced(spool.counts())


def test_an_echo_is_sealed_with_its_frame_and_takes_room(spool: Spool, tmp_path: Path) -> None:
    told = {"score": score(1.0), "reason": "audit", "model_id": "m", "jpeg": b"x", "held": False}
    sizes = []
    for echo in (b"", b"e" * 1000):
        spool.add(Shot(), found=FOUND, echo=echo, **told)  # type: ignore[arg-type]
        sizes.append(spool.counts().bytes)
    assert sizes[1] == 2 * sizes[0] + 1000
    assert [frame.echo for frame in spool.ready(9)] == [None, b"e" * 1000]
    rot(tmp_path / "spool.db", "echo", b"f", "echo IS NOT NULL")
    assert [frame.echo for frame in spool.ready(9)] == [None]
    assert spool.counts().reasons == {"corrupt": 1}


def test_a_drawn_frame_that_rotted_is_quarantined_and_not_sealed_anew(spool: Spool, tmp_path: Path) -> None:
    rotten = put(spool, 0.0, held=True, reason="audit", draw=Draw(0.5, 1))
    put(spool, 0.0, held=True, reason="audit", draw=Draw(0.6, 2))
    rot(tmp_path / "spool.db", "pts", 99.0, f"seq = {rotten}")
    assert leaving(spool.release("gate", Released(0, 2, 10), 0.0)) == [("audit", 2000)]
    assert rotten not in [frame.seq for frame in spool.ready(9)]
    assert spool.counts().reasons == {"corrupt": 1}
    assert balanced(spool.counts())


def test_a_spool_of_version_0_2_is_read_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", 10 * MIB, "b1")
    waiting, held = put(spool, 2.0, reason="audit"), put(spool, 1.0, held=True)
    spool.close()
    db = sqlite3.connect(tmp_path / "spool.db")
    for name in ("lot", "probability", "ignored", "shadow", "echo"):
        db.execute(f"ALTER TABLE frames DROP COLUMN {name}")
    db.execute("UPDATE frames SET rank = 2 WHERE reason = 'audit'")
    db.execute("CREATE INDEX least_valuable ON frames (rank, worth, seq DESC)")
    db.close()
    again = Spool(tmp_path / "spool.db", 10 * MIB, "b2")
    assert [(frame.seq, frame.probability) for frame in again.ready(9)] == [(waiting, None)]
    again.release("gate", Released(1, 1, 5), 0.0)
    assert [(frame.seq, frame.reason) for frame in again.ready(9)] == [(waiting, "audit"), (held, "hard")]
    assert again.counts().moved_aside == 0
    again.close()


def test_a_newcomer_that_is_worth_least_is_itself_evicted_and_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(2), "b")
    kept = [put(spool, 5.0), put(spool, 6.0)]
    put(spool, 1.0)
    put(spool, 9.0, held=True)
    assert [frame.seq for frame in spool.ready(9)] == kept
    assert spool.counts().reasons == {"pressure": 2}
    spool.close()


def test_the_file_on_disk_stays_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, "b")
    for loss in range(200):
        put(spool, float(loss), jpeg=bytes(50_000))
    spool.close()
    assert spool.counts().bytes <= MIB
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1.2 * MIB


def test_numbers_and_counts_go_on_after_a_restart(tmp_path: Path) -> None:
    with_first = Spool(tmp_path / "spool.db", 10 * MIB, "b1")
    first = put(with_first)
    with_first.delete("b1", first)
    second = put(with_first, held=True)
    with_first.close()
    again = Spool(tmp_path / "spool.db", 10 * MIB, "b2")
    assert again.counts() == replace(with_first.counts(), made=2, acked=1, held=1)
    assert put(again) > second > first
    assert [frame.boot for frame in again.ready(5)] == ["b2"]
    again.release("gate", Released(1), 0.0)
    assert [frame.boot for frame in again.ready(5)] == ["b1", "b2"]
    again.close()


def test_what_left_today_and_what_is_held_are_known_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", 10 * MIB, "b1")
    day = int(1.7e9 // DAY_S)
    put(spool, jpeg=bytes(100))
    for loss in (3.0, 5.0):
        put(spool, loss, held=True, jpeg=bytes(50))
    put(spool, camera="yard", jpeg=bytes(10))
    spool.close()

    again = Spool(tmp_path / "spool.db", 10 * MIB, "b2")
    assert again.spent("gate") == Spent(day, frames=1, bytes=100)
    assert again.spent("yard") == Spent(day, frames=1, bytes=10)
    assert sorted(again.held("gate").losses) == [3.0, 5.0]
    again.release("gate", Released(1), 1.7e9)
    assert again.spent("gate") == Spent(day, frames=2, bytes=150)
    assert again.held("gate") == Waiting([], [], 0)
    put(again, 1.0, held=True, jpeg=bytes(70))
    again.release("gate", Released(1), 1.7e9 + DAY_S)
    assert again.spent("gate") == Spent(day + 1, frames=1, bytes=70), "it left on the next day"
    again.close()


def test_before_the_disk_can_be_read_nothing_is_held(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "later" / "spool.db", 10 * MIB, "b1")
    assert spool.held("gate") == Waiting()
    spool.close()


def test_a_smaller_bound_takes_effect_with_the_next_frame(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(10), "b1")
    for loss in range(10):
        put(spool, float(loss))
    spool.close()
    spool = Spool(tmp_path / "spool.db", weight(3), "b2")
    put(spool, 99.0)
    assert [frame.loss for frame in spool.ready(99)] == [8.0, 9.0, 99.0]
    spool.close()


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(spool: Spool, loss: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        spool.add(Shot(), found=FOUND, score=score(loss), reason="hard", model_id="m", jpeg=b"", held=False)
    assert spool.counts().made == 0


def test_pictures_of_a_camera_are_for_the_owner_only(spool: Spool, tmp_path: Path) -> None:
    put(spool)
    assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}


def test_a_writer_and_a_forwarder_share_one_spool(spool: Spool) -> None:
    frames = 150
    written = threading.Event()

    def write() -> None:
        for loss in range(frames):
            put(spool, float(loss), held=loss % 3 == 0)
            if loss % 10 == 9:
                spool.release("gate", Released(2), 0.0)
        spool.release("gate", Released(2), 0.0)
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[int] = []
    while not written.is_set() or spool.counts().ready:
        for frame in spool.ready(4):
            assert spool.delete(frame.boot, frame.seq)
            taken.append(frame.seq)
    writer.join()
    counts = spool.counts()
    assert len(taken) == len(set(taken)) == counts.acked
    assert (counts.made, counts.ready, counts.held) == (frames, 0, 0)
    assert balanced(counts)


# Rot


def rot(path: Path, column: str, value: object, where: str = "1") -> None:
    db = sqlite3.connect(path)
    db.execute(f"UPDATE frames SET {column} = ? WHERE {where}", (value,))
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("jpeg", b"\x00" * 2000),
        ("loss", 3.5),
        ("camera", "yard"),
        ("detections", b"\xc0"),
        ("seal", b""),
        ("jpeg", "x"),
    ],
)
def test_a_frame_whose_hash_is_wrong_is_quarantined_once_and_the_others_pass(
    spool: Spool, tmp_path: Path, column: str, value: object
) -> None:
    seqs = [put(spool, float(loss)) for loss in range(1, 4)]
    rot(tmp_path / "spool.db", column, value, f"seq = {seqs[1]}")
    for _ in range(2):
        assert [frame.seq for frame in spool.ready(10)] == [seqs[0], seqs[2]]
        assert spool.counts().reasons == {"corrupt": 1}
        assert balanced(spool.counts())


def test_a_spool_full_of_rot_runs_dry(spool: Spool, tmp_path: Path) -> None:
    for loss in range(25):
        put(spool, float(loss))
    rot(tmp_path / "spool.db", "jpeg", b"rotten")
    assert drain(spool) == []
    assert (spool.counts().ready, spool.counts().reasons) == (0, {"corrupt": 25})


def test_rotten_frames_make_room_first_and_are_not_counted_twice(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", weight(2), "b")
    rotten, sound = put(spool, 9.0, reason="manual"), put(spool, 1.0)
    rot(tmp_path / "spool.db", "pts", 99.0, f"seq = {rotten}")
    spool.ready(5)
    newcomer = put(spool, 2.0)
    assert [frame.seq for frame in spool.ready(5)] == [sound, newcomer]
    assert spool.counts().reasons == {"corrupt": 1}
    assert balanced(spool.counts())
    spool.close()


@pytest.mark.parametrize("garbage", [b"not a database, not at all" * 500, b"\x00" * 4096])
def test_a_file_that_is_no_spool_is_moved_aside_and_a_new_one_started(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(garbage)
    spool = Spool(path, MIB, "b")
    seq = put(spool)
    assert [frame.seq for frame in spool.ready(5)] == [seq]
    assert spool.counts().moved_aside == 1
    assert (tmp_path / "spool.db.corrupt").read_bytes() == garbage
    spool.close()
    again = Spool(path, MIB, "b2")
    assert (again.counts().moved_aside, again.counts().made) == (1, 1)
    again.close()


def test_a_file_that_breaks_while_in_use_is_replaced_and_its_frames_counted(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, 10 * MIB, "b")
    spool.delete("b", put(spool))
    last = [put(spool, float(loss), held=loss > 5) for loss in range(10)][-1]
    spool.close()  # checkpoints; the object goes on with what it knows
    path.write_bytes(path.read_bytes()[:100] + os.urandom(path.stat().st_size - 100))
    newcomer = put(spool, 3.0)
    assert newcomer > last, "a number is never used twice, or the cloud would take the frame for a duplicate"
    assert [frame.seq for frame in spool.ready(5)] == [newcomer]
    counts = spool.counts()
    assert (counts.made, counts.acked, counts.ready, counts.moved_aside) == (12, 1, 1, 1)
    assert counts.reasons == {"corrupt-file": 10}
    spool.close()
    again = Spool(path, 10 * MIB, "b2")
    assert again.counts() == counts, "the new file has the counts of the old one"
    again.close()


def test_a_file_that_was_removed_counts_as_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, "b")
    put(spool)
    spool.close()
    (tmp_path / "spool.db").unlink()
    assert put(spool) == 2
    assert spool.counts().reasons == {"corrupt-file": 1}
    spool.close()


def test_no_flipped_byte_gets_a_wrong_frame_out_or_the_spool_stuck(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, MIB, "b0")
    for loss in range(6):
        put(spool, float(loss), jpeg=os.urandom(900), held=loss == 5, reason="hard" if loss % 2 else "audit")
    originals = {frame.seq: frame for frame in spool.ready(99)}
    spool.close()
    clean = path.read_bytes()
    rng = random.Random(20190923)
    for trial in range(40):
        rotten = bytearray(clean)
        place = rng.randrange(len(clean))
        rotten[place] ^= 1 << rng.randrange(8)
        path.write_bytes(rotten)
        spool = Spool(path, MIB, f"b{trial}")
        for frame in drain(spool):
            assert frame == originals[frame.seq], f"byte {place}"
        assert balanced(spool.counts()), f"byte {place}"
        newcomer = put(spool)
        assert [frame.seq for frame in drain(spool)] == [newcomer], f"byte {place}"
        spool.close()


# A disk that fails


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("mounting a small tmpfs is not permitted")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.fault
def test_a_full_disk_raises_and_the_spool_goes_on_when_there_is_room_again(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool.db", 100 * MIB, "b")
    kept = [put(spool, 1.0, jpeg=bytes(100_000)) for _ in range(4)]
    filler = small_disk / "filler"
    filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    for _ in range(3):
        with pytest.raises(StorageError, match=r"spool\.db"):
            put(spool, 1.0, jpeg=bytes(1_000_000))
    assert (spool.counts().made, spool.counts().ready) == (len(kept), len(kept))
    filler.unlink()
    kept.append(put(spool, 1.0, jpeg=bytes(100_000)))
    assert [frame.seq for frame in drain(spool)] == kept
    assert balanced(spool.counts())
    spool.close()


@pytest.fixture
def failing_writes() -> Iterator[None]:
    """Writes beyond the first 64 KiB of any file fail, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.fault
def test_a_write_that_fails_leaves_nothing_half_done(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    spool = Spool(tmp_path / "spool.db", 10 * MIB, "b")
    kept = put(spool)
    before = spool.counts()
    request.getfixturevalue("failing_writes")
    with pytest.raises(StorageError):
        put(spool, jpeg=bytes(500_000))
    assert spool.counts() == before
    assert [frame.seq for frame in spool.ready(5)] == [kept]
    spool.close()


def test_a_spool_that_cannot_be_opened_yet_is_used_as_soon_as_it_can(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "missing" / "spool.db", MIB, "b")
    with pytest.raises(StorageError, match="missing"):
        put(spool)
    (tmp_path / "missing").mkdir()
    assert put(spool) == 1
    spool.close()


# Sudden death

WRITER = """
import sys
from pathlib import Path
from culling.common.frame import Detections
from culling.common.wire.messages import WireFeatures
from culling.edge.scoring import Score
from culling.edge.spool.spool import Spool

class Shot:
    camera, seq, pts, captured, width, height = "gate", 0, 0.0, 0.0, 8, 8

spool = Spool(Path(sys.argv[1]), 1 << 30, sys.argv[2])
score = Score(1.0, 1.0, WireFeatures(1, []))
values = dict(found=Detections.empty(), score=score, reason="hard", model_id="m", jpeg=bytes(30_000), held=False)
while True:
    seq = spool.add(Shot(), **values)
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()
"""


@pytest.mark.fault
def test_kill_9_loses_no_frame_that_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    rng = random.Random(9)
    printed: list[int] = []
    for life in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"b{life}"], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(rng.randrange(5, 60)):
            printed.append(int(writer.stdout.readline()))
        writer.kill()
        rest = writer.stdout.read().split(b"\n")
        printed += [int(line) for line in rest[:-1]]
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
    spool = Spool(path, 1 << 30, "b")
    stored = [frame.seq for frame in spool.ready(100_000)]
    assert set(printed) <= set(stored)
    assert len(stored) - len(printed) <= 4, "at most the frame whose number was never told, once per life"
    assert spool.counts().made == len(stored) == len(set(stored))
    spool.close()


# Any order of events


class SpoolLife(RuleBasedStateMachine):
    """Against a model that is a list: order, priorities, bounds and counts hold through any life."""

    frames = Bundle("frames")

    @initialize(room=st.integers(3, 12))
    def begin(self, room: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.room = weight(room, jpeg=10)
        self.boots = 0
        self.spool = Spool(Path(self.folder.name) / "spool.db", self.room, "b0")
        self.model: list[tuple[int, str, float, int, str]] = []
        """(rank, camera, loss, seq, boot) of each frame in the spool."""
        self.made = self.acked = 0
        self.evicted = {"pressure": 0, "window": 0, "refused": 0}

    @rule(
        target=frames,
        camera=st.sampled_from("ab"),
        loss=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
        reason=st.sampled_from(["hard", "hard", "audit", "bootstrap"]),
        held=st.booleans(),
    )
    def add(self, camera: str, loss: float, reason: str, held: bool) -> tuple[str, int]:
        reason = "hard" if held else reason
        seq = put(self.spool, loss, camera=camera, reason=reason, held=held, jpeg=bytes(10))
        self.made += 1
        assert seq == self.made
        rank = 0 if held else {"hard": 1, "bootstrap": 2, "audit": 5}[reason]
        self.model.append((rank, camera, loss, seq, f"b{self.boots}"))
        if len(self.model) * weight(1, jpeg=10) > self.room:
            self.model.remove(self.least())
            self.evicted["pressure"] += 1
        return f"b{self.boots}", seq

    def least(self) -> tuple[int, str, float, int, str]:
        """The camera with most frames gives the one of lowest rank and worth, an audit only if nothing else is left."""
        rows = [row for row in self.model if row[0] < 4] or self.model
        frames = {camera: sum(row[1] == camera for row in self.model) for camera in {row[1] for row in rows}}
        camera = min(frames, key=lambda name: (-frames[name], name))
        worth = {5: 0.0}  # audits go by their lots, and these have none
        mine = [row for row in rows if row[1] == camera]
        return min(mine, key=lambda row: (row[0], worth.get(row[0], row[2]), -row[3]))

    @rule(camera=st.sampled_from("ab"), count=st.integers(0, 4))
    def release(self, camera: str, count: int) -> None:
        held = sorted((row for row in self.model if row[:2] == (0, camera)), key=lambda row: (-row[2], row[3]))
        assert len(self.spool.release(camera, Released(count), 0.0)) == min(count, len(held))
        self.model = [row for row in self.model if row not in held] + [(1, *row[1:]) for row in held[:count]]
        self.evicted["window"] += len(held[count:])

    @rule(frame=frames)
    def ack(self, frame: tuple[str, int]) -> None:
        self.acked += self._leave(frame, self.spool.delete(*frame))

    @rule(frame=consumes(frames))
    def give_up(self, frame: tuple[str, int]) -> None:
        self.evicted["refused"] += self._leave(frame, self.spool.give_up(*frame, reason="refused"))

    def _leave(self, frame: tuple[str, int], left: bool) -> bool:
        mine = [row for row in self.model if (row[4], row[3]) == frame and row[0] > 0]
        assert left == bool(mine)
        self.model = [row for row in self.model if row not in mine]
        return left

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.boots += 1
        self.spool = Spool(Path(self.folder.name) / "spool.db", self.room, f"b{self.boots}")

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        ready = sorted((row[3], row[4]) for row in self.model if row[0] > 0)
        assert [(frame.seq, frame.boot) for frame in self.spool.ready(99)] == ready

    @invariant()
    def accounts_for_every_frame(self) -> None:
        counts = self.spool.counts()
        assert balanced(counts)
        assert (counts.made, counts.acked) == (self.made, self.acked)
        assert counts.reasons == {reason: n for reason, n in self.evicted.items() if n}
        assert counts.held == sum(row[0] == 0 for row in self.model)
        assert counts.bytes == len(self.model) * weight(1, jpeg=10) <= self.room
        parts = [self.spool.counts(camera) for camera in "ab"]
        assert all(balanced(part) for part in parts)
        assert sum(part.made for part in parts) == counts.made

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestSpoolLife = SpoolLife.TestCase
TestSpoolLife.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
