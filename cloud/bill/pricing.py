"""What a pass of a student costs; of a model that an earlier version published, it is counted first."""

from __future__ import annotations

from culling.cloud.bill.cost import StudentCost
from culling.cloud.bill.count import student_cost
from culling.cloud.model.weights import load_weights
from culling.cloud.store.registry import Model, ModelFiles, Registry
from culling.common.errors import ModelError


def price(registry: Registry, files: ModelFiles, model: Model, frozen: int) -> StudentCost | None:
    """Return what a student costs, and note it with the model; `frozen` as for `student_cost`.

    None where it has no weights that could be loaded to count with: one that was published as ONNX.
    """
    known = model.artefact
    if known.cost is not None or known.weights is None:
        return known.cost
    try:
        cost = student_cost(load_weights(files.path(known.weights, "safetensors"))[0], frozen)
    except ModelError:  # whoever needs the weights says what is wrong with them
        return None
    registry.price(model.camera, known.weights, cost)
    return cost
