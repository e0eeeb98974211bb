"""What acts on a camera, over the page or its API: a request is entered in the index, as the command line does.

Requests are taken only as JSON with a token in a header or a signed one, and from no other site's page. `publish` of a
model that is known may be asked for; a new one comes by the command line, as classes do.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, get_args

import fastapi
import msgspec
import structlog
from fastapi import FastAPI, HTTPException, Request

from culling.cloud.control import actions
from culling.cloud.page.access.door import Door, person_of, seen_by
from culling.cloud.store.index import Index
from culling.cloud.store.people.deeds import Deeds
from culling.cloud.store.requests import Kind, Requests
from culling.common.clock import Clock
from culling.common.errors import InputError
from culling.common.page.access import token_of

log = structlog.get_logger(__name__)

MOST_BODY = 4096
"""A request is one small JSON object."""

KINDS = frozenset(get_args(Kind)) - {"renew", "classes"}  # sets are told on the command line
Number = Annotated[int, fastapi.Path(ge=1, le=2**63 - 1)]
Limit = Annotated[int, fastapi.Query(ge=1, le=1000)]


class RequestBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/actions`."""

    kind: Kind
    camera: str
    frames_per_window: int | None = None
    model_id: str | None = None


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["kind", "camera"],
                    "additionalProperties": False,
                    "properties": {
                        "kind": {"type": "string", "enum": sorted(KINDS)},
                        "camera": {"type": "string"},
                        "frames_per_window": {"type": ["integer", "null"], "description": "of `budget`"},
                        "model_id": {"type": ["string", "null"], "description": "of `publish` and `pin`"},
                    },
                }
            }
        },
    }
}
"""It is read by msgspec, of which FastAPI knows nothing."""


def add_routes(app: FastAPI, index: Index, clock: Clock, door: Door, acts: bool) -> None:
    """Add what acts, and what tells who may; `acts` says whether anybody may."""

    @app.get("/api/actions", summary="Whether the page takes requests; with a token, whether it is right")
    def allows_requests(request: Request) -> dict[str, bool]:
        if token_of(request.headers) is not None:
            door.act(request)
        return {"actions": acts}

    @app.get("/api/me", summary="Who asks, and what that person may")
    def me(request: Request) -> dict[str, Any]:
        asks = person_of(request)
        sees, on = seen_by(request), asks.edges("operator")
        told = {"who": asks.who, "role": asks.role, "edges": None if sees is None else sorted(sees)}
        return told | {"acts": acts and on != frozenset(), "on": None if on is None else sorted(on)}

    @app.get("/api/deeds", summary="Who did what, newest first; for admins")
    def deeds(request: Request, since: float = 0.0, limit: Limit = 200) -> list[dict[str, Any]]:
        if not person_of(request).may("admin"):
            raise HTTPException(403, "who did what is for admins alone")
        return Deeds(index).all(since, limit)

    @app.post("/api/actions", status_code=202, summary="Ask for something to be done with a camera", openapi_extra=BODY)
    async def enter(request: Request) -> dict[str, int]:
        actor = door.act(request)
        body = await _body(request)
        payload = {name: value for name in ("frames_per_window", "model_id") if (value := getattr(body, name))}

        def ask() -> int:
            door.on(request, body.camera, body.kind)
            return actions.ask(index, body.kind, body.camera, clock.now(), payload, actor)

        try:
            number = await asyncio.to_thread(ask)
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        told = {"request": number, "kind": body.kind, "camera": body.camera, **payload}
        log.info("request_entered", **told, who=actor.who, client=actor.address)
        return {"request": number}

    @app.get("/api/requests/{request_id}", summary="Whether a request is carried out, and how that ended")
    def answered(request_id: Number) -> dict[str, Any]:
        answer = Requests(index).answered(request_id)
        return {"done": answer is not None, "ok": bool(answer and answer[0]), "answer": answer[1] if answer else ""}


async def _body(request: Request) -> RequestBody:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "expected application/json")
    if int(request.headers.get("content-length") or MOST_BODY + 1) > MOST_BODY:
        raise HTTPException(413, f"at most {MOST_BODY} bytes")
    try:
        body = msgspec.json.decode(await request.body(), type=RequestBody)
    except msgspec.DecodeError as error:
        raise HTTPException(422, str(error)) from None
    if body.kind not in KINDS:
        raise HTTPException(422, f"expected one of {', '.join(sorted(KINDS))}")
    if body.kind == "publish" and body.model_id is None:
        raise HTTPException(422, "publish: name one of the camera's models")
    return body
