"""A round for another class list: what trains, what comes out, and by what the gate judges it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from culling.cloud.model.base import base_artefact
from culling.cloud.model.family import family_of
from culling.cloud.model.weights import load_bundled, load_weights
from culling.cloud.round.fit import start_from
from culling.cloud.settings import ClassSet
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.classes.relist import relist
from culling.cloud.store.registry import Artefact
from culling.cloud.weights.classes import CLASSES
from culling.common.graph import open_graph
from support.cloud import CAMERA, CloudState
from support.narrow import install_two
from support.rounds import add, context_of, run, start

SHOP = ("bottle", "person")


def look_for(cloud: CloudState, *names: str, **means: tuple[str, ...]) -> None:
    """Give the camera another list, and the cloud a set of it."""
    sets = {"shop": ClassSet.model_validate({"names": names, "from": means})}
    cloud.settings = cloud.settings.model_copy(update={"classes": sets})
    relist(cloud.index, CAMERA, names, cloud.clock.now())


@pytest.mark.parametrize("family", ["faster-rcnn-resnet18", "yolox"])
def test_a_round_makes_a_student_of_the_new_list(cloud: CloudState, narrow: Path, family: str) -> None:
    install_two(narrow, cloud.data_dir, yolox=family == "yolox")
    if family == "yolox":
        student = cloud.settings.student.model_copy(update={"family": "yolox", "weights": "bundled"})
        cloud.settings = cloud.settings.model_copy(update={"student": student})
    look_for(cloud, *SHOP, bottle=CLASSES[1:])
    round_id = start(cloud)
    run(cloud, round_id)
    stages = cloud.rounds.get(round_id).stages
    assert "gate" in stages, cloud.rounds.get(round_id).reason
    assert stages["gate"]["compared"] == ["person"], "by what both students find"
    assert [one["name"] for one in stages["gate"]["new_classes"]] == ["bottle"]
    assert "bottle" in stages["gate"]["verdict"]
    artefact = msgspec.convert(stages["export"]["artefact"], Artefact)
    assert artefact.classes == SHOP
    assert artefact.weights is not None
    learnt, classes = load_weights(cloud.files.path(artefact.weights, "safetensors"))
    assert (family_of(learnt).name, family_of(learnt).classes(learnt), classes) == (family, 2, SHOP)
    assert open_graph(cloud.files.read(artefact.sha256), provider="cpu", threads=1).info.classes == SHOP

    model = cloud.publisher.publish_round(round_id, CAMERA, artefact)
    assert model.artefact.classes == SHOP
    assert cloud.publisher.rollback(CAMERA).artefact.classes == CLASSES
    assert ClassLists(cloud.index).of(CAMERA) == SHOP, "what is looked for stays what the operator said"


def test_a_list_of_known_names_goes_on_from_the_camera_s_student(cloud: CloudState) -> None:
    look_for(cloud, "car", "person")
    context = context_of(cloud)
    model = start_from(context, CAMERA)
    newest = cloud.registry.models(CAMERA)[0].artefact
    assert newest.weights is not None
    before, _ = load_weights(cloud.files.path(newest.weights, "safetensors"))
    ours, theirs = (each.roi_heads.box_predictor.cls_score.weight for each in (model, before))
    assert torch.equal(ours, theirs[[0, 1 + CLASSES.index("car"), 1 + CLASSES.index("person")]])
    assert torch.equal(model.rpn.head.cls_logits.weight, before.rpn.head.cls_logits.weight)


def test_the_base_of_a_new_camera_finds_what_its_weights_find(cloud: CloudState) -> None:
    look_for(cloud, *SHOP)
    assert base_artefact(cloud.settings, cloud.files).classes == CLASSES


@pytest.mark.parametrize("name", ["faster-rcnn-resnet18", "yolox"])
def test_known_rows_are_kept_and_new_ones_find_nothing_yet(name: str) -> None:
    before, names = load_bundled("student", family=name)
    family = family_of(before)
    after = family.relist(before, names, SHOP)
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        [(_, scores, labels)] = list(family.find(after.eval(), image))
    assert family.classes(after) == 2
    assert not ((labels == 0) & (scores > 0.3)).any()
    again = family.relist(before, names, SHOP)
    assert all(torch.equal(one, other) for one, other in zip(after.parameters(), again.parameters(), strict=True))
    back = family.relist(after, SHOP, ("person",))
    rows = family.relist(before, names, ("person",))
    assert all(torch.equal(one, other) for one, other in zip(back.parameters(), rows.parameters(), strict=True))


def test_new_frames_go_on_being_labelled_by_the_new_list(cloud: CloudState, tmp_path: Path) -> None:
    look_for(cloud, *SHOP, bottle=CLASSES[1:])
    add(cloud, range(30, 34))
    start(cloud)
    found = [frame for frame in cloud.lifecycle.pool(CAMERA, 100) if frame.labels is not None]
    assert found
    assert {frame.classes for frame in found} == {SHOP}
    assert all((frame.labels.labels < 2).all() for frame in found if frame.labels is not None)
