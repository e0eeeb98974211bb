from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from culling.cloud.control.publish import SupersededError
from culling.common.clock import DAY_S
from culling.common.errors import InputError, ManifestError, ModelError
from culling.common.wire.manifest import Trust, key_id, verify, verify_model
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState
from support.scores import ranker


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[CloudState]:
    state = CloudState(tmp_path, clock)
    state.enroll()
    yield state
    state.close()


def trust(cloud: CloudState, **changes: object) -> Trust:
    public = cloud.keys.signing.public_key()
    return Trust(**{"keys": {key_id(public): public}, "camera": CAMERA, **changes})  # type: ignore[arg-type]


def test_what_is_published_is_what_edges_accept(cloud: CloudState, clock: FakeClock) -> None:
    artefact = cloud.artefact()
    model = cloud.publisher.publish(CAMERA, artefact, "manual")
    manifest = verify(model.manifest, trust(cloud), clock.now())
    verify_model(manifest, cloud.files.read(artefact.sha256))
    assert (manifest.model_id, manifest.counter, manifest.scale) == ("gate-1", 1, 1.0)
    assert manifest.expires == clock.now() + 365 * DAY_S


def test_a_ranker_goes_out_with_its_model_and_comes_back_with_it(cloud: CloudState, clock: FakeClock) -> None:
    rule = ranker(0.5, loss=0.25)
    with_it = msgspec.structs.replace(cloud.artefact(tag="a"), ranker=rule)
    models = [cloud.publisher.publish(CAMERA, each, "round") for each in (with_it, cloud.artefact(tag="b"))]
    models.append(cloud.publisher.rollback(CAMERA))
    shipped = [verify(model.manifest, trust(cloud), clock.now()).ranker for model in models]
    assert shipped == [rule, None, rule]


