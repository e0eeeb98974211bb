"""The class lists in the index: which one each camera has, and how a row of `frames` is read by it.

Labels are kept by the list that they were made for, detections by that of the model that made them. Whoever reads a
frame gets both by the list that is in force for its camera: `Reading` is the one place where they are translated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from culling.cloud.store.index import Index, cameras, class_lists, models
from culling.common.frame import Detections
from culling.common.wire import echo
from culling.common.wire.echo import Echo
from culling.common.wire.messages import WireDetections, from_wire

FIRST = 1
"""The list of everything that was labelled before there were others."""

Names = tuple[str, ...]


class ClassLists:
    """The lists of every camera. Safe to use from several threads and processes."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def of(self, camera: str) -> Names:
        """Return the classes that a camera's labels are read by."""
        with self._index.read() as connection:
            return current(connection, camera)

    def all(self) -> dict[str, Names]:
        """Return the same for every camera."""
        with self._index.read() as connection:
            known = all_lists(connection)
            rows = connection.execute(sa.select(cameras.c.name, cameras.c.class_list))
            return {row.name: known[row.class_list or FIRST] for row in rows}

    def since(self) -> dict[str, float]:
        """Return since when each camera has its list, for those that had another before."""
        query = sa.select(cameras.c.name, cameras.c.class_list_since).where(cameras.c.class_list_since.is_not(None))
        with self._index.read() as connection:
            return dict(connection.execute(query).all())


def all_lists(connection: sa.Connection) -> dict[int, Names]:
    """Return every list by its number."""
    rows = connection.execute(sa.select(class_lists.c.id, class_lists.c.names))
    return {row.id: tuple(msgspec.json.decode(row.names, type=list[str])) for row in rows}


def current(connection: sa.Connection, camera: str) -> Names:
    """Return the list in force for a camera: the first, for one that is not there."""
    chosen = connection.execute(sa.select(cameras.c.class_list).where(cameras.c.name == camera)).scalar()
    text = connection.execute(sa.select(class_lists.c.names).where(class_lists.c.id == (chosen or FIRST))).scalar_one()
    return tuple(msgspec.json.decode(text, type=list[str]))


def number(connection: sa.Connection, names: Sequence[str]) -> int:
    """Return the number of a list, which is entered if it is new."""
    text = msgspec.json.encode(list(names)).decode()
    query = sa.select(class_lists.c.id).where(class_lists.c.names == text)
    if (known := connection.execute(query).scalar()) is not None:
        return int(known)
    try:
        with connection.begin_nested():
            done = connection.execute(class_lists.insert().values(names=text))
    except IntegrityError:  # by another process, just now
        return int(connection.execute(query).scalar_one())
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def covering(lists: Mapping[int, Names], wanted: Collection[str]) -> list[int]:
    """Return the numbers of the lists that have every class of `wanted`."""
    return [number for number, names in lists.items() if set(wanted) <= set(names)]


class Reading:
    """How rows of `frames` are read: by the lists that are in force for their cameras."""

    def __init__(self, connection: sa.Connection, rows: Iterable[Any]) -> None:
        rows = list(rows)
        self._lists = all_lists(connection)
        mine = cameras.c.name.in_({row.camera for row in rows})
        chosen = dict(connection.execute(sa.select(cameras.c.name, cameras.c.class_list).where(mine)).all())
        self._of = {camera: self._lists[number or FIRST] for camera, number in chosen.items()}
        told = sa.select(models.c.camera, models.c.model_id, models.c.classes)
        told = told.where(models.c.model_id.in_({row.model_id for row in rows if hasattr(row, "model_id")}))
        self._models = {
            (row.camera, row.model_id): tuple(msgspec.json.decode(row.classes, type=list[str]))
            for row in connection.execute(told)
        }

    def classes(self, camera: str) -> Names:
        """Return the list in force for a camera."""
        return self._of.get(camera, self._lists[FIRST])

    def labels(self, row: Any) -> Detections | None:
        """Return a frame's labels. Raises ProtocolError or a MsgspecError for damaged ones."""
        return None if row.labels is None else self.translated(row.camera, row.labels, row.class_list)

    def found(self, row: Any) -> Detections:
        """Return what the student that forwarded a frame had found. Raises as `labels`."""
        own = self._models.get((row.camera, row.model_id), self._lists[FIRST])
        return detections(row.detections).among(own, self.classes(row.camera))

    def echo(self, row: Any) -> Echo | None:
        """Return what an audit tells of the frames before it, None for nothing. Raises as `labels`."""
        own = self._models.get((row.camera, row.model_id), self._lists[FIRST])
        return None if row.echo is None else echo.decode(row.echo).among(own, self.classes(row.camera))

    def translated(self, camera: str, blob: bytes, made_for: int | None) -> Detections:
        """Return what was kept by the list of that number, by the one in force for a camera. Raises as `labels`."""
        return detections(blob).among(self._lists[made_for or FIRST], self.classes(camera))


def detections(blob: bytes | None) -> Detections:
    """Return detections as they were kept, by their own list."""
    return Detections.empty() if blob is None else from_wire(msgspec.msgpack.decode(blob, type=WireDetections))
