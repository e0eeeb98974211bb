from __future__ import annotations

from culling.cloud.settings import CULLED
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.pool import as_a_round


def test_a_rounds_frames_are_kept_for_their_mistakes_and_others_are_replayed(corpus: Corpus) -> None:
    chosen = as_a_round(corpus, len(corpus))
    assert len(set(chosen)) == len(chosen), "no frame twice"
    wrong = corpus.mistakes(range(len(corpus)))
    kept = chosen[: len(corpus) // CULLED]
    assert all(wrong[at].mass > 0 for at in kept[: sum(not one.easy for one in wrong)])
    assert as_a_round(corpus, len(corpus)) == chosen
