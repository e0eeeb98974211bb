from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.admission import check_frame, window
from culling.cloud.settings import ServiceSettings
from culling.common.errors import ProtocolError
from support.cloud import hard_frame


@pytest.mark.parametrize(
    ("free", "waiting", "store_s", "expected"),
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
    free: int, waiting: int, store_s: float, expected: int
) -> None:
    settings = ServiceSettings(data_dir=Path(), window=32, queue_high=100, reserve_bytes=1_000)
    assert window(settings, free, waiting, store_s) == expected


def test_check_frame_takes_a_good_one() -> None:
    check_frame(*hard_frame(1))
    frame, _ = hard_frame(1)
    with pytest.raises(ProtocolError, match="not the one"):
        check_frame(frame, b"x")
