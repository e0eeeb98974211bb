"""What the page's review reads and writes: frames in dispute, and what a person decides of them.

GET  /api/cameras/NAME/review    how many are left, and those that are disputed most
POST /api/cameras/NAME/review    decisions, from those who may act on the camera
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import FastAPI, HTTPException, Query, Request

from culling.cloud.page.access.door import Door
from culling.cloud.review.decide import Decisions, decide, ignoring, listed
from culling.cloud.review.desk import Desk
from culling.cloud.store.people.deeds import Actor, Deed, Deeds
from culling.cloud.store.people.reviews import DecidedError
from culling.cloud.store.purge.audit import record
from culling.common.errors import InputError

log = structlog.get_logger(__name__)

MOST_BODY = 1 << 20
"""Decisions on a page of frames, each with all of its boxes."""

Limit = Annotated[int, Query(ge=1, le=200)]


def add_routes(app: FastAPI, desk: Desk, door: Door) -> None:
    """Add both; `door` knows who may act."""

    @app.get("/api/cameras/{name}/review", summary="Its frames that teacher and student dispute most")
    def disputed(name: str, limit: Limit = 24) -> dict[str, Any]:
        found = listed(desk, name, limit)
        return found | {"frames": _with_pictures(found["frames"])}

    @app.post("/api/cameras/{name}/review", summary="Decide who is right in frames of it")
    async def take(request: Request, name: str) -> dict[str, Any]:
        actor = door.act(request)
        decisions = await _body(request)
        await asyncio.to_thread(door.on, request, name, "frames_reviewed")
        desk.require(name)  # an unknown camera is not found; what is wrong with decisions is told otherwise
        try:
            return await asyncio.to_thread(_take, desk, name, decisions, actor)
        except DecidedError as error:
            raise HTTPException(409, str(error)) from None
        except InputError as error:
            raise HTTPException(422, str(error)) from None


async def _body(request: Request) -> Decisions:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "expected application/json")
    if int(request.headers.get("content-length") or MOST_BODY + 1) > MOST_BODY:
        raise HTTPException(413, f"at most {MOST_BODY} bytes")
    try:
        return msgspec.json.decode(await request.body(), type=Decisions)
    except msgspec.DecodeError as error:
        raise HTTPException(422, str(error)) from None


def _take(desk: Desk, camera: str, decisions: Decisions, actor: Actor) -> dict[str, Any]:
    client = actor.address

    def note(frames: int) -> None:
        record(desk.settings.data_dir, "frames_reviewed", desk.clock.now(), camera=camera, frames=frames, client=client)

    who = f"page, {client}" if actor.by == "page.token" else actor.told
    done = decide(desk, camera, decisions.decisions, who, note)
    if done.new:
        deed = Deed(actor, "frames_reviewed", camera, what={"frames": done.new})
        Deeds(desk.index).add(deed, desk.clock.now())
    log.info("frames_reviewed", camera=camera, decided=done.new, same=done.same, client=client)
    found = listed(desk, camera, 1)
    names = [one.id for one in decisions.decisions]
    at = {name: one.at for name, one in desk.reviews.of(camera, names).items()}
    told = {"decided": done.new, "at": at, "same": done.same, "left": found["left"], "effect": found["effect"]}
    changed = ignoring(desk, camera, decisions.decisions)
    return told | ({"frames": _with_pictures(changed)} if changed else {})


def _with_pictures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"picture": f"api/frames/{row['id']}.jpg"} for row in rows]
