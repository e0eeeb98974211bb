"""The label stage: the round takes what the teacher labelled since the last one, and sees whether it can be judged.

Labels come continuously, from a process of their own (`labelling/`); a round waits for them before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence

from culling.cloud.labelling.state import UNWANTED
from culling.cloud.round.context import Context, Result, Results, RoundRefusedError
from culling.cloud.store.frames import Counts, StoredFrame
from culling.cloud.store.rounds import Round


def label(context: Context, turn: Round, _: Results) -> Result:
    """Claim the labelled frames that no round has read, and choose those that the gate judges by.

    Raises RoundRefusedError when there is nothing to choose from, or when the held-out frames are none to judge by.
    """
    life = context.lifecycle
    claimed = life.claim(turn.camera, turn.id)
    held_out = life.held_out(turn.camera, context.settings.round.held_out)
    _check(context, turn, held_out)
    judges = context.judges(turn.camera, [frame.id for frame in held_out])
    if not any(len(context.objects(frame)) for frame in judges):
        raise RoundRefusedError(
            f"the gate cannot judge: the teacher is sure of no object in any of the {len(judges)} held-out frames"
        )
    return {"labelled": claimed, "held_out": [frame.id for frame in judges]}


def _check(context: Context, turn: Round, held_out: Sequence[StoredFrame]) -> None:
    """Raise RoundRefusedError for a round that has nothing to choose from, or too little to be judged by."""
    asking = context.store.counts().get(turn.camera, Counts()).asking
    never = "" if context.settings.labelling.per_day else f", in vain: {UNWANTED}"
    to_come = f"; {asking} wait for the teacher{never}" if asking else ""
    if not context.lifecycle.pool(turn.camera, 1):
        raise RoundRefusedError(f"no frame to learn from: none that may be trained on is labelled yet{to_come}")
    if len(held_out) < context.settings.gate.least:
        context.lifecycle.unclaim(turn.camera, turn.id)  # the next round starts as soon as it can be judged
        raise RoundRefusedError(f"{context.too_few(held_out)}{to_come}")
