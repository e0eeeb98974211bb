from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cloud import CloudState


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    state.enroll()
    yield state
    state.close()
