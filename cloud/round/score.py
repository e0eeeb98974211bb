"""The score stage: the student in use looks at the frames of the pool that it has not seen yet.

What it found is kept for as long as it stays in use, so that the next round scores only what came since. A frame that
it forwarded itself needs no second look: its detections came with the frame.
"""

from __future__ import annotations

from collections.abc import Sequence

from culling.cloud.evaluation.precision import STUDENT_FLOOR
from culling.cloud.round.context import Context, Result, Results
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.registry import Model
from culling.cloud.store.rounds import Round
from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.graph import Graph
from culling.common.scaler import input_size
from culling.common.wire.codec import decode_jpeg

POOL = 20_000
"""Most frames of a pool, the newest ones: a month at 640 labels a day. The bound keeps a round's memory in check."""

BATCH = 16
"""Frames that are scored before they are kept: a kill costs no more than these."""

SETTLED = 256
"""Frames whose labels are settled before progress is told: each such step reads the times of the whole pool."""


def score(context: Context, turn: Round, _: Results) -> Result:
    """Run the student in use on at most `round.scored` frames of the pool that it has not seen.

    Those come first on which the student that forwarded them was most wrong, of equals the newest.
    """
    live, pool = context.incumbent(turn.camera), context.lifecycle.pool(turn.camera, POOL)
    context.lifecycle.forget_scores(turn.camera, but=live.model_id)
    known = seen(context, live, pool)
    unseen = settled(context, turn, [frame for frame in pool if frame.id not in known])
    worst = sorted(unseen, key=lambda frame: (-_mass(context, frame), -frame.captured))
    chosen = worst[: context.settings.round.scored]
    if chosen:
        context.heart.expect(len(chosen))
        graph = context.graph(live.artefact.sha256)
        for start in range(0, len(chosen), BATCH):
            context.lifecycle.score(live.model_id, look(context, graph, live, chosen[start : start + BATCH]))
    return {"model": live.model_id, "pool": len(pool), "scored": len(chosen), "unseen": len(unseen) - len(chosen)}


def settled(context: Context, turn: Round, pool: Sequence[StoredFrame]) -> list[StoredFrame]:
    """Return the frames as `context.settled` does; a large pool takes minutes, so progress is told as it goes."""
    context.heart.expect(len(pool))
    found = []
    for start in range(0, len(pool), SETTLED):
        found += context.settled(turn.camera, pool[start : start + SETTLED])
        context.heart.advance(SETTLED)
    return found


def _mass(context: Context, frame: StoredFrame) -> float:
    context.heart.advance()
    return context.mistakes(frame, frame.detections).mass


def seen(context: Context, live: Model, pool: Sequence[StoredFrame]) -> dict[str, Detections]:
    """Return what the student in use found in the frames of the pool that it has seen, by frame."""
    scored = context.lifecycle.scores(live.model_id)
    return {
        frame.id: frame.detections if frame.model_id == live.model_id else scored[frame.id]
        for frame in pool
        if frame.model_id == live.model_id or frame.id in scored
    }


def look(context: Context, graph: Graph, model: Model, frames: Sequence[StoredFrame]) -> dict[str, Detections]:
    """Return what a student finds in those frames whose pictures can be used, scaled as at the edge."""
    found, artefact, cost = {}, model.artefact, context.cost(model)
    for frame, jpeg in context.pictures(frames):
        try:
            image = decode_jpeg(jpeg)
        except ProtocolError:
            context.store.put_aside(frame)
            continue
        size = input_size(frame.width, frame.height, artefact.scale, artefact.long_side)
        found[frame.id] = context.see(graph, cost, image, size).above(STUDENT_FLOOR)
    return found
