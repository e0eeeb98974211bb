from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.control.control import Control
from culling.cloud.page.views import rounds
from culling.cloud.round.gate import judge
from culling.cloud.round.label import label
from culling.cloud.round.score import look
from culling.cloud.round.zoo.zoo import FRAMES, zoo
from culling.cloud.store.index import frames
from culling.cloud.store.registry import Model
from culling.common.metrics import Metrics
from culling.common.wire.manifest import Trust, key_id, verify, verify_model
from support import tiny
from support.cloud import CAMERA, CloudState
from support.returning import Returning
from support.rounds import FAKE, context_of, enter, only, run
from support.scores import ranker

BLIND = tiny.student(floor=2.0)


def known(returning: Returning) -> Model:
    """Let the camera have had a student that sees before the one that is blind."""
    found = returning.publish(returning.sees)
    returning.publish(BLIND)
    returning.label()
    return found


def publish(cloud: CloudState, round_id: int) -> tuple[Model, Metrics]:
    """Have the service publish what a round brings."""
    metrics = Metrics(CollectorRegistry(), "cloud")
    Control(cloud.settings, cloud.index, cloud.keys.signing, metrics, cloud.clock)._publish(cloud.rounds.get(round_id))
    return cloud.registry.live()[CAMERA], metrics


def tried(returning: Returning) -> dict[str, Any]:
    """Return what the stage says of a new round."""
    cloud, context = returning.cloud, context_of(returning.cloud)
    turn = cloud.rounds.get(enter(cloud))
    return zoo(context, turn, {"label": label(context, turn, {})})


def test_what_comes_back_is_met_with_the_student_that_knew_it_and_nothing_is_trained(returning: Returning) -> None:
    night, cloud = known(returning), returning.cloud
    returning.set("gate", margin=0.0)
    round_id = enter(cloud)
    assert run(cloud, round_id) == "ready"
    turn = cloud.rounds.get(round_id)
    assert list(turn.stages) == ["label", "zoo", "gate"]
    assert set(turn.report["spent"]) == {"zoo", "gate"}
    assert turn.report["spent"]["zoo"]["gflops"] > 0
    assert turn.report["spent"]["gate"]["gflops"] == 0, "it was judged already"
    assert turn.report["zoo"]["shares"] == {night.model_id: 0.0}
    assert (turn.report["map_before"], turn.report["map_after"]) == (0.0, 1.0)

    model, metrics = publish(cloud, round_id)
    assert (model.model_id, model.origin, model.artefact.sha256) == ("gate-4", "zoo", night.artefact.sha256)
    key = cloud.keys.signing.public_key()
    manifest = verify(model.manifest, Trust({key_id(key): key}, CAMERA), cloud.clock.now())
    verify_model(manifest, cloud.files.read(manifest.sha256))
    assert (manifest.counter, manifest.parent, len(manifest.golden)) == (4, "gate-3", 1)
    assert metrics.by("outcome", "zoo_students")["published"] == 1
    (row,) = rounds(cloud.index, CAMERA, 9)
    assert row["told"].startswith("gate-2 again, without training: AP50 +1.000")
    assert row["story"][0] == (
        "Gate-2 makes 0.00 of the mistakes of the student in use on the newest 10 labelled frames, and is published"
        " again without training."
    )
    assert not any("chosen" in line for line in row["story"]), "nothing was trained on"

    assert tried(returning)["shares"] == {"gate-3": 1.0}, "it is in use now, and the blind one is the only other one"


def test_one_that_the_gate_refuses_is_what_training_starts_from(
    returning: Returning, monkeypatch: pytest.MonkeyPatch
) -> None:
    returning.publish(returning.sees)
    by_day = tiny.student(shift=1)
    returning.publish(by_day)
    returning.label(held_out_by=by_day)
    returning.set("gate", margin=0.0)
    started: list[str] = []

    def train(_: Any, turn: Any, results: Any) -> dict[str, Any]:
        started.append(results["zoo"]["start"])
        return FAKE["train"]()

    ran = only(monkeypatch, **{**FAKE, "label": label, "train": train})
    cloud, round_id = returning.cloud, enter(returning.cloud)
    run(cloud, round_id)
    assert ran == list(FAKE), "it goes its whole way"
    assert started == [returning.weights]
    told = cloud.rounds.get(round_id).report["zoo"]
    assert told["outcomes"] == {"unusable": 0, "worse": 0, "published": 0, "start": 1}
    assert "training starts from it; it is not published again: AP50 -1.000" in told["told"]


