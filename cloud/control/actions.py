"""The requests that an operator makes of a camera, by command or on the page, and how the service carries them out.

    round            start a round now                       publish, rollback, renew   make another model live
    hold, unhold     stop rounds from starting, or let them  pin, unpin                 stay with one model, or not
    pause, resume    stop forwarding frames, or go on        budget                     set the frames per window
    frame            forward one frame now                   classes                    look for another set of classes

What holds until the next request changes the camera's desired state (`desired.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from culling.cloud.control.publish import Publisher
from culling.cloud.control.waves.meanwhile import told
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.index import Index
from culling.cloud.store.people.deeds import Actor, operator
from culling.cloud.store.registry import Artefact, Registry
from culling.cloud.store.requests import Kind, Request, Requests
from culling.cloud.store.roster import Roster
from culling.cloud.store.waves.shadows import shadow_ids
from culling.common.errors import InputError

MODEL_KINDS = ("publish", "rollback", "renew")
MOST_FRAMES = 100_000
"""The most frames per window that the wire's `Desired` can carry."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request says beyond kind and camera; None is the budget of the camera's settings, the live model, or the
    set of classes of the settings.
    """

    frames_per_window: int | None = None
    model_id: str | None = None
    classes: str | None = None


def ask(
    index: Index,
    kind: Kind,
    camera: str,
    at: float,
    payload: dict[str, Any] | None = None,
    actor: Actor | None = None,
) -> int:
    """Enter a request, for the service to carry out; return its number. Who runs the process asks, if not `actor`.

    Raises InputError when there is no such camera, or a parameter is out of range.
    """
    Roster(index).require(camera)
    if kind not in MODEL_KINDS:
        _parameters(kind, payload or {})
    return Requests(index).ask(kind, camera, at, payload, actor or operator())


def carry_out(request: Request, index: Index, publisher: Publisher) -> str:
    """Carry out a request, or note it in the desired state; return the answer. Raises CullingError if it is refused."""
    camera, desired_states = request.camera, DesiredStates(index)
    desired = desired_states.all().get(camera, DesiredState())
    if request.kind in MODEL_KINDS:
        if desired.pinned and request.kind != "renew":
            raise InputError(f"camera {camera} is pinned to {desired.pinned}: unpin it first")
        answer = _change_model(request, index, publisher)
        return answer if request.kind == "renew" else answer + told(index, camera)
    parameters = _parameters(request.kind, request.payload)
    match request.kind:
        case "hold" | "unhold":
            desired_states.change(camera, held=request.kind == "hold")
            return f"rounds of {camera} {'no longer start' if request.kind == 'hold' else 'start again'} by themselves"
        case "pause" | "resume":
            desired_states.change(camera, paused=request.kind == "pause")
            return f"{camera} will {'stop forwarding frames' if request.kind == 'pause' else 'forward frames again'}"
        case "budget":
            desired_states.change(camera, frames_per_window=parameters.frames_per_window)
            return f"{camera} will follow {_budget(parameters.frames_per_window)}"
        case "frame":
            desired_states.change(camera, frame=request.id)
            return f"{camera} will forward its next frame"
        case "classes":
            if desired.pinned:
                raise InputError(f"camera {camera} is pinned to {desired.pinned}: unpin it first")
            desired_states.change(camera, classes=parameters.classes)
            named = "the set of the settings" if parameters.classes is None else f"the set {parameters.classes}"
            return f"{camera} will look for the classes of {named}: see `culling cloud classes {camera}`"
        case "pin":
            return _pin(camera, parameters.model_id, index, publisher) + told(index, camera, pinned=True)
        case "unpin":
            desired_states.change(camera, pinned=None)
            return f"{camera} accepts new models again"
    raise InputError(f"unknown kind of request: {request.kind}")


def to_artefact(entered: Any) -> Artefact:
    """Return the artefact that a request or a round entered in the index. Raises InputError when it cannot be read."""
    try:
        return msgspec.convert(entered, Artefact)
    except msgspec.ValidationError as error:
        raise InputError(f"the model to publish cannot be read: {error}") from None


def _change_model(request: Request, index: Index, publisher: Publisher) -> str:
    camera = request.camera
    if request.kind == "rollback" and "withdrawn" in request.payload:
        earlier = _known(index, camera, request.payload.get("back_to"), publisher)
        model = publisher.take_back(camera, request.payload["withdrawn"], earlier)
    elif request.kind == "rollback":
        model = publisher.rollback(camera)
    elif request.kind == "renew":
        stale = request.payload.get("model_id")  # a version before says nothing of it
        if stale is not None and stale == shadow_ids(index).get(camera):
            model = publisher.renew_shadow(camera, stale)
        elif stale not in (None, Registry(index).live_ids().get(camera)):
            return f"{stale} is not live any more: it is not signed anew"
        else:
            model = publisher.renew(camera)
    elif "model_id" in request.payload:
        model = publisher.publish(camera, _usable(index, camera, request.payload["model_id"], publisher), "manual")
    else:
        model = publisher.launch(camera, to_artefact(request.payload), "manual")
    if model.state == "shadow":
        return f"{model.model_id} runs beside the live model first: see `culling cloud waves`"
    return f"{model.model_id} is offered; live once the edge reports it"


def _pin(camera: str, model_id: str | None, index: Index, publisher: Publisher) -> str:
    live = Registry(index).live_ids().get(camera)
    if live is None:
        raise InputError(f"camera {camera} has no live model to pin")
    if model_id not in (None, live):
        live = publisher.publish(camera, _usable(index, camera, model_id, publisher), "manual").model_id
    DesiredStates(index).change(camera, pinned=live)
    return f"{camera} is pinned to {live}"


def _usable(index: Index, camera: str, model_id: Any, publisher: Publisher) -> Artefact:
    """Return a camera's model that an operator wants again. Raises InputError for one that was gone back from."""
    if (gone := Registry(index).gone(camera).get(model_id)) is not None:
        raise InputError(f"{model_id} {gone.told()}, and is never used again; a round makes a new one")
    return _known(index, camera, model_id, publisher)


def _known(index: Index, camera: str, model_id: Any, publisher: Publisher) -> Artefact:
    for model in Registry(index).models(camera):
        if model.model_id == model_id:
            if not publisher.keeps(model.artefact):
                raise InputError(f"the file of {model_id} is no longer stored: see `culling cloud models {camera}`")
            return model.artefact
    raise InputError(f"camera {camera} never had a model {model_id}: see `culling cloud models {camera}`")


def _budget(frames_per_window: int | None) -> str:
    return "the budget in its settings" if frames_per_window is None else f"a budget of {frames_per_window} per window"


def _parameters(kind: str, payload: dict[str, Any]) -> Parameters:
    try:
        parameters = msgspec.convert(payload, Parameters)
    except msgspec.ValidationError as error:
        raise InputError(f"{kind}: {error}") from None
    if parameters.frames_per_window is not None and not 1 <= parameters.frames_per_window <= MOST_FRAMES:
        raise InputError(f"budget: {parameters.frames_per_window} frames per window; expected 1 to {MOST_FRAMES}")
    return parameters
