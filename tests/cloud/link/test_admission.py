from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.link.admission import Room, check_frame
from culling.cloud.settings import ServiceSettings
from culling.cloud.store.frames import Counts
from culling.common.errors import ProtocolError
from culling.common.wire.ignored import Ignored
from culling.common.wire.messages import Beside, WireDetections, to_wire
from support.cloud import CAMERA, detections, hard_frame


@pytest.mark.parametrize(
    ("free", "asking", "store_s", "expected"),
    [
        (10_000, 0, 0.01, 32),
        (10_000, 100, 0.01, 32),
        (10_000, 200, 0.01, 16),
        (10_000, 100_000, 0.01, 1),
        (2_000, 0, 0.01, 32),
        (1_500, 0, 0.01, 16),
        (1_000, 0, 0.01, 1),
        (0, 0, 0.01, 1),
        (1_500, 200, 0.01, 16),
        (10_000, 0, 0.02, 32),
        (10_000, 0, 0.08, 8),
        (1_500, 0, 0.08, 8),
        (10_000, 0, 60.0, 1),
    ],
)
def test_the_window_falls_as_disk_and_teacher_fall_behind(
    free: int, asking: int, store_s: float, expected: int
) -> None:
    room = Room(ServiceSettings(data_dir=Path(), window=32, queue_high=100, reserve_bytes=1_000), 1_000)
    room.free_bytes, room.counts = free, {CAMERA: Counts(asking_judges=asking // 2, asking_others=asking - asking // 2)}
    for _ in range(100):
        room.note_pace(10 * store_s, 10)
    assert room.window(CAMERA) == expected


def test_a_queue_narrows_the_window_of_its_own_camera_alone() -> None:
    room = Room(ServiceSettings(data_dir=Path(), window=32, queue_high=100, reserve_bytes=1_000), 1_000)
    room.free_bytes, room.counts = 10_000, {CAMERA: Counts(waiting=999, asking_others=200)}
    assert [room.window(camera) for camera in (CAMERA, "yard", None)] == [16, 32, 32]


def test_one_slow_write_narrows_the_window_less_than_many() -> None:
    room = Room(ServiceSettings(data_dir=Path(), window=32, queue_high=100, reserve_bytes=1_000), 1_000)
    room.free_bytes = 10_000
    windows = []
    for _ in range(3):
        room.note_pace(0.16, 1)
        windows.append(room.window())
    assert windows == [16, 9, 6]


def test_what_is_let_in_counts_until_it_is_counted_anew() -> None:
    room = Room(ServiceSettings(data_dir=Path(), reserve_bytes=1_000), quota_bytes=300)
    room.free_bytes = 1_500
    assert [room.let_in(CAMERA, 100) for _ in range(4)] == [None, None, None, "quota"]
    assert room.counts[CAMERA] == Counts(bytes=300, asking_others=3)
    assert [room.let_in("yard", 100) for _ in range(3)] == [None, None, "disk-full"]
    assert room.free_bytes == 1_000
    room.free_bytes, room.counts = 1_500, {}
    assert room.let_in(CAMERA, 300) is None


def test_what_is_let_in_while_it_is_counted_is_not_forgotten() -> None:
    room = Room(ServiceSettings(data_dir=Path(), reserve_bytes=1_000), quota_bytes=300)
    room.free_bytes = 1_500
    assert room.let_in(CAMERA, 100) is None
    room.begin_count()
    assert room.let_in(CAMERA, 200) is None
    room.counted(1_400, {CAMERA: Counts(bytes=100)})
    assert room.free_bytes == 1_200
    assert room.counts[CAMERA] == Counts(bytes=300, asking_others=1)
    room.begin_count()
    room.counted(1_250, None)
    assert (room.free_bytes, room.counts[CAMERA].bytes) == (1_250, 300)


def test_check_frame_takes_a_good_one() -> None:
    check_frame(*hard_frame(1))


def test_check_frame_refuses_a_place_with_half_a_corner() -> None:
    with pytest.raises(ProtocolError, match="half a corner"):
        check_frame(*hard_frame(1, ignored=(Ignored(b"x" * 13),)))
    frame, _ = hard_frame(1)
    with pytest.raises(ProtocolError, match="not the one"):
        check_frame(frame, b"x")


def test_check_frame_holds_what_a_shadow_found_to_the_classes_of_its_own_model() -> None:
    beside = Beside("gate-2", to_wire(detections((1, 1, 20, 20, 0.9, 7))))
    frame, jpeg = hard_frame(1, shadow=beside)
    check_frame(frame, jpeg, {"gate-1": 1, "gate-2": 8}.__getitem__)
    with pytest.raises(ProtocolError, match="label 7"):
        check_frame(frame, jpeg, {"gate-1": 8, "gate-2": 7}.__getitem__)
    broken, jpeg = hard_frame(1, shadow=Beside("gate-2", WireDetections(b"", b"", b"x")))
    with pytest.raises(ProtocolError, match="other numbers"):
        check_frame(broken, jpeg)
