"""`culling cloud token` and `audit`, and the log that nothing is taken out of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DatabaseError
from typer.testing import CliRunner

from culling.cloud.cli import app
from culling.cloud.store.people.deeds import Actor, Deed, Deeds, operator
from culling.cloud.store.people.tokens import PREFIX, Tokens
from culling.common.clock import DAY_S
from culling.common.errors import CullingError, InputError, StorageError
from support.cloud import CAMERA, CloudState


@pytest.fixture
def cloud(tmp_path: Path) -> Any:
    found = CloudState(tmp_path, sites={"yard": {"edges": ["edge-1"]}})
    found.enroll()
    yield found
    found.close()


def run(cloud: CloudState, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(cloud.toml)], catch_exceptions=False)
    return done.stdout


def test_a_token_is_shown_once_and_kept_as_a_hash(cloud: CloudState) -> None:
    secret = run(cloud, "token", "create", "night", "--role", "operator", "--site", "yard", "--days", "2").strip()
    assert secret.startswith(PREFIX)
    found = Tokens(cloud.index).find(secret, cloud.clock.now())
    assert found is not None
    assert (found.role, found.sites, found.creator) == ("operator", ("yard",), operator().who)
    assert Tokens(cloud.index).find(secret, cloud.clock.now() + 2 * DAY_S) is None
    [listed] = json.loads(run(cloud, "token", "list", "--json"))
    assert secret not in json.dumps(listed)
    with cloud.index.read() as connection:
        assert secret not in str(connection.exec_driver_sql("SELECT * FROM tokens").all())
    assert run(cloud, "token", "revoke", "night") == "token night is revoked\n"
    assert Tokens(cloud.index).find(secret, cloud.clock.now()) is None


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["create", "a", "--site", "nowhere"], "there is no site nowhere: there are yard"),
        (["create", "a", "--role", "admin", "--site", "yard"], "an admin is one of every site"),
        (["create", "taken"], "there is a token taken already"),
        (["revoke", "unknown"], "no token unknown is in use"),
    ],
)
def test_what_makes_no_token_is_told(cloud: CloudState, words: list[str], wrong: str) -> None:
    Tokens(cloud.index).create("taken", "viewer", [], operator(), cloud.clock.now(), 4e9)
    with pytest.raises(InputError, match=wrong):
        run(cloud, "token", *words)


def test_commands_are_entered_with_who_ran_them(cloud: CloudState) -> None:
    run(cloud, "pause", CAMERA)
    run(cloud, "rounds", CAMERA, "--start")
    run(cloud, "revoke", "edge-1")
    rows = json.loads(run(cloud, "audit", "--json"))
    told = [(row["who"], row["by"], row["action"], row["camera"], row["outcome"]) for row in rows]
    who = operator().who
    assert told == [
        (who, "command", "edge_revoked", None, "done"),
        (who, "command", "round", CAMERA, "asked"),
        (who, "command", "pause", CAMERA, "asked"),
    ]
    assert json.loads(run(cloud, "audit", "--json", "--since", "2999-01-01")) == []
    assert "pause" in run(cloud, "audit")
    with pytest.raises(CullingError, match="expected a date"):
        run(cloud, "audit", "--since", "yesterday")


@pytest.mark.parametrize("change", ["UPDATE deeds SET who = 'nobody'", "DELETE FROM deeds"])
def test_the_database_refuses_to_change_what_was_done(cloud: CloudState, change: str) -> None:
    Deeds(cloud.index).add(Deed(Actor("anna", "command"), "pause", CAMERA), cloud.clock.now())
    with pytest.raises((StorageError, DatabaseError), match="only ever added"), cloud.index.write() as connection:
        connection.exec_driver_sql(change)
    assert [row["who"] for row in Deeds(cloud.index).all()] == ["anna"]


def test_what_is_old_enough_is_forgotten(cloud: CloudState) -> None:
    now, deeds = cloud.clock.now(), Deeds(cloud.index)
    for days in (400, 31, 1):
        deeds.add(Deed(Actor("anna", "command"), f"after {days}"), now - days * DAY_S)
    assert deeds.forget(now - 365 * DAY_S) == 1
    assert [row["action"] for row in deeds.all()] == ["after 1", "after 31"]
