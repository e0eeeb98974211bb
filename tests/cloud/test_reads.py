"""What the service reads again and again takes an index, so that it costs the same however much is stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from culling.cloud.bill.account import round_figures, statements
from culling.cloud.labelling.allowance import Helping
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.link.offers import Offers
from culling.cloud.page import views
from culling.cloud.page.board import Board
from culling.cloud.page.day import day
from culling.cloud.review.disputes import disputes
from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.history import History
from culling.cloud.store.people.reviews import Reviews
from culling.cloud.store.retention import forget_records
from culling.common.clock import DAY_S
from culling.common.frame import Detections
from culling.common.wire.messages import SwapReport
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state
from support.reviewing import desk_of
from support.stored import add, label_all

GROWS = ("frames", "reviews", "rounds", "later", "history", "swaps", "models", "requests")
"""Tables, and names of them in queries, that grow with time."""


class Watched:
    """A cloud with a little of everything, and the plans of the statements that it runs."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.cloud = CloudState(folder, self.clock)
        self.cloud.enroll(CAMERA, "yard")
        self.cloud.publisher.publish(CAMERA, self.cloud.artefact(), "base")
        add(self.cloud, *range(1, 11))
        turn = self.cloud.rounds.start(CAMERA, "manual", self.clock.now())
        label_all(self.cloud)
        self.cloud.lifecycle.claim(CAMERA, turn.id)
        add(self.cloud, *range(11, 21))
        self.cloud.rounds.end(turn.id, "ready", {"newest_capture": 1.0})
        model = self.cloud.publisher.publish_round(turn.id, CAMERA, self.cloud.artefact())
        swap = SwapReport(CAMERA, model.model_id, None, "live", "", 1.0, self.clock.now())
        self.cloud.registry.report(swap, self.clock.now())
        self.told = {CAMERA: (camera_state(model_id=model.model_id), self.clock.now())}
        self.board = self.new_board()
        self.history = History(self.cloud.index, {})
        self.next = 101
        self.queue = LabelQueue(self.cloud.index, self.cloud.frames, self.clock, 640, "one")

    def new_board(self) -> Board:
        return Board(self.cloud.index, lambda: self.told, self.clock, self.cloud.settings)

    def minute(self) -> int:
        return int(self.clock.now() // 60)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One for all tests: what a plan depends on is the tables, not what is in them."""
    found = Watched(tmp_path_factory.mktemp("reads"))
    yield found
    found.cloud.close()


def plans(cloud: CloudState, act: Callable[[], object]) -> list[str]:
    """Return how SQLite goes about each statement that `act` runs, one line a step."""
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if re.match(r"SELECT|WITH|UPDATE|DELETE", statement.strip(), re.IGNORECASE) and not many:
            seen.append((statement, parameters))

    engine = cloud.index._database.reading
    sa.event.listen(engine, "before_cursor_execute", note)
    act()
    sa.event.remove(engine, "before_cursor_execute", note)
    assert seen, "it read something"
    told = []
    with cloud.index.read() as connection:
        for statement, parameters in seen:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters))
            told += [f"{row.detail} <- {statement}" for row in rows]
    return told


def scans(found: list[str]) -> list[str]:
    whole = [line for line in found if re.match(rf"SCAN ({'|'.join(GROWS)})\b", line)]
    return [
        line for line in whole if not re.search(r"FROM rounds ORDER BY rounds\.id DESC\s+LIMIT", line)
    ]  # the newest


def board_of_a_minute(watched: Watched) -> None:
    for _ in range(40):
        watched.clock.advance(2)
        watched.history.record({CAMERA: camera_state(seen=watched.minute())}, watched.minute())
        watched.board.refresh()


def label_a_batch(watched: Watched) -> None:
    seqs = range(watched.next, watched.next + 5)  # others of these loops remove what was there
    watched.next = seqs.stop
    add(watched.cloud, *seqs)
    batch = watched.queue.take(3)
    assert batch is not None
    watched.queue.finish(batch.token, {batch.frames[0].id: Detections.empty()})


def some_to_label(watched: Watched, judges: bool) -> None:
    watched.queue._frames(Helping(CAMERA, judges, 3), watched.clock.now(), lambda _: None)


