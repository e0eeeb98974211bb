from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cloud import CloudState
from support.databases import Databases
from support.postgres import Postgres, binaries

if TYPE_CHECKING:
    from culling.cloud.study.basis.corpus import Corpus
    from support.studied import Yard


BOTH = ("bill", "control", "labelling", "link", "page", "review", "store")
"""Rooms whose tests run on SQLite and on PostgreSQL, where they make an index; to others it is incidental."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores = CloudState in vars(metafunc.module).values()
    embedded = metafunc.definition.get_closest_marker("embedded") is not None
    inside = metafunc.definition.path.relative_to(Path(__file__).parent).parts[0] in BOTH
    if inside and stores and not embedded:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the whole run."""
    if (programs := binaries()) is None:
        pytest.skip("PostgreSQL is not installed: `apt-get install postgresql`")
    server = Postgres(programs)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the index lies of whatever a test makes; see `BOTH`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
        return
    with Databases(request.getfixturevalue("postgres")).in_use():
        yield


@pytest.fixture(scope="session")
def narrow(request: pytest.FixtureRequest) -> Path:
    """A folder with a narrow student's weights and its exported base."""
    from support.narrow import narrow_base

    return narrow_base(request.config)


@pytest.fixture(scope="session")
def yard(narrow: Path, tmp_path_factory: pytest.TempPathFactory) -> Yard:
    """A clip to study; what one test computes about it, others find there."""
    from support.studied import make_yard

    return make_yard(tmp_path_factory.mktemp("yard"), narrow)


@pytest.fixture(scope="session")
def corpus(yard: Yard) -> Corpus:
    """The clip, with a teacher that is quick."""
    from support.studied import use_teacher

    with pytest.MonkeyPatch.context() as patch:
        use_teacher(patch)
        made = yard.corpus()
        assert made.teacher
    return made
