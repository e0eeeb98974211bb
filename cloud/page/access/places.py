"""Of which edge what somebody asks for is: a camera, a frame, a round or a request, by its name or number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from culling.cloud.store.index import Index, cameras, frames, requests, rounds

MOST_NUMBER = 2**63 - 1


def cameras_of(index: Index, edges: frozenset[str]) -> frozenset[str]:
    """Return the cameras of edges."""
    query = sa.select(cameras.c.name).where(cameras.c.edge.in_(sorted(edges)))
    with index.read() as connection:
        return frozenset(connection.execute(query).scalars())


def edge_of(index: Index, camera: str) -> str | None:
    """Return the edge of a camera, None where there is no such camera."""
    return _first(index, sa.select(cameras.c.edge).where(cameras.c.name == camera))


def edge_of_frame(index: Index, frame: str) -> str | None:
    """Return the edge of the camera that a frame is of."""
    return _first(index, _joined(frames).where(frames.c.id == frame))


def edge_of_round(index: Index, number: str) -> str | None:
    """Return the edge of the camera that a round is of."""
    return _numbered(index, rounds, number)


def edge_of_request(index: Index, number: str) -> str | None:
    """Return the edge of the camera that a request is of."""
    return _numbered(index, requests, number)


EDGE_OF: dict[str, Callable[[Index, str], str | None]] = {
    "name": edge_of,
    "frame": edge_of_frame,
    "turn": edge_of_round,
    "request_id": edge_of_request,
}
"""By the name of a parameter in the path of a route, whose it is. Every parameter of every route is here: a test says
so.
"""


def _numbered(index: Index, table: sa.Table, number: str) -> str | None:
    if not (number.isascii() and number.isdigit() and int(number) <= MOST_NUMBER):
        return None
    return _first(index, _joined(table).where(table.c.id == int(number)))


def _joined(table: sa.Table) -> sa.Select[Any]:
    return sa.select(cameras.c.edge).join(table, table.c.camera == cameras.c.name)


def _first(index: Index, query: sa.Select[Any]) -> str | None:
    with index.read() as connection:
        found: str | None = connection.execute(query).scalar()
    return found