def test_every_publication_has_a_higher_counter(cloud: CloudState, clock: FakeClock) -> None:
    counters = [cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round").counter for tag in "abc"]
    assert counters == [1, 2, 3]
    newest = cloud.registry.live()[CAMERA]
    assert verify(newest.manifest, trust(cloud, counter=2, sha256="0" * 64), clock.now()).counter == 3


def test_counters_of_two_cameras_are_their_own(cloud: CloudState) -> None:
    cloud.enroll("yard", edge="edge-2")
    assert cloud.publisher.publish(CAMERA, cloud.artefact(), "base").model_id == "gate-1"
    assert cloud.publisher.publish("yard", cloud.artefact(), "base").model_id == "yard-1"


def test_a_rollback_is_accepted_by_an_edge_that_runs_the_newer_one(cloud: CloudState, clock: FakeClock) -> None:
    first, second = (cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round") for tag in "ab")
    back = cloud.publisher.rollback(CAMERA)
    known = trust(cloud, counter=second.counter, sha256=second.artefact.sha256)
    assert verify(back.manifest, known, clock.now()).sha256 == first.artefact.sha256
    states = {model.model_id: (model.state, model.origin) for model in cloud.registry.models(CAMERA)}
    assert states == {"gate-3": ("live", "rollback"), "gate-2": ("revoked", "round"), "gate-1": ("retired", "round")}


def test_a_model_gone_back_to_is_accepted_once_it_is_renewed(cloud: CloudState, clock: FakeClock) -> None:
    first, second = (cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round") for tag in "ab")
    cloud.registry.withdraw(CAMERA, second.model_id, "rejected")
    assert not cloud.registry.is_newest(CAMERA, first.model_id)
    renewed = cloud.publisher.renew(CAMERA)
    assert cloud.registry.is_newest(CAMERA, renewed.model_id)
    known = trust(cloud, counter=second.counter, sha256=second.artefact.sha256)
    assert verify(renewed.manifest, known, clock.now()).sha256 == first.artefact.sha256
    assert cloud.registry.live_ids() == {CAMERA: "gate-3"}


def test_a_shadow_is_renewed_only_while_it_is_to_run_beside_the_live_one(cloud: CloudState, clock: FakeClock) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", clock.now())
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    beside = cloud.publisher.publish(CAMERA, cloud.artefact(tag="b"), "round", turn.id, shadow=lambda connection: True)
    clock.advance(365 * DAY_S)
    again = cloud.publisher.renew_shadow(CAMERA, beside.model_id)
    assert (again.model_id, again.state, again.origin, again.round) == ("gate-3", "shadow", "round", turn.id)
    assert verify(again.manifest, trust(cloud), clock.now()).sha256 == beside.artefact.sha256
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}
    with pytest.raises(SupersededError, match="gate-2 does not run beside the live model any more"):
        cloud.publisher.renew_shadow(CAMERA, beside.model_id)


def test_a_camera_without_a_model_has_none_to_renew(cloud: CloudState) -> None:
    with pytest.raises(InputError, match="no live model"):
        cloud.publisher.renew(CAMERA)


def test_a_model_whose_file_is_damaged_is_not_published(cloud: CloudState) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    artefact = cloud.artefact(tag="b")
    cloud.files.path(artefact.sha256, "onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match="damaged"):
        cloud.publisher.publish(CAMERA, artefact, "round")
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_what_cannot_be_signed_changes_nothing(cloud: CloudState) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    artefact = cloud.artefact(tag="b")
    with pytest.raises(ManifestError):
        cloud.publisher.publish(
            CAMERA,
            type(artefact)(**{**{f: getattr(artefact, f) for f in artefact.__struct_fields__}, "scale": 7.0}),
            "round",
        )
    assert cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_publishing_a_round_ends_it_in_the_same_transaction(cloud: CloudState, clock: FakeClock) -> None:
    turn = cloud.rounds.start(CAMERA, "manual", clock.now())
    cloud.rounds.end(turn.id, "ready", {"newest_capture": 17.0}, "", None)
    model = cloud.publisher.publish_round(turn.id, CAMERA, cloud.artefact())
    ended = cloud.rounds.get(turn.id)
    assert (ended.state, ended.model_id, ended.finished) == ("published", model.model_id, clock.now())
    assert cloud.rounds.newest_capture(CAMERA, model.model_id) == 17.0
    assert model.round == turn.id


def test_a_camera_with_the_longest_name_can_be_published_for(cloud: CloudState) -> None:
    name = "c" * 64
    cloud.enroll(name, edge="edge-2")
    model = cloud.publisher.publish(name, cloud.artefact(), "base")
    assert len(model.model_id) <= 64


def test_a_round_does_not_replace_a_model_that_was_published_while_it_ran(cloud: CloudState, clock: FakeClock) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    turn = cloud.rounds.start(CAMERA, "manual", clock.now())
    made = msgspec.structs.replace(cloud.artefact(tag="c"), parent="gate-1")
    cloud.rounds.end(turn.id, "ready", {}, "", None)
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="b"), "manual")
    with pytest.raises(SupersededError, match="gate-2 went live during the round, which was judged against gate-1"):
        cloud.publisher.publish_round(turn.id, CAMERA, made)
    assert cloud.registry.live_ids() == {CAMERA: "gate-2"}
    assert cloud.rounds.get(turn.id).state == "ready", "the service ends it as refused"


def test_a_round_may_replace_its_parent_that_was_only_signed_anew(cloud: CloudState, clock: FakeClock) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    turn = cloud.rounds.start(CAMERA, "manual", clock.now())
    cloud.publisher.renew(CAMERA)
    made = msgspec.structs.replace(cloud.artefact(tag="c"), parent="gate-1")
    assert cloud.publisher.publish_round(turn.id, CAMERA, made).model_id == "gate-3"


def test_a_student_that_was_withdrawn_is_nowhere_to_go_back_to(cloud: CloudState) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    doubted = cloud.publisher.publish(CAMERA, cloud.artefact(tag="b"), "round")
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    better = msgspec.structs.replace(cloud.artefact(tag="c"), parent=doubted.model_id)
    cloud.publisher.publish_round(turn.id, CAMERA, better, replaced=doubted.model_id)
    assert {model.model_id: model.state for model in cloud.registry.models(CAMERA)}[doubted.model_id] == "revoked"
    assert cloud.publisher.rollback(CAMERA).artefact.sha256 == cloud.artefact(tag="a").sha256


def test_a_model_is_taken_back_only_while_it_is_live(cloud: CloudState) -> None:
    base = cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    doubted = cloud.publisher.publish(CAMERA, cloud.artefact(tag="b"), "round")
    by_hand = cloud.publisher.publish(CAMERA, cloud.artefact(tag="c"), "manual")
    with pytest.raises(SupersededError, match=f"{doubted.model_id} is not taken back: {by_hand.model_id} went live"):
        cloud.publisher.take_back(CAMERA, doubted.model_id, base.artefact)
    assert cloud.registry.live()[CAMERA].model_id == by_hand.model_id
    back = cloud.publisher.take_back(CAMERA, by_hand.model_id, base.artefact)
    assert back.artefact.sha256 == base.artefact.sha256
    assert {model.model_id: model.state for model in cloud.registry.models(CAMERA)}[by_hand.model_id] == "revoked"
