from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.control.candidate import Candidate
from culling.cloud.control.control import Control
from culling.cloud.store.database.errors import DeposedError
from culling.cloud.store.index import Index
from culling.common.metrics import Metrics
from support.cloud import CAMERA, CloudState
from support.postgres import Postgres
from support.waiting import wait_until


class Standing:
    """Candidates of one index, each with connections of its own, as in a process."""

    def __init__(self, folder: Path, url: str) -> None:
        self.cloud = CloudState(folder, store={"url": url}, schedule={"hold": True})
        self.cloud.enroll()
        self.made: list[Control] = []
        self.metrics = Metrics(CollectorRegistry(), "cloud")
        self._opened: list[tuple[Index, Candidate]] = []

    def candidate(self) -> Candidate:
        index = Index(self.cloud.settings.store_url)
        found = Candidate(index, self._build, self.metrics)
        self._opened.append((index, found))
        return found

    def _build(self, index: Index) -> Control:
        cloud = self.cloud
        self.made.append(Control(cloud.settings, index, cloud.keys.signing, self.metrics, cloud.clock))
        return self.made[-1]

    def end_sessions(self) -> None:
        """Have the server end every session but this one, as a restart does."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        with self.cloud.index.write() as connection:
            connection.exec_driver_sql(f"{others} WHERE datname = current_database() AND pid <> pg_backend_pid()")

    def close(self) -> None:
        for index, candidate in self._opened:
            candidate.stop()
            index.close()
        self.cloud.close()


@pytest.fixture
def standing(tmp_path: Path, postgres: Postgres) -> Iterator[Standing]:
    url = postgres.take()
    found = Standing(tmp_path, url)
    yield found
    found.close()
    postgres.give_back(url)


def test_one_is_elected_and_the_other_waits_for_its_end(standing: Standing) -> None:
    first, second = standing.candidate(), standing.candidate()
    assert [first.stand(), second.stand(), first.elected, second.elected] == [True, False, True, False]
    assert (first.told, second.told) == ("rounds run", "control is standby: another one is elected")
    assert second.problem == "", "to wait is no fault"
    first.stop()
    wait_until(second.stand)
    assert [first.elected, second.elected] == [False, True]


def test_who_waits_carries_out_no_request(standing: Standing) -> None:
    first, second = standing.candidate(), standing.candidate()
    assert first.stand()
    number = standing.cloud.requests.ask("pause", CAMERA, 1.0)
    second.turn()
    assert standing.cloud.requests.answered(number) is None
    first.turn()
    assert standing.cloud.requests.answered(number) is not None


def test_who_lost_the_seat_steps_down_before_it_acts_and_stands_again(standing: Standing) -> None:
    candidate = standing.candidate()
    assert candidate.stand()
    standing.end_sessions()
    number = standing.cloud.requests.ask("pause", CAMERA, 1.0)
    candidate.turn()
    assert (candidate.elected, bool(candidate.problem)) == (False, True)
    assert standing.cloud.requests.answered(number) is None
    candidate.turn()
    assert (candidate.elected, candidate.problem, len(standing.made)) == (True, "", 2)
    assert standing.cloud.requests.answered(number) is not None


def test_what_one_that_was_deposed_within_its_turn_wants_to_change_is_refused(standing: Standing) -> None:
    zombie, heir = standing.candidate(), standing.candidate()
    assert zombie.stand()
    standing.end_sessions()
    assert heir.stand()
    number = standing.cloud.requests.ask("pause", CAMERA, 1.0)
    with pytest.raises(DeposedError):
        standing.made[0].take_turn()
    assert standing.cloud.requests.answered(number) is None
    turn = standing.cloud.rounds.start(CAMERA, "manual", 1.0)
    with pytest.raises(DeposedError):
        standing.made[0]._publisher.publish_round(turn.id, CAMERA, standing.cloud.artefact())
    with pytest.raises(DeposedError):
        standing.made[0]._rounds.start(CAMERA, "manual", 2.0)
    assert standing.cloud.registry.live_ids() == {}
    heir.turn()
    assert standing.cloud.requests.answered(number) is not None
