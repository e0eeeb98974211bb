"""The training set that a round would make of a clip: the frames that teach most, diverse, and a replay of the others.

The decisions are those of `round/choice.py`, as `round/cull.py` takes them; here all frames of the clip are the pool.
"""

from __future__ import annotations

from culling.cloud.evaluation.mistakes import Mistakes, wanted
from culling.cloud.round.choice import PoolFrame, diverse, places, replayed, strata
from culling.cloud.round.cull import EMPTY_SHARE
from culling.cloud.settings import CULLED
from culling.cloud.study.basis.corpus import Corpus


def as_a_round(corpus: Corpus, count: int, seed: int = 0) -> list[int]:
    """Return the frames that a round with `round.kept = count` would train on: those it keeps, then those it replays.

    The base student is the one in use. It keeps at most one of `CULLED` frames; `seed` draws the replay.
    """
    everything = range(len(corpus))
    worth = _worth(corpus)
    objects = [
        wanted(seen.found.above(corpus.settings.teacher.true_score), corpus.interest)
        for seen in corpus.labels(everything)
    ]
    teaching = [at for at in everything if worth[at][1] > 0]
    found = [
        PoolFrame(
            corpus.shots[at].at,
            worth[at][1],
            places(*worth[at], corpus.width, corpus.height, len(corpus.graph.info.classes)),
            not len(objects[at]),
        )
        for at in teaching
    ]
    kept = max(1, min(count, len(corpus) // CULLED))
    chosen = [teaching[at] for at in diverse(found, kept, max(1, int(EMPTY_SHARE * kept)))]
    of = [strata(corpus.shots[at].at, objects[at].labels.tolist()) for at in everything]
    others = sorted(set(everything) - set(chosen))
    share = corpus.settings.round.replay_share
    more = replayed([of[at] for at in others], [of[at] for at in chosen], int(len(chosen) * share / (1 - share)), seed)
    return [*chosen, *(others[at] for at in more)]


def _worth(corpus: Corpus) -> list[tuple[Mistakes, float]]:
    """Return what the base student gets wrong on each frame, and what that is worth by `round.policy`."""
    everything = range(len(corpus))
    wrong = corpus.mistakes(everything)
    if corpus.settings.round.policy == "precision":
        return list(zip(wrong, (one.value for one in corpus.hardness(everything)), strict=True))
    return [(one, 0.0 if one.easy else one.mass) for one in wrong]
