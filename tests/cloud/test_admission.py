from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.admission import check_frame, window
from culling.cloud.settings import ServiceSettings
from culling.common.errors import ProtocolError
from support.cloud import hard_frame


@pytest.mark.parametrize(
    ("free", "waiting", "expected"),
    [
        (10_000, 0, 32),
        (10_000, 100, 32),
        (10_000, 200, 16),
        (10_000, 100_000, 1),
        (2_000, 0, 32),
        (1_500, 0, 16),
        (1_000, 0, 1),
        (0, 0, 1),
        (1_500, 200, 16),
    ],
)
def test_the_window_falls_as_disk_and_teacher_fall_behind(free: int, waiting: int, expected: int) -> None:
    settings = ServiceSettings(data_dir=Path(), window=32, queue_high=100, reserve_bytes=1_000)
    assert window(settings, free, waiting) == expected


def test_check_frame_takes_a_good_one() -> None:
    check_frame(*hard_frame(1))
    frame, _ = hard_frame(1)
    with pytest.raises(ProtocolError, match="not the one"):
        check_frame(frame, b"x")
