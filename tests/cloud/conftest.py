from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cloud import CloudState
from support.databases import Databases

if TYPE_CHECKING:
    from culling.cloud.study.basis.corpus import Corpus
    from support.studied import Yard


BOTH = (
    *("bill/test_account.py", "bill/test_rates.py", "bill/test_series.py", "control/steering/test_accuracy.py"),
    *("control/test_actions.py", "control/test_publish.py", "labelling/test_escalated.py"),
    *("labelling/test_queue.py", "link/test_arrivals.py"),
    *("link/test_offers.py", "page/test_board.py", "page/test_views.py"),
    *("review/test_decide.py", "review/test_disputes.py", "review/test_export.py", "review/test_take_in.py"),
)
"""Tests beside those of the store that run on SQLite and PostgreSQL; to others it is incidental where an index is."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    path = metafunc.definition.path.relative_to(Path(__file__).parent)
    of_store = path.parts[0] == "store" and CloudState in vars(metafunc.module).values()
    embedded = metafunc.definition.get_closest_marker("embedded") is not None
    if (of_store or str(path) in BOTH) and not embedded:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the index lies of whatever a test makes; see `BOTH`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
        return
    with Databases(request.getfixturevalue("postgres")).in_use():
        yield


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    """A data folder with one camera enrolled."""
    state = CloudState(tmp_path)
    state.enroll()
    yield state
    state.close()


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
