from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from culling.cloud.changed.kept import Changes
from culling.cloud.evaluation.tally import tallies
from culling.cloud.round import gate as stage
from culling.cloud.round.context import Context, RoundRefusedError
from culling.cloud.round.cull import cull
from culling.cloud.round.gate import gate
from culling.cloud.round.label import label
from culling.cloud.round.process import report
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.registry import Artefact
from culling.cloud.store.rounds import Round
from culling.common.frame import Detections
from culling.common.wire.protocol import frame_id
from support.cloud import CAMERA, CloudState, detections
from support.rounds import EDGE, add, context_of, run, start


def test_the_gate_wants_enough_frames_and_something_on_them(cloud: CloudState) -> None:
    turn = cloud.rounds.get(start(cloud))
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    results = {"label": label(context_of(cloud), turn, {}), "export": {"artefact": artefact}}
    with pytest.raises(RoundRefusedError, match="0 labelled held-out frames"):
        gate(context_of(cloud), turn, {**results, "label": {"held_out": []}})
    nothing_seen = {name: Detections.empty() for name in results["label"]["held_out"]}
    cloud.lifecycle.label(nothing_seen)
    with pytest.raises(RoundRefusedError, match="cannot judge"):
        gate(context_of(cloud), turn, results)


def test_the_gate_refuses_a_candidate_that_is_only_as_good(cloud: CloudState) -> None:
    cloud.settings = cloud.settings.model_copy(update={"gate": cloud.settings.gate.model_copy(update={"margin": 0.0})})
    turn = cloud.rounds.get(start(cloud))
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    results = {"label": label(context_of(cloud), turn, {}), "export": {"artefact": artefact}}
    result = gate(context_of(cloud), turn, results)
    assert result["map_after"] == result["map_before"]
    assert "+0.000" in result["reason"]
    assert "not more than +0" in result["reason"]
    assert result["verdict"] == result["reason"]


def judged_by(cloud: CloudState, monkeypatch: pytest.MonkeyPatch, **found: Detections) -> list[tuple[str, float]]:
    """Have every model find what is said of it at its scale; return the list of what was run, model and scale."""
    ran: list[tuple[str, float]] = []

    def look(context: Context, model: Artefact, frames: Sequence[StoredFrame]) -> stage.Looked:
        name = f"{'base' if model.parent is None else 'student'}_{model.scale:g}".replace(".", "_")
        ran.append((name, model.scale))
        seen = {frame.id: tallies(context.compared(frame, found[name]), len(model.classes)) for frame in frames}
        return stage.Looked(seen, {frame.id: context.counting(frame, found[name]) for frame in frames})

    monkeypatch.setattr(stage, "_look", look)
    return ran


TRUTH = detections((1, 1, 20, 20, 0.9, 0), (30, 30, 60, 60, 0.8, 0))
HALF, NOTHING = detections((1, 1, 20, 20, 0.9, 0)), Detections.empty()


def labelled(cloud: CloudState, scale: float = 0.5) -> tuple[Round, dict[str, Any]]:
    """Return a round that is ready for its gate: two people on every held-out frame, a candidate of that scale."""
    turn = cloud.rounds.get(start(cloud))
    results = {"label": label(context_of(cloud), turn, {})}
    cloud.lifecycle.label(dict.fromkeys(results["label"]["held_out"], TRUTH))
    artefact = msgspec.structs.replace(cloud.registry.live()[CAMERA].artefact, scale=scale, parent="gate-1")
    return turn, {**results, "export": {"artefact": msgspec.to_builtins(artefact)}}


def wants(cloud: CloudState, **changes: float) -> None:
    cloud.settings = cloud.settings.model_copy(update={"gate": cloud.settings.gate.model_copy(update=changes)})


