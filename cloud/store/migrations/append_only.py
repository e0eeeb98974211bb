"""Triggers that keep who did what as it was written: no row changes, and none goes within `KEPT_DAYS`.

What the software forgets is older (`store.audit_days`), by the clock of the database. They stand against
mistakes: whoever owns the tables may drop them.
"""

from __future__ import annotations

import sqlalchemy as sa

from culling.common.clock import DAY_S

KEPT_DAYS = 30
"""As many as `store.audit_days` has at least."""

_AGE = f"{KEPT_DAYS * DAY_S:.0f}"
_YOUNG_SQLITE = f"OLD.at > CAST(strftime('%s', 'now') AS REAL) - {_AGE}"
_YOUNG_POSTGRESQL = f"OLD.at > extract(epoch from now()) - {_AGE}"
_SAID = "who did what is only ever added to"


def install(connection: sa.Connection) -> None:
    """Make the triggers."""
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)


_SQLITE = (
    f"CREATE TRIGGER IF NOT EXISTS deeds_changed BEFORE UPDATE ON deeds BEGIN SELECT RAISE(ABORT, '{_SAID}'); END",
    f"CREATE TRIGGER IF NOT EXISTS deeds_deleted BEFORE DELETE ON deeds WHEN {_YOUNG_SQLITE} "
    f"BEGIN SELECT RAISE(ABORT, '{_SAID}'); END",
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION deeds_kept() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$BEGIN RAISE EXCEPTION '{_SAID}'; END$$",
    "DROP TRIGGER IF EXISTS deeds_changed ON deeds",
    "CREATE TRIGGER deeds_changed BEFORE UPDATE ON deeds FOR EACH ROW EXECUTE FUNCTION deeds_kept()",
    "DROP TRIGGER IF EXISTS deeds_deleted ON deeds",
    "CREATE TRIGGER deeds_deleted BEFORE DELETE ON deeds FOR EACH ROW "
    f"WHEN ({_YOUNG_POSTGRESQL}) EXECUTE FUNCTION deeds_kept()",
    "DROP TRIGGER IF EXISTS deeds_emptied ON deeds",
    "CREATE TRIGGER deeds_emptied BEFORE TRUNCATE ON deeds FOR EACH STATEMENT EXECUTE FUNCTION deeds_kept()",
)
