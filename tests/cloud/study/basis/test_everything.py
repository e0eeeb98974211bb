from __future__ import annotations

import pytest

from culling.cloud.study.basis import everything
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.everything import sizes, stands
from culling.cloud.study.basis.training import Trainer


def test_sets_double_where_frames_are_many() -> None:
    assert sizes(64, 400) == [400]
    assert sizes(64, 6480) == [128, 256, 512, 1024, 2048, 6480]


def test_it_ends_with_the_first_set_that_no_longer_gains(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(stands(Trainer(corpus), 1, (0,), before=2.0))
    assert [(stand.size, stand.gains, stand.name) for stand in found] == [(2, False, "random, for full")]
    monkeypatch.setattr(everything, "GAINS", -1.0)
    found = list(stands(Trainer(corpus), 1, (0,)))
    assert [stand.size for stand in found] == sizes(1, len(corpus))
    assert all(stand.gains for stand in found)
    assert found[-1].name == "full"
