from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def narrow(request: pytest.FixtureRequest) -> Path:
    """A folder with a narrow student's weights and its exported base."""
    from support.narrow import narrow_base

    return narrow_base(request.config)
