"""A camera gets another class list: labels that say too little for it are put aside, and some frames asked again.

"No box" of a class that nobody asked for is no truth, so that labels go on counting only where their list has every
class of the new one. The others lie on a shelf, and come back with a list that they say enough for. Asked again are the
newest frames that judge, and those to learn from of the last day, as the budget of a day allows; the rest of the
history is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from culling.cloud.store.classes.lists import FIRST, Names, all_lists, covering, current, number
from culling.cloud.store.frames import JUDGES
from culling.cloud.store.index import Index, cameras, frames, reviews, scores, shelf
from culling.cloud.store.lifecycle import FRESH_S, PASSED

log = structlog.get_logger(__name__)

ASKED_AGAIN = 256
"""Frames that judge or measure which are asked again, the newest: four times what a round's gate looks at."""

_REVIEW = ("decision", "who", "at")


@dataclass(frozen=True)
class Relisted:
    """What a change of a camera's list did to its labelled frames: `kept`, `shelved` and `restored` from the shelf."""

    before: Names
    kept: int
    shelved: int
    restored: int


def relist(index: Index, camera: str, names: Sequence[str], now: float) -> Relisted | None:
    """Bring a class list into force for a camera, all of it or nothing; None where it is in force already."""
    with index.write() as connection:
        before = current(connection, camera)
        if before == tuple(names):
            return None
        mine = number(connection, names)
        enough = covering(all_lists(connection), names)
        stored = (frames.c.camera == camera) & (frames.c.state == "stored")
        labelled = stored & frames.c.labels.is_not(None)
        shelved = _shelve(connection, camera, labelled & sa.func.coalesce(frames.c.class_list, FIRST).not_in(enough))
        restored = _restore(connection, camera, stored & frames.c.labels.is_(None), enough)
        kept = (
            connection.execute(sa.select(sa.func.count()).select_from(frames).where(labelled)).scalar_one() - restored
        )
        _ask_again(connection, stored & frames.c.labels.is_(None), now)
        here = sa.select(frames.c.id).where(frames.c.camera == camera)
        connection.execute(scores.delete().where(scores.c.frame.in_(here)))
        changed = {"class_list": mine, "class_list_since": now, "accuracy": None}
        connection.execute(cameras.update().where(cameras.c.name == camera).values(**changed))
    done = Relisted(before, kept, shelved, restored)
    log.info("classes_changed", camera=camera, classes=list(names), kept=kept, shelved=shelved, restored=restored)
    return done


def _shelve(connection: sa.Connection, camera: str, which: sa.ColumnElement[bool]) -> int:
    """Put the labels of frames aside, with what people said of them; return of how many frames."""
    review = sa.outerjoin(frames, reviews, frames.c.id == reviews.c.frame)
    columns = [frames.c.id, sa.func.coalesce(frames.c.class_list, FIRST), frames.c.camera, frames.c.labels]
    columns += [*(reviews.c[name] for name in _REVIEW), reviews.c.teacher, reviews.c.class_list]
    names = ["frame", "class_list", "camera", "labels", *_REVIEW, "teacher", "teacher_list"]
    gone = sa.select(frames.c.id).where(which)
    same = (frames.c.id == shelf.c.frame) & (sa.func.coalesce(frames.c.class_list, FIRST) == shelf.c.class_list)
    connection.execute(shelf.delete().where(shelf.c.camera == camera, sa.exists().where(same, which)))
    connection.execute(shelf.insert().from_select(names, sa.select(*columns).select_from(review).where(which)))
    connection.execute(reviews.delete().where(reviews.c.frame.in_(gone)))
    done = connection.execute(frames.update().where(which).values(labels=None, class_list=None, round=PASSED))
    return int(done.rowcount)


def _restore(connection: sa.Connection, camera: str, bare: sa.ColumnElement[bool], enough: Sequence[int]) -> int:
    """Give frames without labels those of the shelf that say enough; return how many got some."""
    query = shelf.select().join(frames, frames.c.id == shelf.c.frame).where(shelf.c.camera == camera, bare)
    found = {row.frame: row for row in connection.execute(query.where(shelf.c.class_list.in_(enough)))}
    if not found:
        return 0
    mine = frames.c.id == sa.bindparam("name")
    given: dict[str, Any] = {"labels": sa.bindparam("told"), "class_list": sa.bindparam("made_for")}
    connection.execute(
        frames.update().where(mine).values(**given, round=PASSED),
        [{"name": row.frame, "told": row.labels, "made_for": row.class_list} for row in found.values()],
    )
    said = [_review(row) for row in found.values() if row.decision is not None]
    if said:
        connection.execute(reviews.delete().where(reviews.c.frame.in_([one["frame"] for one in said])))
        connection.execute(reviews.insert(), said)
    connection.execute(
        shelf.delete().where(shelf.c.frame == sa.bindparam("name"), shelf.c.class_list == sa.bindparam("made_for")),
        [{"name": row.frame, "made_for": row.class_list} for row in found.values()],
    )
    return len(found)


def _review(row: Any) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in _REVIEW}
    return {"frame": row.frame, "camera": row.camera, "teacher": row.teacher, "class_list": row.teacher_list, **told}


def _ask_again(connection: sa.Connection, bare: sa.ColumnElement[bool], now: float) -> None:
    judging = JUDGES | ((frames.c.reason == "audit") & ~frames.c.held_out)
    newest = sa.select(frames.c.id).where(bare, judging).order_by(frames.c.captured.desc()).limit(ASKED_AGAIN)
    fresh = bare & ~judging & ~frames.c.held_out & (frames.c.received > now - FRESH_S)
    for which in (frames.c.id.in_(newest), fresh):
        connection.execute(frames.update().where(which).values(round=None))
