from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from culling.cloud.study.basis.corpus import Corpus
    from support.studied import Yard


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
