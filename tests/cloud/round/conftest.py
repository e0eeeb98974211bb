from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cloud import CloudState
from support.rounds import camera_with_student


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path) -> Iterator[CloudState]:
    """A camera with a narrow student and a narrow teacher, and a dozen frames that wait for a round."""
    state = camera_with_student(tmp_path, narrow)
    yield state
    state.close()
