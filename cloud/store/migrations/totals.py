"""How many frames each camera has, kept by triggers in the transaction that changes the frames.

A trigger cannot be forgotten: not by new code, by a repair by hand, nor by an earlier version that still works on the
index. What one frame adds to its camera is said once, in `SHARES`, as SQL that SQLite and PostgreSQL both understand;
`docs/adr/0009` has the reasons. When the oldest frame that waits came is no total: an index leads straight to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from culling.common.errors import StorageError

_JUDGES = "{row}.held_out AND NOT COALESCE({row}.guard, FALSE)"
_ASKS = "{row}.state = 'stored' AND {row}.labels IS NULL AND {row}.round IS NULL"

SHARES = {
    "stored": "{row}.state = 'stored'",
    "waiting": "{row}.state = 'stored' AND {row}.labels IS NOT NULL AND {row}.round IS NULL AND NOT {row}.held_out",
    "held_out": "{row}.state = 'stored' AND {row}.labels IS NOT NULL AND " + _JUDGES,
    "asking_judges": f"{_ASKS} AND ({_JUDGES} OR ({{row}}.reason = 'audit' AND NOT {{row}}.held_out))",
    "asking_others": _ASKS + " AND {row}.reason <> 'audit' AND NOT {row}.held_out",
}
"""By total, whether a row of frames counts; beside these, `bytes` is the sum of the column over stored frames."""

NAMES = ("stored", "bytes", *(name for name in SHARES if name != "stored"))
"""The totals, in the order of their columns."""

_WATCHED = "camera, state, bytes, round, held_out, guard, labels, reason"
_EVENTS = {"insert": "INSERT", "update": f"UPDATE OF {_WATCHED}", "delete": "DELETE"}

Totals = Mapping[str, tuple[int, ...]]
"""By camera, its totals in the order of `NAMES`."""


def install(connection: sa.Connection) -> None:
    """Make the triggers, and fill the totals from the frames that are there.

    A later step that changes what is counted calls it again. Raises StorageError for a database that it has no triggers
    for.
    """
    write = {"sqlite": _write_sqlite, "postgresql": _write_postgresql}.get(connection.dialect.name)
    if write is None:
        raise StorageError(f"store.url: {connection.dialect.name} is not supported: use SQLite or PostgreSQL")
    for event in _EVENTS:
        for statement in write(event):
            connection.exec_driver_sql(statement)
    recount(connection)


def recount(connection: sa.Connection) -> None:
    """Write the totals anew, from a count of every frame."""
    connection.exec_driver_sql("DELETE FROM totals")
    connection.exec_driver_sql(f"INSERT INTO totals (camera, {', '.join(NAMES)}) {_COUNT}")


def counted(connection: sa.Connection) -> Totals:
    """Return the totals as a count of every frame gives them; it reads the whole table."""
    return _by_camera(connection, _COUNT)


def kept(connection: sa.Connection) -> Totals:
    """Return the totals as they are kept; a camera of which no frame is left has none."""
    return _by_camera(connection, f"SELECT camera, {', '.join(NAMES)} FROM totals")


def _by_camera(connection: sa.Connection, query: str) -> Totals:
    found = {camera: tuple(map(int, counts)) for camera, *counts in connection.exec_driver_sql(query)}
    return {camera: counts for camera, counts in found.items() if any(counts)}


def _share(name: str, row: str) -> str:
    if name == "bytes":
        return f"CASE WHEN {SHARES['stored'].format(row=row)} THEN {row}.bytes ELSE 0 END"
    return f"CASE WHEN {SHARES[name].format(row=row)} THEN 1 ELSE 0 END"


_SUMS = ", ".join(f"SUM({_share(name, 'frames')})" for name in NAMES)
_COUNT = f"SELECT frames.camera, {_SUMS} FROM frames GROUP BY frames.camera"


def _add(row: str, sign: str) -> str:
    shares = ", ".join(f"{sign}({_share(name, row)})" for name in NAMES)
    sums = ", ".join(f"{name} = totals.{name} + excluded.{name}" for name in NAMES)
    columns = f"camera, {', '.join(NAMES)}"
    return f"INSERT INTO totals ({columns}) VALUES ({row}.camera, {shares}) ON CONFLICT (camera) DO UPDATE SET {sums};"


def _body(event: str) -> str:
    gone = "" if event == "insert" else _add("OLD", "-")
    return gone + ("" if event == "delete" else _add("NEW", "+"))


def _write_sqlite(event: str) -> Iterator[str]:
    yield f"DROP TRIGGER IF EXISTS totals_{event}"
    yield f"CREATE TRIGGER totals_{event} AFTER {_EVENTS[event]} ON frames BEGIN {_body(event)} END"


def _write_postgresql(event: str) -> Iterator[str]:
    """Yield a trigger that adds up a whole statement first: a row of totals that changed is written anew each time."""
    body = f"BEGIN {_add_changed(event)} RETURN NULL; END"
    yield f"CREATE OR REPLACE FUNCTION totals_{event}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$"
    yield f"DROP TRIGGER IF EXISTS totals_{event} ON frames"
    seen = " ".join(f"{which} TABLE AS {which.lower()}_frames" for which, _ in _SEEN[event])
    call = f"REFERENCING {seen} FOR EACH STATEMENT EXECUTE FUNCTION totals_{event}()"
    yield f"CREATE TRIGGER totals_{event} AFTER {event.upper()} ON frames {call}"


_SEEN = {"insert": [("NEW", "+")], "update": [("OLD", "-"), ("NEW", "+")], "delete": [("OLD", "-")]}
"""What a trigger of PostgreSQL sees of a statement, and whether it adds or takes."""


def _add_changed(event: str) -> str:
    columns = ", ".join(NAMES)
    shares = " UNION ALL ".join(
        f"SELECT {row}.camera, {', '.join(f'{sign}({_share(name, row)}) AS {name}' for name in NAMES)} FROM {row}"
        for row, sign in ((f"{which.lower()}_frames", sign) for which, sign in _SEEN[event])
    )
    summed = ", ".join(f"SUM({name})" for name in NAMES)
    changed = " OR ".join(f"SUM({name}) <> 0" for name in NAMES)
    sums = f"SELECT camera, {summed} FROM ({shares}) AS changed GROUP BY camera HAVING {changed}"
    added = ", ".join(f"{name} = totals.{name} + excluded.{name}" for name in NAMES)
    return f"INSERT INTO totals (camera, {columns}) {sums} ON CONFLICT (camera) DO UPDATE SET {added};"
