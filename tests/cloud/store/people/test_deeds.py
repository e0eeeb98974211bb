"""Who did what is added to, and nothing is taken out of it; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from culling.cloud.store.people.deeds import Actor, Deed, Deeds, operator
from culling.cloud.store.people.tokens import Tokens
from culling.common.clock import DAY_S
from culling.common.errors import InputError, StorageError
from support.cloud import CAMERA, CloudState

ANNA = Actor("anna", "command")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    found = CloudState(tmp_path)
    found.enroll()
    yield found
    found.close()


def test_a_request_is_entered_with_who_made_it_and_ends_as_the_service_says(cloud: CloudState) -> None:
    number = cloud.requests.ask("budget", CAMERA, 5.0, {"frames_per_window": 7, "golden": [1]}, ANNA)
    [row] = Deeds(cloud.index).all()
    assert (row["who"], row["action"], row["outcome"], row["what"]) == (
        "anna",
        "budget",
        "asked",
        {"frames_per_window": 7},
    )
    cloud.requests.answer(number, "no", failed=True, at=6.0)
    [row] = Deeds(cloud.index).all()
    assert (row["outcome"], row["answer"]) == ("failed", "no")
    assert Deeds(cloud.index).all(since=5.5) == []


def test_a_token_holds_until_it_is_over_or_revoked(cloud: CloudState) -> None:
    tokens = Tokens(cloud.index)
    secret = tokens.create("night", "viewer", ["yard"], operator(), 10.0, 20.0)
    assert [tokens.find(secret, at) is None for at in (10.0, 19.9, 20.0)] == [False, False, True]
    with pytest.raises(InputError, match="night already"):
        tokens.create("night", "viewer", [], operator(), 15.0, 20.0)
    tokens.revoke("night", operator(), 15.0)
    assert tokens.find(secret, 15.0) is None
    assert tokens.create("night", "viewer", [], operator(), 16.0, 20.0) != secret


@pytest.mark.parametrize("change", ["UPDATE deeds SET who = 'nobody'", "DELETE FROM deeds"])
def test_the_database_refuses_to_change_what_was_done(cloud: CloudState, change: str) -> None:
    Deeds(cloud.index).add(Deed(ANNA, "pause", CAMERA), cloud.clock.now())
    with pytest.raises((StorageError, DatabaseError), match="only ever added"), cloud.index.write() as connection:
        connection.exec_driver_sql(change)
    assert [row["who"] for row in Deeds(cloud.index).all()] == ["anna"]


def test_what_is_old_enough_is_forgotten(cloud: CloudState) -> None:
    now, deeds = cloud.clock.now(), Deeds(cloud.index)
    for days in (400, 31, 1):
        deeds.add(Deed(ANNA, f"after {days}"), now - days * DAY_S)
    assert deeds.forget(now - 365 * DAY_S) == 1
    assert [row["action"] for row in deeds.all()] == ["after 1", "after 31"]
