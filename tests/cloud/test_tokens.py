"""`culling cloud token` and `audit`, as an operator runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from culling.cloud.cli import app
from culling.cloud.store.people.deeds import operator
from culling.cloud.store.people.tokens import PREFIX, Tokens
from culling.common.clock import DAY_S
from culling.common.errors import CullingError, InputError
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
