"""The cull stage: it keeps the frames that the student got most wrong, and replays some of earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from culling.cloud.evaluation.precision import Hardness, worst
from culling.cloud.round.context import Context, RefusedError, Result, Results
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.rounds import Round

MISSED = 0.5
"""An audit frame at least this hard counts as missed: the student got half of it wrong, and its loss did not show."""


def cull(context: Context, turn: Round, results: Results) -> Result:
    """Keep the n frames on which the student that forwarded them was most wrong, and replay some of earlier rounds.

    Raises RefusedError when no picture could be used.
    """
    settings = context.settings.round
    frames = [frame for frame in context.store.get(results["label"]["candidates"]) if frame.labels is not None]
    values = [context.hardness(frame) for frame in frames]
    chosen = worst(values, settings.kept)
    if not chosen:
        raise RefusedError("no frame to learn from: none of the pictures could be used")
    kept = [frames[index].id for index in chosen]
    replay_count = int(len(kept) * settings.replay_share / (1 - settings.replay_share))
    # Before the replay is drawn: a failed round may have kept some of these, which would then be trained on twice.
    context.lifecycle.keep(kept, turn.id)
    replay = context.lifecycle.culled(turn.camera, turn.id, replay_count)
    return {
        "kept": kept,
        "replay": [frame.id for frame in replay],
        "hard_negatives": sum(values[index].kind == "hard-negative" for index in chosen),
        "hardness": round(float(np.mean([values[index].value for index in chosen])), 4),
        **_audits(frames, values),
        "newest_capture": max(frames[index].captured for index in chosen),
    }


def _audits(frames: Sequence[StoredFrame], values: Sequence[Hardness]) -> Result:
    """Return how many of the frames are audits, and how many of those count as missed."""
    drawn = [value for frame, value in zip(frames, values, strict=True) if frame.reason == "audit"]
    return {"audits_labelled": len(drawn), "audits_missed": sum(value.value >= MISSED for value in drawn)}
