from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.review.desk import Desk
from support.cloud import CloudState
from support.reviewing import reviewing


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[tuple[CloudState, Desk]]:
    """Ten labelled frames; teacher and student differ on the odd ones."""
    cloud, desk = reviewing(tmp_path)
    yield cloud, desk
    cloud.close()
