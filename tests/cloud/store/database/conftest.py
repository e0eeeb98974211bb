from __future__ import annotations

from collections.abc import Iterator

import pytest

from culling.cloud.store.index import Index
from support.postgres import Postgres


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A database of PostgreSQL with an empty index."""
    found = postgres.take()
    yield found
    postgres.give_back(found)


@pytest.fixture
def index(url: str) -> Iterator[Index]:
    found = Index(url)
    yield found
    found.close()
