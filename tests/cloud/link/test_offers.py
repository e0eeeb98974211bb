from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.link.offers import Offers
from culling.cloud.store.desired import DesiredStates, Paced
from culling.cloud.store.waves.shadows import end_shadow, promote, shadow_ids
from culling.common.errors import ProtocolError
from culling.common.wire.delta import apply
from culling.common.wire.messages import Desired, FromCloud, ModelChunk, ModelOffer, ModelRequest
from culling.common.wire.protocol import PIECE
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state
from support.waiting import wait_until

EDGE = "e" * 40
REOFFER_S = 60.0


class Told:
    """Offers to one edge of one camera, and what was sent to it; `up` is whether the link takes anything."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.cloud = CloudState(folder, self.clock)
        self.cloud.enroll()
        self.sent: list[FromCloud] = []
        self.up = True
        self.offers = self.make()

    def make(self, deltas: bool = True) -> Offers:
        return Offers(self.cloud.index, self.cloud.files, REOFFER_S, self.clock, self._send, deltas, 0.1)

    def _send(self, edge_key: str, message: FromCloud) -> bool:
        assert edge_key == EDGE
        if self.up:
            self.sent.append(message)
        return self.up

    def publish(self, tag: str, shadow: bool = False) -> None:
        self.cloud.publisher.publish(CAMERA, self.cloud.artefact(tag=tag), "round", shadow=lambda connection: shadow)

    def learn(self) -> None:
        """Have the offers know what the index says."""
        live, shadows = self.cloud.registry.live_ids(), shadow_ids(self.cloud.index)
        self.offers.learn(live, DesiredStates(self.cloud.index).all(), shadows)

    def hear(self, model_id: str = "none", greeting: bool = False, **state: Any) -> list[FromCloud]:
        """Return what the edge is told after it said that of its camera."""
        self.learn()
        self.offers.heard(camera_state(model_id=model_id, **state), greeting)
        self.sent.clear()
        self.offers.tell(EDGE, [CAMERA])
        return list(self.sent)

    def renewals(self) -> list[str]:
        return [request.camera for request in self.cloud.requests.open() if request.kind == "renew"]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.offers.close()
    made.cloud.close()


def test_a_camera_that_was_not_heard_of_is_told_nothing(told: Told) -> None:
    told.publish("a")
    told.learn()
    told.offers.tell(EDGE, [CAMERA])
    assert told.sent == []


def test_a_model_is_offered_again_only_after_a_while(told: Told) -> None:
    told.publish("a")
    (offer,) = told.hear()
    assert isinstance(offer, ModelOffer)
    told.clock.advance(REOFFER_S - 1)
    assert told.hear() == []
    told.clock.advance(1)
    assert told.hear() == [offer]
    assert told.hear(model_id="gate-1") == []


def test_a_newer_model_is_offered_at_once(told: Told) -> None:
    told.publish("a")
    told.hear()
    told.publish("b")
    assert len(told.hear()) == 1


def test_an_edge_that_greets_is_told_everything_again(told: Told) -> None:
    told.publish("a")
    DesiredStates(told.cloud.index).change(CAMERA, paused=True)
    assert [type(message) for message in told.hear()] == [ModelOffer, Desired]
    assert told.hear() == []
    assert [type(message) for message in told.hear(greeting=True)] == [ModelOffer, Desired]


def test_what_the_link_did_not_take_is_sent_with_the_next_chance(told: Told) -> None:
    told.publish("a")
    DesiredStates(told.cloud.index).change(CAMERA, paused=True)
    told.up = False
    assert told.hear() == []
    told.up = True
    assert len(told.hear()) == 2


def test_a_model_that_was_gone_back_to_is_renewed_once_its_first_offer_was_not_taken(told: Told) -> None:
    told.publish("a")
    told.publish("b")
    told.cloud.registry.withdraw(CAMERA, "gate-2", "rejected")
    told.hear()
    assert told.renewals() == []
    told.clock.advance(REOFFER_S)
    told.hear()
    assert told.renewals() == [CAMERA]


def test_a_model_in_whose_place_another_was_just_published_is_neither_offered_again_nor_renewed(told: Told) -> None:
    """Between two readings of the index another model may become live: to renew it would only swap it for itself."""
    told.publish("a")
    told.hear()
    told.clock.advance(REOFFER_S)
    told.publish("b")
    told.sent.clear()
    told.offers.tell(EDGE, [CAMERA])
    assert told.sent == []
    assert told.renewals() == []
    assert len(told.hear()) == 1


def test_a_model_that_expires_before_the_next_offer_is_renewed(told: Told) -> None:
    told.publish("a")
    told.clock.advance(365 * 86_400.0 - REOFFER_S - 1)
    told.hear()
    assert told.renewals() == []
    told.clock.advance(1)
    told.hear(greeting=True)
    assert told.renewals() == [CAMERA]


def test_what_is_wanted_is_repeated_until_the_camera_does_it(told: Told) -> None:
    wanted = Desired(CAMERA, True, None, None)
    DesiredStates(told.cloud.index).change(CAMERA, paused=True)
    assert told.hear() == [wanted]
    assert told.hear() == []
    told.clock.advance(REOFFER_S)
    assert told.hear() == [wanted]
    told.clock.advance(REOFFER_S)
    assert told.hear(paused=True) == []


def test_what_is_wanted_anew_is_told_at_once(told: Told) -> None:
    desired = DesiredStates(told.cloud.index)
    desired.change(CAMERA, paused=True)
    told.hear()
    desired.change(CAMERA, frames_per_window=9)
    assert told.hear() == [Desired(CAMERA, True, 9, None)]


def test_an_edge_that_returns_with_its_own_budget_is_told_its_pace_again(told: Told) -> None:
    DesiredStates(told.cloud.index).take_pace(CAMERA, Paced(0.5), 1.0)
    wanted = Desired(CAMERA, False, None, None, 0.5)
    assert told.hear(pace=1.0) == [wanted]
    assert told.hear(pace=0.5) == []
    assert told.hear(pace=1.0, greeting=True) == [wanted]


def test_an_edge_of_which_nothing_is_wanted_gives_up_a_pace_and_nothing_else(told: Told) -> None:
    [message] = told.hear(pace=0.125, paused=True)
    assert message == Desired(CAMERA, True, None, None, None)
    assert told.hear(pace=1.0, paused=True) == []


def test_an_edge_that_knows_no_pace_is_told_none_and_not_asked_again(told: Told) -> None:
    DesiredStates(told.cloud.index).take_pace(CAMERA, Paced(0.5), 1.0)
    for _ in range(3):
        told.clock.advance(REOFFER_S)
        assert told.hear(greeting=True) == []
    DesiredStates(told.cloud.index).change(CAMERA, paused=True)
    assert told.hear() == [Desired(CAMERA, True, None, None)]


def test_a_frame_that_the_edge_took_is_wanted_no_longer(told: Told) -> None:
    desired = DesiredStates(told.cloud.index)
    desired.change(CAMERA, frame=4)
    assert told.hear() == [Desired(CAMERA, False, None, 4)]
    assert told.hear(frame=4) == []
    assert desired.all()[CAMERA].frame is None


def test_a_model_that_is_being_fetched_is_not_offered_meanwhile(told: Told) -> None:
    told.publish("a")
    told.hear()
    told.clock.advance(REOFFER_S - 1)
    chunk, data = told.offers.piece(ModelRequest(CAMERA, "gate-1", 10, 100))
    assert (chunk.offset, len(data)) == (10, 100)
    told.clock.advance(REOFFER_S - 1)
    assert told.hear() == []


def test_a_damaged_model_is_revoked_and_the_one_before_offered(told: Told) -> None:
    told.publish("a")
    told.publish("b")
    artefact = told.cloud.registry.live()[CAMERA].artefact
    told.cloud.files.path(artefact.sha256, "onnx").write_bytes(b"rot")
    with pytest.raises(ProtocolError, match="gate-2") as refused:
        told.offers.piece(ModelRequest(CAMERA, "gate-2", 0, 100))
    assert refused.value.reason == "model-damaged"
    assert told.hear(model_id="gate-1") == []
    assert told.cloud.registry.live_ids() == {CAMERA: "gate-1"}


def sha256(told: Told, number: int) -> str:
    """Return the hash of the model `gate-…` of that number."""
    return {model.counter: model.artefact.sha256 for model in told.cloud.registry.models(CAMERA)}[number]


def fetched(offers: Offers, *bases: str) -> tuple[ModelChunk, bytes]:
    """Return the first piece of the second model, as soon as it is there."""
    got: list[tuple[ModelChunk, bytes]] = []
    request = ModelRequest(CAMERA, "gate-2", 0, PIECE, bases)
    wait_until(lambda: (piece := offers.piece(request)) is not None and not got.append(piece))  # type: ignore[func-returns-value]
    return got[0]


def test_an_edge_that_has_one_of_its_camera_s_models_is_sent_what_changed(told: Told) -> None:
    told.publish("a")
    told.publish("b")
    base = sha256(told, 1)
    chunk, data = fetched(told.offers, "0" * 64, base)
    assert (chunk.base, chunk.total) == (base, len(data))
    made = io.BytesIO()
    old = told.cloud.files.read(base)
    apply(io.BytesIO(data), io.BytesIO(old), made)
    assert made.getvalue() == told.cloud.files.read(sha256(told, 2))
    later = told.offers.piece(ModelRequest(CAMERA, "gate-2", 20, 10, (base,)))
    assert later == (ModelChunk(CAMERA, "gate-2", 20, len(data), base), data[20:30])


def test_an_edge_that_is_waiting_for_what_changed_is_not_offered_the_model_meanwhile(told: Told) -> None:
    told.publish("a")
    told.publish("b")
    told.hear(model_id="gate-1")
    told.clock.advance(REOFFER_S - 1)
    told.offers.piece(ModelRequest(CAMERA, "gate-2", 0, PIECE, (sha256(told, 1),)))
    told.clock.advance(REOFFER_S - 1)
    assert told.hear(model_id="gate-1") == []


def test_another_camera_s_model_is_nothing_to_start_from(told: Told) -> None:
    """An edge that knows the hash of another's model learns nothing of it."""
    told.publish("b")
    told.publish("a")
    other = told.cloud.artefact(tag="other").sha256
    chunk, _ = fetched(told.offers, other)
    assert chunk.base is None
    assert chunk.total == told.cloud.registry.live()[CAMERA].artefact.size


