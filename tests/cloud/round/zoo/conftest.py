from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.returning import Returning


@pytest.fixture
def returning(tmp_path: Path, narrow: Path) -> Iterator[Returning]:
    found = Returning(tmp_path, narrow)
    yield found
    found.cloud.close()
