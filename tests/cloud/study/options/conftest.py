from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.teacher.bundled import Bundled
from support.detectors import small_student
from support.studied import make_yard, use_teacher


@pytest.fixture
def tutored(narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A clip whose teacher has features to learn from. It has a cache of its own, as the shared corpus has another
    teacher, and the answers of either would be taken for those of the other.
    """
    use_teacher(monkeypatch)
    corpus = make_yard(tmp_path, narrow).corpus()
    assert corpus.labels(range(len(corpus))), "what this teacher said is remembered, and the next one is not asked"
    assert corpus.held_out
    teacher = Bundled(small_student(5), short_side=96, identity="t" * 64)
    monkeypatch.setitem(corpus.__dict__, "tutor", teacher.tutor)
    monkeypatch.setitem(corpus.__dict__, "teacher", teacher)
    return corpus