def test_a_candidate_that_fails_at_its_scale_is_judged_at_full_size(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants(cloud, margin=0.0)
    ran = judged_by(cloud, monkeypatch, base_1=HALF, student_0_5=NOTHING, student_1=TRUTH)
    result = gate(context_of(cloud), *labelled(cloud))
    assert [name for name, _ in ran] == ["base_1", "student_0_5", "student_1"]
    assert (result["outcome"], result["scale"], result["reason"]) == ("published", 1.0, "")
    assert msgspec.convert(result["artefact"], Artefact).scale == 1.0
    assert result["map_after"] == 1.0


def test_where_both_differ_most_is_kept_without_another_look_and_once_however_often_the_gate_runs(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = judged_by(cloud, monkeypatch, base_1=HALF, student_1=TRUTH)
    turn, results = labelled(cloud, scale=1.0)
    result = gate(context_of(cloud), turn, results)
    assert [name for name, _ in ran] == ["base_1", "student_1"]
    found = Changes(cloud.index).of(turn.id)
    assert result["changed"] == {"before": "gate-1", "frames": len(found)}
    assert {one.frame for one in found} <= set(results["label"]["held_out"])
    assert [(one.difference, len(one.before), len(one.after)) for one in found] == [(0.8, 1, 2)] * len(found)
    assert report({**results, "gate": result | {"seconds": 0.0}} | seconds(results), "ready")["changed"]["frames"]
    gate(context_of(cloud), turn, results)  # its process died before its result was kept
    assert [one.frame for one in Changes(cloud.index).of(turn.id)] == [one.frame for one in found]


def test_what_changed_is_what_the_candidate_did_at_the_scale_that_it_is_judged_by(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants(cloud, margin=0.0)
    judged_by(cloud, monkeypatch, base_1=HALF, student_0_5=NOTHING, student_1=TRUTH)
    turn, results = labelled(cloud)
    gate(context_of(cloud), turn, results)
    assert {len(one.after) for one in Changes(cloud.index).of(turn.id)} == {2}


def seconds(results: dict[str, Any]) -> dict[str, Any]:
    return {name: {**result, "seconds": 0.0} for name, result in results.items()}


def test_a_candidate_that_fails_at_both_is_refused_for_what_it_did_at_its_own(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants(cloud, margin=0.0)
    judged_by(cloud, monkeypatch, base_1=TRUTH, student_0_5=NOTHING, student_1=HALF)
    result = gate(context_of(cloud), *labelled(cloud))
    assert (result["outcome"], result["scale"], result["map_after"]) == ("refused", 0.5, 0.0)


def test_a_first_student_of_too_few_judges_is_provisional_and_judged_again_by_the_next_round(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants(cloud, margin=0.0, certainty=0.95)
    cloud.settings = cloud.settings.model_copy(
        update={"round": cloud.settings.round.model_copy(update={"held_out": 64})}
    )
    judged_by(cloud, monkeypatch, base_1=HALF, student_1=TRUTH)
    turn, results = labelled(cloud, scale=1.0)
    result = gate(context_of(cloud), turn, results)
    assert (result["outcome"], result["reason"]) == ("provisional", "")
    assert "provisional until 64 frames judge" in result["verdict"]
    told = report(
        {
            **results,
            "gate": {**result, "seconds": 0.0},
            "label": {**results["label"], "seconds": 0.0},
            "export": {**results["export"], "seconds": 0.0},
        },
        "ready",
    )
    assert told["provisional"]
    cloud.rounds.end(turn.id, "ready", told)
    model = cloud.publisher.publish_round(turn.id, CAMERA, msgspec.convert(result["artefact"], Artefact))
    assert cloud.registry.provisional(CAMERA) == {model.model_id}

    wants(cloud, margin=0.0, certainty=0.5)
    add(cloud, range(20, 40))
    second, results = labelled(cloud, scale=1.0)
    again = gate(context_of(cloud), second, results)
    assert (again["confirmed"], again["outcome"]) == (model.model_id, "refused")
    cloud.rounds.end(second.id, "refused", {"confirmed": model.model_id})
    assert cloud.registry.provisional(CAMERA) == frozenset()


def test_a_provisional_student_that_turns_out_no_better_is_taken_back(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants(cloud, margin=0.0)
    turn, results = labelled(cloud, scale=1.0)
    cloud.rounds.end(turn.id, "ready", {"provisional": True})
    artefact = msgspec.convert(results["export"]["artefact"], Artefact)
    model = cloud.publisher.publish_round(turn.id, CAMERA, artefact)
    judged_by(cloud, monkeypatch, base_1=HALF, student_1=NOTHING)
    add(cloud, range(20, 40))
    second, results = labelled(cloud, scale=1.0)
    result = gate(context_of(cloud), second, results)
    assert (result["withdrawn"], result["outcome"]) == (model.model_id, "refused")
    assert result["map_before"] > 0, "the candidate is held against the model before it"

    monkeypatch.setattr("culling.cloud.round.process._work", lambda *_: ("refused", result["reason"], {}))
    cloud.rounds.save_stage(second.id, "gate", {**result, "seconds": 0.0})
    run(cloud, second.id)
    assert [request.kind for request in cloud.requests.open()] == ["rollback"]


def test_what_was_drawn_with_a_small_chance_stands_for_many_but_not_for_all() -> None:
    assert stage._weight(cast(Any, SimpleNamespace(probability=None))) == 1.0
    assert stage._weight(cast(Any, SimpleNamespace(probability=0.25))) == 4.0
    assert stage._weight(cast(Any, SimpleNamespace(probability=1e-6))) == stage.MOST_WEIGHT


def test_classes_of_no_interest_neither_cull_nor_gate(cloud: CloudState) -> None:
    cloud.settings = cloud.settings.model_copy(
        update={"round": cloud.settings.round.model_copy(update={"interest": ("bus",)})}
    )
    turn = cloud.rounds.get(start(cloud))
    labelled = {"held_out": [frame.id for frame in cloud.lifecycle.newest_held_out(CAMERA, 9)]}
    people = dict.fromkeys((frame_id(EDGE, "boot-1", seq) for seq in range(1, 13)), detections((1, 1, 20, 20, 0.9, 0)))
    cloud.lifecycle.label(people)
    with pytest.raises(RoundRefusedError, match="nothing to teach: the student in use is right on all"):
        cull(context_of(cloud), turn, {})
    artefact = msgspec.to_builtins(cloud.registry.live()[CAMERA].artefact)
    with pytest.raises(RoundRefusedError, match="cannot judge"):
        gate(context_of(cloud), turn, {"label": labelled, "export": {"artefact": artefact}})
