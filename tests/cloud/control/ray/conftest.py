from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.ray_head import RayHead


@pytest.fixture(scope="session")
def head() -> Iterator[RayHead]:
    """A head that takes ten seconds of CPU to start: a test that kills it starts it again."""
    made = RayHead()
    yield made
    made.close()
