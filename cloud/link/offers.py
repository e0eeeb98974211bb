"""What each camera is told until it complies: the model that it should run, and its desired state.

A message may be lost, and an edge confirms none of these, so both are compared with the camera's latest counters: as
long as those say otherwise, it is told again, once every `reoffer_s`. The model's bytes are handed out here as well: an
edge that is fetching a model needs no further offer of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog

from culling.cloud.link.deltas import Coming, Deltas
from culling.cloud.link.pieces import Pieces
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Model, ModelFiles, Registry
from culling.cloud.store.requests import Requests
from culling.cloud.store.waves.shadows import manifest_of
from culling.common.clock import Clock
from culling.common.errors import ModelError, ProtocolError
from culling.common.wire.messages import CameraState, Desired, FromCloud, ModelChunk, ModelOffer, ModelRequest
from culling.common.wire.profile import NONE
from culling.common.wire.protocol import PIECE

log = structlog.get_logger(__name__)

Send = Callable[[str, FromCloud], bool]
"""Sends a message to the edge of that key; returns whether it is on its way."""


class Offers:
    """Used by one thread. All but `heard` and `learn` raise StorageError where the index cannot be used.

    `share` is that of the frames on which a model runs beside the live one.
    """

    def __init__(
        self,
        index: Index,
        files: ModelFiles,
        reoffer_s: float,
        clock: Clock,
        send: Send,
        deltas: bool = True,
        share: float = 0.0,
    ) -> None:
        self._index = index
        self._registry = Registry(index)
        self._desired_states = DesiredStates(index)
        self._requests = Requests(index)
        self._pieces = Pieces(files)
        self._deltas = Deltas(files) if deltas else None
        self._reoffer_s = reoffer_s
        self._share = share
        self._clock = clock
        self._send = send
        self._live: Mapping[str, str] = {}
        self._shadows: Mapping[str, str] = {}
        self._desired: Mapping[str, DesiredState] = {}
        self._states: dict[str, CameraState] = {}
        self._offered: dict[str, tuple[str, float]] = {}
        self._sent: dict[str, tuple[Desired, float]] = {}

    def learn(
        self, live: Mapping[str, str], desired: Mapping[str, DesiredState], shadows: Mapping[str, str] | None = None
    ) -> None:
        """Take what every camera should run, by its model's id, and do, and which model runs beside (`shadows`)."""
        self._live, self._desired, self._shadows = live, desired, shadows or {}

    def heard(self, state: CameraState, greeting: bool) -> None:
        """Note a camera's latest counters; `greeting` when its edge reconnects, and may have lost what it was told."""
        self._states[state.camera] = state
        if greeting:
            self._offered.pop(state.camera, None)
            self._sent.pop(state.camera, None)

    def forget(self, camera: str) -> None:
        """Forget a camera whose edge speaks to another ingest now."""
        for known in (self._states, self._offered, self._sent):
            known.pop(camera, None)

    def close(self) -> None:
        """Fetch no more models."""
        self._pieces.close()
        if self._deltas is not None:
            self._deltas.close()

    def tell(self, edge_key: str, cameras: Iterable[str]) -> None:
        """Tell an edge what those of its cameras that were heard of do not run or do yet."""
        for camera in cameras:
            if camera in self._states:
                self._offer_models(edge_key, self._states[camera])
                self._send_desired(edge_key, self._states[camera])

    def piece(self, request: ModelRequest) -> tuple[ModelChunk, bytes] | None:
        """Return the piece of a model that is asked for; None while the model is on its way from a bucket.

        It is one of what changed where the edge has a model from which there is a delta; None while that is being made.
        Raises ProtocolError where there is none; a model whose file is damaged is revoked, so that the one before it is
        offered.
        """
        model = self._registry.find(request.camera, request.model_id)
        if model is None:
            raise ProtocolError("unknown-model", f"there is no model {request.model_id} for {request.camera}")
        total = model.artefact.size
        if (delta := self._delta(model, request)) is not None:
            self._note_fetching(request)
            return None if delta == "coming" else delta
        if request.offset >= total:
            raise ProtocolError("beyond-total", f"model {request.model_id} has {total} bytes")
        try:
            data = self._pieces.get(model.artefact.sha256, request.offset, min(request.length, PIECE))
        except ModelError as error:
            log.error("model_damaged", camera=request.camera, model_id=request.model_id, error=str(error))
            self._registry.withdraw(request.camera, request.model_id, "revoked")
            raise ProtocolError("model-damaged", f"model {request.model_id} cannot be read") from None
        self._note_fetching(request)
        if data is None:
            return None
        return ModelChunk(request.camera, request.model_id, request.offset, total), data

    def _delta(self, model: Model, request: ModelRequest) -> tuple[ModelChunk, bytes] | Coming | None:
        """Return a piece of what changed since a model that the edge says it has, if that is one of the camera's."""
        if self._deltas is None or not request.bases:
            return None
        known = self._registry.hashes(request.camera)
        if not (bases := [one for one in request.bases if one in known]):
            return None
        delta = self._deltas.find(model.artefact.sha256, bases)
        if delta is None or delta == "coming":
            return delta
        if request.offset >= delta.total:  # of another one: the edge begins with the whole
            return None
        data = self._deltas.piece(delta, request.offset, min(request.length, PIECE))
        if data is None or data == "coming":
            return data
        return ModelChunk(request.camera, request.model_id, request.offset, delta.total, delta.base), data

    def _note_fetching(self, request: ModelRequest) -> None:
        """Note that an edge is at it: it needs no further offer of that model for a while."""
        beside = self._shadows.get(request.camera) == request.model_id
        what = _beside(request.model_id) if beside else request.model_id
        self._offered[request.camera] = (what, self._clock.monotonic())

    # Models

    def _offer_models(self, edge_key: str, state: CameraState) -> None:
        live = self._live.get(state.camera)
        if live not in (None, state.model_id):
            self._offer_live(edge_key, state, live)
        elif state.shadow is not None:
            self._offer_shadow(edge_key, state)

    def _offer_live(self, edge_key: str, state: CameraState, model_id: str) -> None:
        camera = state.camera
        if not self._is_due(camera, model_id):
            return
        again = self._offered.get(camera, ("", 0.0))[0] == model_id
        model = self._registry.find(camera, model_id)
        if model is not None and model.state == "live":  # else another one is since this was learnt
            if self._is_stale(model, again, state.shadow):
                self._requests.ask_once("renew", camera, self._clock.now(), {"model_id": model_id})
            self._offer(edge_key, camera, model_id, ModelOffer(camera, model.manifest))

    def _offer_shadow(self, edge_key: str, state: CameraState) -> None:
        """Offer the model that is to run beside the live one, or say that one is not to any more."""
        camera, wanted, there = state.camera, self._shadows.get(state.camera), state.shadow or None
        if there is not None and there != wanted:
            what = f"without {there}"
            if self._is_due(camera, what) and (manifest := manifest_of(self._index, camera, there)) is not None:
                self._offer(edge_key, camera, what, ModelOffer(camera, manifest, 0.0))
        elif wanted is not None and self._share and not (there == wanted and state.shadowed):
            what = _beside(wanted)
            model = self._registry.find(camera, wanted) if self._is_due(camera, what) else None
            if model is not None and model.state == "shadow":  # else it was promoted or renewed since this was learnt
                # One that runs does so however old it is; one whose download was cut short is there, and never runs.
                again = self._offered.get(camera, ("", 0.0))[0] == what
                if (there is None or again) and self._expires(model):
                    self._requests.ask_once("renew", camera, self._clock.now(), {"model_id": wanted})
                self._offer(edge_key, camera, what, ModelOffer(camera, model.manifest, self._share))

    def _is_due(self, camera: str, what: str) -> bool:
        """Return whether a camera was not told that lately."""
        last, at = self._offered.get(camera, ("", 0.0))
        return last != what or self._clock.monotonic() - at >= self._reoffer_s

    def _is_stale(self, model: Model, again: bool, beside: str | None) -> bool:
        """Return whether an edge may be unable to take the model as it was signed, and needs it under a new counter.

        It expires before it would be offered again; or an edge that accepted a newer one refuses its old counter: it
        was gone back to, or the edge runs the shadow `beside`, and lost this one.
        """
        return self._expires(model) or (again and not self._registry.is_newest(model.camera, model.model_id, beside))

    def _expires(self, model: Model) -> bool:
        """Return whether a model expires before it would be offered again."""
        return model.expires <= self._clock.now() + self._reoffer_s

    def _offer(self, edge_key: str, camera: str, what: str, offer: ModelOffer) -> None:
        if self._send(edge_key, offer):
            self._offered[camera] = (what, self._clock.monotonic())
            log.info("model_offered", camera=camera, model_id=what, shadow=offer.shadow)

    # Desired states

    def _send_desired(self, edge_key: str, state: CameraState) -> None:
        camera, desired = state.camera, self._desired.get(state.camera)
        if desired is None:  # it goes on as it is, but at no pace or profile that nobody judges any more
            desired = DesiredState(paused=state.paused, frames_per_window=state.frames_per_window or None)
        if desired.frame is not None and desired.frame == state.frame:
            self._desired_states.frame_taken(camera, desired.frame)
        if desired.done_by(state):
            return
        message, now = desired.message(state), self._clock.monotonic()
        last, at = self._sent.get(camera, (None, 0.0))
        if last == message and now - at < self._reoffer_s:
            return
        if self._send(edge_key, message):
            self._sent[camera] = (message, now)
            told = {"paused": message.paused, "frames_per_window": message.frames_per_window, "pace": message.pace}
            log.info("desired_state_sent", camera=camera, **told, profile=str(message.profile or NONE))


def _beside(model_id: str) -> str:
    """Return by what it is known that a camera was told to run a model beside the live one, not in its place."""
    return f"beside {model_id}"