def test_what_is_better_but_not_for_certain_is_not_published_again(returning: Returning) -> None:
    known(returning)
    returning.set("gate", margin=0.0, certainty=0.95)
    found = tried(returning)
    assert found["outcomes"]["start"] == 1
    assert "judged" not in found


def test_it_has_to_be_more_certain_than_the_candidate_of_a_round(returning: Returning) -> None:
    known(returning)
    returning.set("gate", margin=-1.0, certainty=0.9)
    context = context_of(returning.cloud)
    turn = returning.cloud.rounds.get(enter(returning.cloud))
    judges, artefact = label(context, turn, {})["held_out"], returning.cloud.registry.models(CAMERA)[1].artefact
    asked = [judge(context, turn, judges, artefact, earlier)["certainty"] for earlier in (False, True)]
    assert asked == pytest.approx([0.9, 0.95])


def test_one_that_is_hardly_better_costs_no_look_of_the_gate(
    returning: Returning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.round.zoo.zoo.judge", pytest.fail)
    returning.publish(tiny.student(floor=2.0, tag="blind too"))
    returning.publish(BLIND)
    returning.label()
    found = tried(returning)
    assert found["shares"] == {"gate-2": 1.0}
    assert found["told"].endswith("the fewest of 1 earlier student, and not clearly fewer")


def test_the_student_in_use_is_not_run_again_on_what_it_forwarded_itself(
    returning: Returning, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(returning)
    cloud = returning.cloud
    with cloud.index.write() as connection:
        connection.execute(frames.update().values(model_id="gate-3"))
    looked: list[str] = []
    monkeypatch.setattr(
        "culling.cloud.round.zoo.zoo.look", lambda *about: looked.append(about[2].model_id) or look(*about)
    )
    assert tried(returning)["frames"] <= FRAMES
    assert looked == ["gate-2"]


@pytest.mark.parametrize("damage", ["gone", "rotten"])
@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_a_file_that_cannot_be_used_is_passed_over_with_its_reason(
    returning: Returning, damage: str, suffix: str
) -> None:
    cloud = returning.cloud
    other = returning.publish(tiny.student(tag="whole"), weights=cloud.registry.models(CAMERA)[-1].artefact.weights)
    broken = known(returning)
    path = cloud.files.path(getattr(broken.artefact, "sha256" if suffix == "onnx" else "weights"), suffix)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = tried(returning)
    assert list(found["shares"]) == [other.model_id]
    assert list(found["unusable"]) == [broken.model_id]
    assert found["outcomes"]["unusable"] == 1
    assert f"; {broken.model_id} cannot be used: " in found["told"]


def test_without_an_earlier_student_nothing_is_looked_at(returning: Returning) -> None:
    returning.label()
    found = tried(returning)
    assert (found["frames"], found["shares"], found["told"]) == (0, {}, "there is no earlier student to try")


def test_a_sibling_s_student_goes_out_with_a_picture_of_this_camera_and_without_its_ranker(
    returning: Returning,
) -> None:
    cloud, theirs = returning.cloud, tiny.golden(returning.sees)
    sees = returning.beside("yard", returning.sees, ranker=ranker(0.5, loss=0.25), golden=(theirs,))
    returning.publish(BLIND)
    returning.label()
    returning.site("edge-1", "edge-yard")
    round_id = enter(cloud)
    assert run(cloud, round_id) == "ready"
    assert cloud.rounds.get(round_id).report["zoo"]["shares"] == {sees.model_id: 0.0}
    model, _ = publish(cloud, round_id)
    assert (model.model_id, model.artefact.sha256) == ("gate-3", sees.artefact.sha256)
    assert model.artefact.ranker is None
    assert theirs not in model.artefact.golden
    assert len(model.artefact.golden) == 1
