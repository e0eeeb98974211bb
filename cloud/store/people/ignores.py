"""Places of a frame that a person had ignored: who it was and when, and how it is taken back.

They are added to those that the frame's camera ignored when it was taken (`frames.ignored`), so that whatever reads a
frame follows them: labels there are neither objects nor background, detections there neither right nor wrong, in
training, gate, measured accuracy, review and export. The camera's edge knows nothing of it: its settings say what later
frames ignore.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, frames, ignores
from culling.common.errors import InputError, ProtocolError
from culling.common.wire.ignored import MOST_BYTES, MOST_PLACES, Ignored, Places, decode, encode


@dataclass(frozen=True)
class IgnoredHere:
    """A place that a person had ignored in a frame; `at` is in seconds since the epoch."""

    frame: str
    place: Ignored
    who: str
    at: float


def ignored_in(index: Index, names: Collection[str]) -> list[IgnoredHere]:
    """Return what people had ignored in those frames, the oldest first."""
    query = ignores.select().where(ignores.c.frame.in_(names)).order_by(ignores.c.id)
    with index.read() as connection:
        rows = connection.execute(query).all()
    return [IgnoredHere(row.frame, place, row.who, row.at) for row in rows for place in decode(row.place)]


def last_ignored(index: Index, camera: str) -> float | None:
    """Return when a person last had something ignored in a camera's frames, of what was not taken back."""
    with index.read() as connection:
        return connection.execute(sa.select(sa.func.max(ignores.c.at)).where(ignores.c.camera == camera)).scalar()


def enter(
    connection: sa.Connection, camera: str, places: Mapping[str, Ignored | None], who: str, at: float
) -> list[str]:
    """Have a place of each frame ignored, or the last such place counted again for None; return where that was new.

    Raises InputError for a frame that is not a stored one of that camera, one in which a person had nothing ignored,
    and for more places than a frame may have.
    """
    new = []
    for name, place in sorted(places.items()):
        if place is None:
            _take_back(connection, camera, name)
        elif not _ignore(connection, camera, name, place, who, at):
            continue
        new.append(name)
    return new


def forget(connection: sa.Connection, names: Collection[str]) -> None:
    """Delete who had what ignored in frames."""
    connection.execute(ignores.delete().where(ignores.c.frame.in_(names)))


def _ignore(connection: sa.Connection, camera: str, name: str, place: Ignored, who: str, at: float) -> bool:
    known = _known(connection, camera, name)
    if place in known:
        return False
    every = (*known, place)
    blob = encode(every)
    if len(every) > MOST_PLACES or blob is None or len(blob) > MOST_BYTES:
        raise InputError(f"frame {name}: its {len(known)} ignored places are as many as a frame may have")
    connection.execute(frames.update().where(frames.c.id == name).values(ignored=blob))
    connection.execute(ignores.insert().values(frame=name, camera=camera, place=encode((place,)), who=who, at=at))
    return True


def _take_back(connection: sa.Connection, camera: str, name: str) -> None:
    known = list(_known(connection, camera, name))
    query = ignores.select().where(ignores.c.frame == name).order_by(ignores.c.id.desc()).limit(1)
    last = connection.execute(query).first()
    if last is None:
        raise InputError(f"frame {name}: nobody had a place of it ignored: what its camera ignored stays so")
    for place in decode(last.place):
        if place in known:  # else its row was made anew from the file, which knows of no person
            known.remove(place)
    connection.execute(frames.update().where(frames.c.id == name).values(ignored=encode(tuple(known))))
    connection.execute(ignores.delete().where(ignores.c.id == last.id))


def _known(connection: sa.Connection, camera: str, name: str) -> Places:
    here = (frames.c.id == name) & (frames.c.camera == camera) & (frames.c.state == "stored")
    row = connection.execute(sa.select(frames.c.ignored).where(here)).first()
    if row is None:
        raise InputError(f"camera {camera} has no stored frame {name}: nothing is decided")
    try:
        return decode(row.ignored)
    except (msgspec.MsgspecError, ProtocolError):
        raise InputError(f"frame {name}: its ignored places cannot be read: see `culling cloud fsck`") from None
