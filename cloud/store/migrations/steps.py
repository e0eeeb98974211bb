"""What came to the index since version 0.2.0, step by step.

To add a column, or a table:

1. write it into its table in `store/index.py`, with `nullable=True` (the default) or a `server_default`;
2. add `Step("frames.probability")`, or for a whole table `Step("audits")`, at the end of `STEPS`;
3. where rows that are there already need values, give the step a function: `Step("frames.probability", _fill)`.

Columns, tables and indexes that the database lacks are added before the functions run, in the same transaction; a test
tells of a column or table without a step. A step is known by its name, so that two branches may each add theirs, in any
order. It is never renamed or removed: a database that took a step unknown to the software is refused as too new for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from culling.cloud.store.migrations import append_only, totals
from culling.cloud.weights.classes import CLASSES
from culling.common.clock import DAY_S

LAST_DAYS = 2
"""Before the newest frame: those of a day may be labelled, and an upgrade takes its time."""


@dataclass(frozen=True)
class Step:
    """One change: a column as `table.column`, a table by its name, anything else in a few words.

    `change` does what adding tables, columns and indexes does not; `before` makes way for them, in an index that is not
    new. A new index takes every step as well, so that `change` has to work on empty tables.
    """

    name: str
    change: Callable[[sa.Connection], None] | None = None
    before: Callable[[sa.Connection], None] | None = None


def _drop_counting_index(connection: sa.Connection) -> None:
    """Drop the index that frames were counted by: totals took its place."""
    connection.exec_driver_sql("DROP INDEX IF EXISTS frames_by_camera")


def _ask_again(connection: sa.Connection) -> None:
    """Have frames without labels wait for the teacher, whichever round considered them: rounds label no more.

    Only those of the last days that came: what is older is not labelled any more.
    """
    connection.exec_driver_sql("DROP INDEX IF EXISTS frames_by_label")
    last = f"(SELECT MAX(received) FROM frames) - {LAST_DAYS * DAY_S:.0f}"
    asking = f"labels IS NULL AND state = 'stored' AND received > {last}"
    connection.exec_driver_sql(f"UPDATE frames SET round = NULL WHERE {asking}")
    totals.install(connection)


def _list_the_first_classes(connection: sa.Connection) -> None:
    """Enter the list that every label and detection of an earlier version was made for."""
    names = {"names": msgspec.json.encode(CLASSES).decode()}
    connection.execute(sa.text("INSERT INTO class_lists (names) VALUES (:names)"), names)  # as number 1
    connection.exec_driver_sql("UPDATE frames SET class_list = 1 WHERE labels IS NOT NULL")
    connection.exec_driver_sql("UPDATE reviews SET class_list = 1 WHERE teacher IS NOT NULL")


def _end_second_rounds(connection: sa.Connection) -> None:
    """End all unfinished rounds of a camera but the oldest, which an earlier version would go on with."""
    unfinished = "state IN ('running', 'ready')"
    oldest = f"SELECT MIN(id) FROM rounds WHERE {unfinished} GROUP BY camera"
    told = "state = 'failed', finished = started, reason = 'an earlier round of its camera was not finished'"
    connection.exec_driver_sql(f"UPDATE rounds SET {told} WHERE {unfinished} AND id NOT IN ({oldest})")


STEPS = (
    Step("totals", totals.install),
    Step("indexes for bounded reads", _drop_counting_index),
    Step("frames.guard", totals.install),
    Step("frames.probability"),
    Step("frames.labelled"),
    Step("scores"),
    Step("rounds.working"),
    Step("history.taken"),
    Step("history.missed"),
    Step("purges"),
    Step("cameras.accuracy"),
    Step("reviews"),
    Step("models.cost"),
    Step("history.model"),
    Step("rates"),
    Step("leases"),
    Step("totals.asking_judges"),
    Step("totals.asking_others", _ask_again),
    Step("frames.ignored"),
    Step("cameras.class_list"),
    Step("cameras.class_list_since"),
    Step("frames.class_list"),
    Step("reviews.class_list"),
    Step("wishes.classes"),
    Step("shelf"),
    Step("class_lists", _list_the_first_classes),
    Step("changes"),
    Step("ignores"),
    Step("rounds.lease"),
    Step("rounds.worker"),
    Step("one unfinished round of a camera", before=_end_second_rounds),
    Step("cameras.counted"),
    Step("notes"),
    Step("looks"),
    Step("tokens"),
    Step("deeds", append_only.install),
    Step("wishes.paced"),
    Step("escalations"),
    Step("teacher_features"),
    Step("frames.shadow"),
    Step("rollouts"),
    Step("trials"),
    Step("frames.echo"),
    Step("wishes.profiled"),
    Step("frames.answered"),
    Step("escalations.answered"),
    Step("answers"),
)