LOOPS: dict[str, Callable[[Watched], object]] = {
    "the page's first event": lambda watched: watched.new_board().refresh(),
    "the page's events": board_of_a_minute,
    "the counts": lambda watched: watched.cloud.frames.counts(),
    "the minute": lambda watched: watched.history.record({CAMERA: camera_state()}, watched.minute()),
    "requests": lambda watched: watched.cloud.requests.open(),
    "rounds": lambda watched: [watched.cloud.rounds.unfinished(), watched.cloud.rounds.last_finished()],
    "members": lambda watched: [watched.cloud.roster.members(), watched.cloud.roster.rows()],
    "what is heard": lambda watched: watched.cloud.roster.heard({CAMERA: camera_state()}, 1.0),
    "a swap's round": lambda watched: watched.cloud.rounds.newest_capture(CAMERA, "gate-2"),
    "frames that came": lambda watched: watched.cloud.frames.known(["a", "b"]),
    "the models in use": lambda watched: watched.cloud.registry.wanted_files(),
    "every zoo": lambda watched: watched.cloud.registry.zoo(4, 1.0),
    "a camera's zoo": lambda watched: watched.cloud.registry.zoo(4, 1.0, CAMERA),
    "old frames": lambda watched: watched.cloud.lifecycle.expire(10**9, -DAY_S),
    "a quota": lambda watched: watched.cloud.lifecycle.expire(1, 30),
    "a full disk": lambda watched: watched.cloud.lifecycle.expire(10**9, 30, 10**9),
    "old records": lambda watched: forget_records(watched.cloud.index, watched.clock.now() + DAY_S),
    "what may be labelled": lambda watched: watched.queue.demands(),
    "a batch to label": lambda watched: label_a_batch(watched),
    "judges to label": lambda watched: some_to_label(watched, judges=True),
    "others to label": lambda watched: some_to_label(watched, judges=False),
    "labels that came": lambda watched: watched.cloud.lifecycle.labelled_between(0.0, 2e9),
    "frames that are passed over": lambda watched: watched.cloud.lifecycle.pass_over(),
    "a command": lambda watched: views.cameras(watched.cloud.index, watched.clock.now(), watched.cloud.settings),
    "rounds that taught": lambda watched: watched.cloud.rounds.taught(),
    "uncertain students": lambda watched: watched.cloud.registry.provisional(CAMERA),
    "the page's rounds": lambda watched: views.rounds(watched.cloud.index, None, 12),
    "a camera's rounds": lambda watched: views.rounds(watched.cloud.index, CAMERA, 20),
    "a camera's day": lambda watched: views.camera(watched.cloud.index, CAMERA, watched.clock.now()),
    "a camera's day on one axis": lambda watched: day(
        watched.cloud.index, watched.cloud.settings, CAMERA, watched.clock.now()
    ),
    "a camera's frames": lambda watched: views.gallery(
        watched.cloud.index, watched.cloud.settings, CAMERA, 1e11, 24, "audit", True
    ),
    "a camera's disputes": lambda watched: disputes(desk_of(watched.cloud), CAMERA),
    "when a person spoke": lambda watched: Reviews(watched.cloud.index).last(CAMERA),
    "a day's bills": lambda watched: statements(
        watched.cloud.index, watched.cloud.settings, watched.clock.now() - DAY_S, watched.clock.now()
    ),
    "a round's bill": lambda watched: round_figures(
        watched.cloud.index, watched.cloud.settings, CAMERA, watched.clock.now(), {}
    ),
    "a camera's models": lambda watched: views.model_list(watched.cloud.index, watched.cloud.files, CAMERA),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_that_grows_is_read_whole(watched: Watched, loop: str) -> None:
    assert scans(plans(watched.cloud, lambda: LOOPS[loop](watched))) == []


@pytest.mark.parametrize(
    ("loop", "index"),
    [
        ("the counts", "unread"),
        ("judges to label", "asking"),
        ("others to label", "asking"),
        ("frames that are passed over", "asking"),
    ],
)
def test_what_waits_is_found_without_a_look_at_all_that_is_stored(watched: Watched, loop: str, index: str) -> None:
    found = [line for line in plans(watched.cloud, lambda: LOOPS[loop](watched)) if "frames" in line.split(" <- ")[0]]
    named = [line for line in found if not re.search(r"\(id=\?\)|by_labelling|by_set|autoindex", line)]
    assert named
    assert [line for line in named if f"INDEX frames_{index} " not in line] == []


def test_offers_read_nothing_whole(watched: Watched) -> None:
    offers = Offers(watched.cloud.index, watched.cloud.files, 60.0, watched.clock, lambda *_: True)

    def turn() -> None:
        offers.learn(watched.cloud.registry.live_ids(), DesiredStates(watched.cloud.index).all())
        offers.heard(camera_state(), True)
        offers.tell("key", [CAMERA])

    assert scans(plans(watched.cloud, turn)) == []


def test_a_read_of_everything_would_be_noticed(watched: Watched) -> None:
    def count() -> None:
        with watched.cloud.index.read() as connection:
            connection.exec_driver_sql("SELECT camera, count(*) FROM frames GROUP BY camera")

    assert len(scans(plans(watched.cloud, count))) == 1
