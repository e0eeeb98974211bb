from __future__ import annotations

import msgspec
import pytest

from culling.cloud.round.context import RefusedError
from culling.cloud.round.cull import cull
from culling.cloud.round.gate import gate
from culling.cloud.round.label import label
from culling.cloud.store.frames import frame_id
from culling.common.frame import Detections
from support.cloud import CAMERA, CloudState, detections
from support.rounds import EDGE, context_of, start


def test_the_gate_wants_enough_frames_and_something_on_them(cloud: CloudState) -> None:
    turn = cloud.rounds.get(start(cloud))
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    results = {"label": label(context_of(cloud), turn, {}), "export": {"artefact": artefact}}
    with pytest.raises(RefusedError, match="0 held-out frames"):
        gate(context_of(cloud), turn, {**results, "label": {"held_out": []}})
    nothing_seen = {name: Detections.empty() for name in results["label"]["held_out"]}
    cloud.lifecycle.label(nothing_seen)
    with pytest.raises(RefusedError, match="cannot judge"):
        gate(context_of(cloud), turn, results)


def test_the_gate_refuses_a_candidate_that_is_only_as_good(cloud: CloudState) -> None:
    cloud.settings = cloud.settings.model_copy(update={"gate": cloud.settings.gate.model_copy(update={"margin": 0.0})})
    turn = cloud.rounds.get(start(cloud))
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    results = {"label": label(context_of(cloud), turn, {}), "export": {"artefact": artefact}}
    result = gate(context_of(cloud), turn, results)
    assert result["map_after"] == result["map_before"]
    assert "not better" in result["reason"]


def test_classes_of_no_interest_neither_cull_nor_gate(cloud: CloudState) -> None:
    cloud.settings = cloud.settings.model_copy(
        update={"round": cloud.settings.round.model_copy(update={"interest": ("bus",)})}
    )
    turn = cloud.rounds.get(start(cloud))
    labelled = {"held_out": [frame.id for frame in cloud.lifecycle.newest_held_out(CAMERA, 9)]}
    people = dict.fromkeys((frame_id(EDGE, "boot-1", seq) for seq in range(1, 13)), detections((1, 1, 20, 20, 0.9, 0)))
    cloud.lifecycle.label(people)
    with pytest.raises(RefusedError, match="nothing to teach: the student in use is right on all"):
        cull(context_of(cloud), turn, {})
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    with pytest.raises(RefusedError, match="cannot judge"):
        gate(context_of(cloud), turn, {"label": labelled, "export": {"artefact": artefact}})
