"""What a person makes of a culled set, followed through real stages into the next round's training set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from culling.cloud.model.dataset import Sample
from culling.cloud.round import fit as stage
from culling.cloud.round.cull import cull
from culling.cloud.round.fit import fit
from culling.cloud.round.label import label
from culling.cloud.round.score import score
from culling.cloud.store.people.reviews import Reviews, Said
from culling.common.cli import main
from support.cloud import CAMERA, CloudState, detections
from support.rounds import FAKE, context_of, only, run, start
from support.stored import everything

CHOOSING = {"label": label, "score": score, "cull": cull}
"""The stages that decide what is trained on; the others are quick ones."""


class EnoughError(Exception):
    """Training would begin."""


def training_set(cloud: CloudState, round_id: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Sample]:
    """Return what the train stage of a round hands to training, by frame."""
    seen: list[Sample] = []

    def retrain(_: Any, batches: Any, *rest: Any) -> Any:
        seen.extend(batches.samples)
        raise EnoughError

    monkeypatch.setattr(stage, "retrain", retrain)
    turn = cloud.rounds.get(round_id)
    with pytest.raises(EnoughError):
        fit(context_of(cloud), turn, {**turn.stages, "resolution": {"scale": 1.0}})
    return {one.source: one for one in seen}


def test_a_box_that_a_person_corrected_is_trained_on_in_the_next_round(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only(monkeypatch, **{**FAKE, **CHOOSING})
    first = start(cloud)
    assert run(cloud, first) == "ready"
    kept = cloud.rounds.get(first).stages["cull"]["kept"]

    out = tmp_path / "culled"
    words = ["--what", "culled", "--format", "coco", "--out", str(out), "--config", str(cloud.toml)]
    assert main(["cloud", "export", CAMERA, *words]) == 0
    opened = COCO(str(out / "annotations.json"))
    assert {one["file_name"] for one in opened.loadImgs(opened.getImgIds())} == {f"{name}.jpg" for name in kept}

    image = next(one for one in opened.loadImgs(opened.getImgIds()) if opened.getAnnIds(imgIds=[one["id"]]))
    told = json.loads((out / "annotations.json").read_text())
    box = next(one for one in told["annotations"] if one["image_id"] == image["id"])
    box["bbox"] = [7.0, 9.0, 40.0, 30.0]
    boxes = sum(one["image_id"] == image["id"] for one in told["annotations"])
    (out / "annotations.json").write_text(json.dumps(told))
    assert main(["cloud", "import", CAMERA, str(out / "annotations.json"), "--config", str(cloud.toml)]) == 0

    second = start(cloud)
    assert run(cloud, second) == "ready"
    chosen = cloud.rounds.get(second).stages["cull"]
    name = image["file_name"].removesuffix(".jpg")
    assert name in [*chosen["kept"], *chosen["replay"]]
    assert cloud.rounds.get(second).report["of_people"] == 1
    sample = training_set(cloud, second, monkeypatch)[name]
    assert len(sample.detections) == boxes
    assert (sample.detections.scores == 1).all(), "a person is certain"
    assert any(np.allclose(row, [7, 9, 47, 39]) for row in sample.detections.boxes)
    assert name in Reviews(cloud.index).of(CAMERA, [name]), "and what the teacher had said is still there"


def test_the_gate_judges_by_a_persons_labels_and_the_teacher_is_not_asked_again(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = next(frame for frame in everything(cloud) if frame.held_out and not frame.guard)
    own = detections((5, 6, 25, 36, 1.0, 3))
    Reviews(cloud.index).enter(CAMERA, {judge.id: Said("corrected", own)}, "ann", 1.0, lambda _: None)
    only(monkeypatch, **{**FAKE, **CHOOSING})
    first = start(cloud)
    assert run(cloud, first) == "ready"
    turn = cloud.rounds.get(first)
    assert judge.id in turn.stages["label"]["held_out"]
    (found,) = (one for one in context_of(cloud).judges(CAMERA, turn.stages["label"]["held_out"]) if one.id == judge.id)
    assert found.labels is not None
    np.testing.assert_allclose(found.labels.boxes, own.boxes)
    (review,) = Reviews(cloud.index).of(CAMERA, [judge.id]).values()
    assert review.teacher is None