def test_the_whole_is_sent_to_who_asks_beyond_what_changed_or_with_deltas_off(told: Told) -> None:
    told.publish("a")
    told.publish("b")
    base = sha256(told, 1)
    chunk, _ = fetched(told.offers, base)
    later = told.offers.piece(ModelRequest(CAMERA, "gate-2", chunk.total, 10, (base,)))
    assert later is not None
    assert later[0].base is None
    off = told.make(deltas=False)
    assert fetched(off, base)[0].base is None
    off.close()


# Models that run beside the one in use


@pytest.fixture
def beside(told: Told) -> Told:
    """Return the offers of a camera that runs `gate-1`, and is to run `gate-2` beside it."""
    told.publish("a")
    told.publish("b", shadow=True)
    return told


def offers(sent: list[FromCloud]) -> list[float | None]:
    return [one.shadow for one in sent if isinstance(one, ModelOffer)]


def test_a_shadow_is_offered_with_its_share_once_the_live_one_runs(beside: Told) -> None:
    assert offers(beside.hear("gate-0", shadow="")) == [None], "the live one comes first"
    assert offers(beside.hear("gate-1", shadow="")) == [0.1]
    assert offers(beside.hear("gate-1", shadow="gate-2")) == [], "it is being fetched"
    beside.clock.advance(REOFFER_S)
    assert offers(beside.hear("gate-1", shadow="gate-2")) == [0.1], "it may have been lost"
    beside.clock.advance(REOFFER_S)
    assert offers(beside.hear("gate-1", shadow="gate-2", shadowed=5)) == []


