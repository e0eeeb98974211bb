"""What a pass of a camera's student costs; of a model that an earlier version published, it is counted first."""

from __future__ import annotations

from culling.cloud.bill.cost import StudentCost
from culling.cloud.bill.count import student_cost
from culling.cloud.model.weights import load_weights
from culling.cloud.store.registry import ModelFiles, Registry
from culling.common.errors import ModelError


def price_live(registry: Registry, files: ModelFiles, camera: str, frozen: int) -> StudentCost | None:
    """Return what the camera's live student costs, and note it with the model; `frozen` as for `student_cost`.

    None where it has no weights that could be loaded to count with: one that was published as ONNX.
    """
    live = registry.live().get(camera)
    if live is None or live.artefact.cost is not None or live.artefact.weights is None:
        return live.artefact.cost if live else None
    try:
        cost = student_cost(load_weights(files.path(live.artefact.weights, "safetensors"))[0], frozen)
    except ModelError:  # whoever needs the weights says what is wrong with them
        return None
    registry.price(camera, live.artefact.weights, cost)
    return cost
