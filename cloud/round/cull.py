"""The cull stage: it keeps the frames of the pool that teach most, and replays others, so that nothing is forgotten.

Worth is judged by the student in use, and by one of two policies: `mistakes`, all that is wrong on a frame in total, or
`precision`, the paper's 1 - AP. A frame on which that student is right is never kept; it may be replayed.

A label that is always wrong looks like a mistake for ever, and would be kept in every round. So a frame on which
several students were trained without its mistakes falling is neither kept nor replayed, until they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from culling.cloud.evaluation.accuracy import MISSED
from culling.cloud.evaluation.mistakes import Mistakes, in_vain
from culling.cloud.round.choice import PoolFrame, diverse, places, replayed, strata
from culling.cloud.round.context import Context, Result, Results, RoundRefusedError
from culling.cloud.round.score import POOL, seen, settled
from culling.cloud.settings import CULLED
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.rounds import Round
from culling.common.frame import Detections

EMPTY_SHARE = 0.25
"""Most hard negatives among the kept frames: where a teacher sees nothing, a student would learn to see nothing."""


@dataclass(frozen=True)
class _Judged:
    """A frame of the pool, and what the student in use, which `found` this there, gets wrong."""

    context: Context
    frame: StoredFrame
    found: Detections

    @cached_property
    def hardness(self) -> float:
        """The share of its classes that is wrong: 1 - AP. It takes long, and most of a large pool never needs it."""
        return self.context.hardness(self.frame, self.found).value

    @cached_property
    def mistakes(self) -> Mistakes:
        """All that is wrong."""
        return self.context.mistakes(self.frame, self.found)

    @cached_property
    def empty(self) -> bool:
        """Whether the teacher is sure of nothing there: a hard negative, where the student is not right."""
        return not len(self.context.objects(self.frame))

    def worth(self, policy: str) -> float:
        """Return what the frame teaches; 0 where the student is right."""
        if policy == "precision":
            return self.hardness
        return 0.0 if self.mistakes.easy else self.mistakes.mass


def cull(context: Context, turn: Round, results: Results) -> Result:
    """Keep the n frames of the pool that teach most, at most one in `CULLED` of the pool, and draw those to replay.

    Raises RoundRefusedError when none teaches anything, or when all of them together show no object.
    """
    settings = context.settings.round
    pool, vain = _but_in_vain(context, turn, _judged(context, turn, results))
    context.heart.expect(len(pool))
    teaching = [one for one in pool if _worth(context, one, settings.policy) > 0]
    if not teaching:
        raise RoundRefusedError(_nothing(len(pool), vain))
    count = max(1, min(settings.kept, len(pool) // CULLED))
    context.heart.expect(len(teaching) + count)
    found = [_pool_frame(context, one, settings.policy) for one in teaching]
    most_empty = max(1, int(EMPTY_SHARE * count))
    chosen = [teaching[at] for at in diverse(found, count, most_empty, context.heart.advance)]
    replay = _replay(context, turn, [one.frame for one in chosen], [one.frame for one in pool])
    if all(one.empty for one in chosen) and not any(len(context.objects(frame)) for frame in replay):
        raise RoundRefusedError(
            f"nothing to teach but background: the teacher is sure of no object in {len(chosen) + len(replay)} frames"
        )
    if context.settings.round.distil:
        context.features.weigh({one.frame.id: one.mistakes.mass for one in pool})
    context.lifecycle.keep([one.frame.id for one in chosen], turn.id)
    return {
        "kept": [one.frame.id for one in chosen],
        "replay": [frame.id for frame in replay],
        "of_people": context.lifecycle.of_people([frame.id for frame in (*(one.frame for one in chosen), *replay)]),
        "pool": len(pool),
        "teaching": len(teaching),
        "in_vain": vain,
        "masses": {one.frame.id: round(one.mistakes.mass, 4) for one in chosen},
        "hard_negatives": sum(one.empty for one in chosen),
        "hardness": round(float(np.mean([one.hardness for one in chosen])), 4),
        "mass": round(float(np.mean([one.mistakes.mass for one in chosen])), 4),
        **_audits(context, turn),
        "newest_capture": max(one.frame.captured for one in chosen),
    }


def _judged(context: Context, turn: Round, results: Results) -> list[_Judged]:
    """Return the frames of the pool that the student in use has seen, with what it gets wrong there."""
    pool = context.lifecycle.pool(turn.camera, POOL)
    found = seen(context, context.incumbent(turn.camera, results), pool)
    frames = settled(context, turn, [frame for frame in pool if frame.id in found])
    return [_Judged(context, frame, found[frame.id]) for frame in frames]


def _but_in_vain(context: Context, turn: Round, pool: Sequence[_Judged]) -> tuple[list[_Judged], int]:
    """Return the pool without the frames that are taught in vain, and how many those are."""
    taught = context.lifecycle.masses(turn.camera)
    known = set().union(*taught)
    found = in_vain({one.frame.id: one.mistakes.mass for one in pool if one.frame.id in known}, taught)
    return [one for one in pool if one.frame.id not in found], len(found)


def _nothing(pool: int, vain: int) -> str:
    """Return why there is nothing to teach."""
    if not pool and not vain:
        return "no frame to learn from: none of the pictures could be used"
    others = f"; {vain} others taught several students nothing: look at their labels" if vain else ""
    return f"nothing to teach: the student in use is right on all {pool} labelled frames that it was tried on{others}"


def _worth(context: Context, one: _Judged, policy: str) -> float:
    context.heart.advance()  # a large pool takes minutes, and nothing else tells that the process works
    return one.worth(policy)


def _pool_frame(context: Context, one: _Judged, policy: str) -> PoolFrame:
    context.heart.advance()
    worth, frame = one.worth(policy), one.frame
    spread = places(one.mistakes, worth, frame.width, frame.height, len(one.context.classes))
    return PoolFrame(frame.captured, worth, spread, one.empty)


def _replay(
    context: Context, turn: Round, kept: Sequence[StoredFrame], pool: Sequence[StoredFrame]
) -> list[StoredFrame]:
    """Return frames of the pool that are not kept, of every hour and class, `replay_share` of the training set."""
    share, names = context.settings.round.replay_share, {frame.id for frame in kept}
    others = [frame for frame in pool if frame.id not in names]
    of_others, of_kept = (
        [strata(frame.captured, context.objects(frame).labels.tolist()) for frame in frames]
        for frames in (others, kept)
    )
    return [others[at] for at in replayed(of_others, of_kept, int(len(kept) * share / (1 - share)), turn.id)]


def _audits(context: Context, turn: Round) -> Result:
    """Return how many audit frames came to this round, and how many of those the student that sent them had missed."""
    drawn = settled(context, turn, context.lifecycle.audits(turn.camera, turn.id))
    hard = [context.hardness(frame, frame.detections).value for frame in drawn]
    return {"audits_labelled": len(drawn), "audits_missed": sum(value >= MISSED for value in hard)}
