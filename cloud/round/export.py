"""The export stage: the candidate as one ONNX graph, proven equal to what was trained, in 8 bits if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.cloud.bill.count import student_cost
from culling.cloud.model.base import templates
from culling.cloud.model.export import parity_sizes
from culling.cloud.model.golden import golden_frame
from culling.cloud.model.quantise import CALIBRATED, quantise
from culling.cloud.model.refit import export_proven
from culling.cloud.model.weights import load_weights
from culling.cloud.round.context import Context, Result, Results, frame_size, labels
from culling.cloud.store.registry import Artefact
from culling.cloud.store.rounds import Round
from culling.common.graph import open_graph
from culling.common.scaler import input_size, resize
from culling.common.selection.ranker import Ranker
from culling.common.wire.codec import decode_jpeg

BLANK = 3
"""Passes of the parity check at each size that look at no frame."""

PARITY_FRAMES = 2
"""Torch and onnxruntime run each at every size of the parity check, which every round waits for."""


def busiest(context: Context, names: Sequence[str], count: int) -> list[NDArray[np.uint8]]:
    """Return the pictures `(H, W, 3)` of those labelled frames that show most."""
    floor = context.settings.teacher.true_score
    frames = sorted(context.store.get(names), key=lambda frame: -len(labels(frame).above(floor)))
    return [decode_jpeg(jpeg) for _, jpeg in context.pictures(frames[:count])]


def export(context: Context, turn: Round, results: Results) -> Result:
    """Export the candidate, prove it equal to the trained model on the busiest held-out frames, and add a golden frame.

    An 8-bit student is made from the proven graph, which it cannot equal: the gate judges how good it is.
    """
    weights = results["train"]["weights"]
    model, classes = load_weights(context.files.path(weights, "safetensors"))
    base, incumbent = context.registry.models(turn.camera)[-1], context.incumbent(turn.camera)
    images = busiest(context, results["label"]["held_out"] or results["cull"]["kept"], PARITY_FRAMES)
    own = [context.files.read(one.artefact.sha256) for one in (incumbent, base)]  # one of another list has other shapes
    known = chain(own, templates(context.settings.data_dir, context.files))
    scale, long_side = results["resolution"]["scale"], context.settings.student.long_side
    data, parity = export_proven(known, model, classes, images, long_side=long_side)
    cost = student_cost(model, context.settings.round.frozen)  # its family may be another than the incumbent's
    for size in parity_sizes(long_side):
        context.work.look(cost, size, 2 * len(images) + BLANK)
    if context.settings.student.int8:
        kept = context.store.get(results["cull"]["kept"][:CALIBRATED])
        size = input_size(*frame_size(kept), scale, long_side)
        context.work.look(cost, size, len(kept))
        data = quantise(data, [resize(decode_jpeg(jpeg), *size) for _, jpeg in context.pictures(kept)])
    graph = open_graph(data, provider="cpu")
    artefact = Artefact(
        sha256=context.files.add(data, "onnx"),
        size=len(data),
        weights=weights,
        scale=scale,
        long_side=long_side,
        classes=classes,
        parent=incumbent.model_id,
        golden=tuple(golden_frame(graph, image, scale, long_side) for image in images[:1]),
        ranker=msgspec.convert(results["learn"]["ranker"], Ranker | None),
        cost=cost,
    )
    return {"artefact": msgspec.to_builtins(artefact), "parity": asdict(parity)}
