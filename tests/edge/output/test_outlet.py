from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from culling.common.detections import Batch
from culling.common.metrics import Metrics
from culling.edge.output.outlet import DROPS_S, Outlet
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, DownError, RefusedError, Sink
from support.clock import FakeClock
from support.outputs import Working, seen, settings
from support.waiting import wait_until


class Place(Sink):
    """A place that a test opens and shuts; remembers each batch that it was handed."""

    where = "a place"  # type: ignore[assignment]

    def __init__(self, told: OutputSettings, around: Around) -> None:
        super().__init__(told, around)
        self.got: list[Batch] = []
        self.tried: list[str] = []
        self.shut: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.tended = self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def send(self, batch: Batch) -> None:
        self.tried.append(batch.id)
        self.hold.wait(20)
        if self.shut is not None:
            raise self.shut
        self.got.append(batch)

    def tend(self) -> None:
        self.tended += 1

    def close(self) -> None:
        self.closed += 1

    def sequences(self) -> list[int]:
        return [record.seq for batch in self.got for record in batch.records]


Start = Callable[..., tuple[Place, Working]]


@pytest.fixture
def start() -> Iterator[Start]:
    begun: list[tuple[Place, Working]] = []

    def begin(**told: Any) -> tuple[Place, Working]:
        place = Place(settings("stdout", **told), Around(FakeClock()))
        begun.append((place, Working(place)))
        return begun[-1]

    yield begin
    for place, working in begun:
        place.hold.set()
        working.close()


def test_records_arrive_in_order_and_are_counted(start: Start) -> None:
    place, working = start()
    working.offer(250)
    working.wait_for(250)
    assert place.sequences() == list(range(250))
    assert working.dropped == {}
    wait_until(lambda: working.metrics.total("output_up") == 1)


def test_it_opens_without_waiting_for_a_record_and_is_looked_after(start: Start) -> None:
    place, _ = start()
    wait_until(lambda: place.opened == 1)
    wait_until(lambda: place.tended >= 1)


def test_one_that_is_down_is_tried_again_with_the_same_batch_and_goes_on_behind_it(start: Start) -> None:
    place, working = start()
    place.shut = DownError("nobody there")
    working.offer(10)
    wait_until(lambda: len(place.tried) >= 4)
    assert working.metrics.total("output_up") == 0
    assert working.outlet.problem == "nobody there"
    place.shut = None
    working.wait_for(10)
    assert place.sequences() == list(range(10))
    assert place.got[0].id == place.tried[0]
    assert place.opened >= 4, "it is opened anew after each failure"
    assert working.metrics.total("output_retries") >= 3
    assert working.metrics.total("output_up") == 1


def test_the_oldest_records_go_when_the_queue_is_full_and_offering_never_waits(start: Start) -> None:
    place, working = start(queue=50)
    place.hold.clear()
    working.offer(1)
    wait_until(lambda: len(place.tried) == 1)
    began = time.monotonic()
    working.offer(500, first=1)
    assert time.monotonic() - began < 2
    assert working.dropped == {"queue-full": 450}
    place.hold.set()
    working.wait_for(51)
    assert place.sequences() == [0, *range(451, 501)]


def test_its_trouble_is_told_in_words_and_drops_only_for_a_while() -> None:
    clock = FakeClock()
    place = Place(settings("stdout", queue=2), Around(clock))
    outlet = Outlet(place.settings, place, Metrics(CollectorRegistry(), "edge"), clock)
    assert outlet.trouble == "down: not opened yet"
    outlet.problem = ""
    assert outlet.trouble == ""
    for number in range(3):
        outlet.offer(seen(number))
    assert outlet.trouble == "1 record dropped since the start"
    outlet.problem = "a place: connection refused"
    assert outlet.trouble == "down: a place: connection refused; 1 record dropped since the start"
    outlet.problem = ""
    clock.advance(DROPS_S)
    assert outlet.trouble == ""


def test_what_is_refused_is_dropped_and_the_next_batch_has_its_chance(start: Start) -> None:
    place, working = start()
    place.shut = RefusedError("not such")
    working.offer(3)
    wait_until(lambda: sum(working.dropped.values()) == 3)
    assert working.dropped == {"refused": 3}
    place.shut = None
    working.offer(1, first=3)
    working.wait_for(1)
    assert place.sequences() == [3]


def test_what_breaks_one_batch_costs_that_batch(start: Start) -> None:
    place, working = start()
    place.shut = ZeroDivisionError("a defect")
    working.offer(2)
    wait_until(lambda: sum(working.dropped.values()) == 2)
    place.shut = None
    working.offer(1, first=2)
    working.wait_for(1)
    assert working.dropped == {"broken": 2}
    assert working.metrics.total("items_failed", loop="output") >= 1


def test_one_that_breaks_on_everything_is_left_alone_between_tries(start: Start) -> None:
    place, working = start(queue=10)
    place.shut = ZeroDivisionError("a defect")
    for number in range(2000):
        working.offer(1, first=number)
    wait_until(lambda: sum(working.dropped.values()) >= 1990)
    assert working.metrics.total("items_failed", loop="output") < 200, "each is a line in the log"


def test_a_stop_sends_what_is_queued(start: Start) -> None:
    place, working = start()
    working.offer(1000)
    working.close()
    assert place.sequences() == list(range(1000))
    assert place.closed >= 1


def test_a_stop_does_not_wait_for_one_that_is_down(start: Start) -> None:
    place, working = start()
    place.shut = DownError("nobody there", after_s=600)
    working.offer(10)
    wait_until(lambda: len(place.tried) == 1)
    working.offer(5, first=10)
    began = time.monotonic()
    working.close()
    assert time.monotonic() - began < 3
    assert sum(working.dropped.values()) == 15


def test_a_stop_does_not_wait_for_one_that_stalls(start: Start) -> None:
    place, working = start()
    place.hold.clear()
    working.offer(1)
    wait_until(lambda: len(place.tried) == 1)
    working.offer(5, first=1)
    working.close(within_s=0.1)
    assert working.dropped == {"stopped": 5}


def test_one_that_stalls_counts_as_down() -> None:
    clock = FakeClock()
    place = Place(settings("stdout"), Around(clock))
    working = Working(place, clock)
    working.offer(1)
    working.wait_for(1)
    place.hold.clear()
    working.offer(1)
    wait_until(lambda: len(place.tried) == 2)
    assert working.metrics.total("output_up") == 1
    clock.advance(11)
    assert working.metrics.total("output_up") == 0
    place.hold.set()
    working.wait_for(2)
    assert working.metrics.total("output_up") == 1
    working.close()


def test_a_batch_waits_for_others_when_its_kind_says_so(start: Start) -> None:
    place, working = start()
    place.gather_s = 0.3
    working.offer(1)
    working.offer(1, first=1)
    working.wait_for(2)
    assert len(place.got) == 1


def test_an_output_that_ended_is_exported_no_longer(start: Start) -> None:
    _, working = start()
    working.close()
    assert working.metrics.by("output", "output_up") == {}
    working.outlet.offer(seen())
