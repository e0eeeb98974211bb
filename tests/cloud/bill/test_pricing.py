from __future__ import annotations

from pathlib import Path

import msgspec

from culling.cloud.bill.cost import StudentCost
from culling.cloud.bill.count import student_cost
from culling.cloud.bill.pricing import price
from culling.cloud.model.weights import save_weights
from support.cloud import CAMERA, CloudState
from support.detectors import small_student


def priced(cloud: CloudState) -> StudentCost | None:
    return price(cloud.registry, cloud.files, cloud.registry.live()[CAMERA], 1)


def test_a_model_of_an_earlier_version_is_counted_once(cloud: CloudState, tmp_path: Path) -> None:
    save_weights(tmp_path / "student", small_student(), "fp16")
    weights = cloud.files.add((tmp_path / "student").read_bytes(), "safetensors")
    cloud.publisher.publish(CAMERA, msgspec.structs.replace(cloud.artefact(), weights=weights), "base")
    counted = priced(cloud)
    assert counted == student_cost(small_student(), 1)
    assert cloud.registry.live()[CAMERA].artefact.cost == counted
    cloud.files.path(weights, "safetensors").unlink()
    assert priced(cloud) == counted, "it needs no weights any more"


def test_what_cannot_be_counted_has_no_price(cloud: CloudState) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    assert priced(cloud) is None, "published as ONNX"
    cloud.publisher.publish(CAMERA, msgspec.structs.replace(cloud.artefact(), weights="0" * 64), "manual")
    assert priced(cloud) is None, "its weights are gone"