def test_the_live_one_is_signed_anew_for_a_shadow_s_counter_only_where_its_edge_has_that_shadow(beside: Told) -> None:
    """A slow edge would be told a new id before it took the last one, again and again."""
    for _ in range(3):
        assert offers(beside.hear("gate-0", shadow="")) == [None]
        beside.clock.advance(REOFFER_S)
    assert beside.renewals() == [], "it has accepted nothing newer"
    beside.hear("gate-0", shadow="gate-2")
    assert beside.renewals() == [CAMERA]
    beside.cloud.publisher.renew(CAMERA)
    beside.cloud.requests.answer(beside.cloud.requests.open()[0].id, "done", False, beside.clock.now())
    for _ in range(3):
        assert offers(beside.hear("gate-0", shadow="")) == [None]
        beside.clock.advance(REOFFER_S)
    assert beside.renewals() == []


def test_an_edge_that_knows_no_shadows_is_offered_none(beside: Told) -> None:
    assert offers(beside.hear("gate-1")) == []


def test_a_shadow_that_expires_before_its_edge_took_it_is_renewed(beside: Told) -> None:
    beside.clock.advance(365 * 86_400.0 - REOFFER_S - 1)
    beside.hear("gate-1", shadow="")
    assert beside.renewals() == []
    beside.clock.advance(1)
    assert offers(beside.hear("gate-1", shadow="gate-2", greeting=True)) == [0.1]
    assert beside.renewals() == [], "one that is there runs on, however old it is"
    assert offers(beside.hear("gate-1", shadow="", greeting=True)) == [0.1]
    assert [request.payload for request in beside.cloud.requests.open()] == [{"model_id": "gate-2"}]


