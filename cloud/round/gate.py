"""The gate stage: candidate against incumbent on the held-out frames; only a better candidate is published."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from culling.cloud.evaluation.evaluate import EvaluationResult, score
from culling.cloud.round.context import Context, RefusedError, Result, Results
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.registry import Artefact
from culling.cloud.store.rounds import Round
from culling.common.errors import InputError
from culling.common.graph import see
from culling.common.scaler import input_size
from culling.common.wire.codec import decode_jpeg


def gate(context: Context, turn: Round, results: Results) -> Result:
    """Compare candidate and incumbent, each at its own scale, with the teacher on the held-out frames.

    Raises RefusedError when those are too few or show nothing to measure by.
    """
    settings = context.settings.gate
    artefact = msgspec.convert(results["export"]["artefact"], Artefact)
    incumbent = context.incumbent(turn.camera).artefact
    frames = context.judges(turn.camera, results["label"]["held_out"])
    before, after = (_precision(context, model, frames) for model in (incumbent, artefact))
    result = {
        "frames": len(frames),
        "map_before": round(before.ap50, 4),
        "map_after": round(after.ap50, 4),
        "map_before_50_95": round(before.ap50_95, 4),
        "map_after_50_95": round(after.ap50_95, 4),
        "reason": "",
    }
    if after.ap50 <= before.ap50 + settings.margin:
        found = f"AP50 {after.ap50:.3f} after, {before.ap50:.3f} before, on {len(frames)} held-out frames"
        result["reason"] = f"the candidate is not better by more than {settings.margin:g}: {found}"
    return result


def _precision(context: Context, model: Artefact, frames: Sequence[StoredFrame]) -> EvaluationResult:
    graph = context.graph(model.sha256)
    compared = []
    for frame, jpeg in context.pictures(frames):
        size = input_size(frame.width, frame.height, model.scale, model.long_side)
        compared.append(context.compared(frame, see(graph, decode_jpeg(jpeg), size)))
    try:
        return score(compared, model.classes, context.settings.round.labels_of_interest)
    except InputError as error:
        raise RefusedError(f"the gate cannot judge: {error}") from None