def test_a_shadow_that_expires_while_its_edge_fetches_it_is_renewed_once_that_was_cut_short(beside: Told) -> None:
    beside.clock.advance(365 * 86_400.0)
    request = ModelRequest(CAMERA, "gate-2", 0, 10)
    for _ in range(3):
        beside.hear("gate-1", shadow="gate-2")
        beside.clock.advance(REOFFER_S - 1)
        assert beside.offers.piece(request) is not None
    beside.clock.advance(REOFFER_S - 1)
    beside.hear("gate-1", shadow="gate-2")
    assert beside.renewals() == []
    beside.clock.advance(1)
    beside.hear("gate-1", shadow="gate-2")
    assert beside.renewals() == [CAMERA]


def test_a_shadow_that_was_renewed_since_this_was_learnt_is_neither_offered_nor_renewed(beside: Told) -> None:
    beside.hear("gate-1", shadow="")
    beside.cloud.publisher.renew_shadow(CAMERA, "gate-2")
    beside.clock.advance(365 * 86_400.0)
    beside.sent.clear()
    beside.offers.tell(EDGE, [CAMERA])
    assert beside.sent == []
    assert beside.renewals() == []


def test_a_promoted_one_is_offered_for_use_at_once(beside: Told) -> None:
    beside.hear("gate-1", shadow="")
    with beside.cloud.index.write() as connection:
        assert promote(connection, CAMERA, "gate-2")
    assert offers(beside.hear("gate-1", shadow="gate-2", shadowed=5)) == [None]
    assert beside.renewals() == []


def test_a_withdrawn_one_is_ended_by_an_offer_of_no_frame_until_the_edge_has_none(beside: Told) -> None:
    with beside.cloud.index.write() as connection:
        assert end_shadow(connection, CAMERA, "gate-2", "rejected")
    assert offers(beside.hear("gate-1", shadow="gate-2", shadowed=5)) == [0.0]
    assert offers(beside.hear("gate-1", shadow="gate-2", shadowed=5)) == []
    beside.clock.advance(REOFFER_S)
    assert offers(beside.hear("gate-1", shadow="gate-2", shadowed=5)) == [0.0]
    assert offers(beside.hear("gate-1", shadow="")) == []


def test_the_file_of_a_shadow_is_handed_out_and_that_of_a_withdrawn_one_is_not(beside: Told) -> None:
    beside.hear("gate-1", shadow="")
    assert beside.offers.piece(ModelRequest(CAMERA, "gate-2", 0, PIECE)) is not None
    with beside.cloud.index.write() as connection:
        end_shadow(connection, CAMERA, "gate-2", "rejected")
    with pytest.raises(ProtocolError):
        beside.offers.piece(ModelRequest(CAMERA, "gate-2", 0, PIECE))
