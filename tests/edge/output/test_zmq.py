from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from culling.common.detections import Record, follow
from culling.common.errors import SettingsError
from culling.common.wire.transport import new_keypair
from culling.edge.output.sink import DownError
from support.outputs import Working, seen, settings, sink
from support.site import free_port
from support.waiting import wait_until

ANY = "tcp://127.0.0.1:0"


class Reader(threading.Thread):
    """Reads by `follow` until so many records have come, or nothing comes."""

    def __init__(self, endpoint: str, wanted: int, **told: Any) -> None:
        super().__init__(daemon=True)
        self.got: list[Record] = []
        self._told = (endpoint, wanted, told)
        self.start()

    def run(self) -> None:
        endpoint, wanted, told = self._told
        for record in follow(endpoint, timeout_s=told.pop("timeout_s", 10), **told):
            self.got.append(record)
            if len(self.got) >= wanted:
                return


@pytest.fixture
def publishing() -> Iterator[Any]:
    begun: list[Working] = []

    def publish(**told: Any) -> tuple[Any, Working]:
        opened = sink(settings("zmq", **{"bind": ANY, **told}))
        working = Working(opened)
        begun.append(working)
        wait_until(lambda: working.outlet.up)
        return opened, working

    yield publish
    for working in begun:
        working.close()


def keep_offering(working: Working, reader: Reader, camera: str = "gate") -> None:
    """Publish until a reader has joined, since what was published before that is not for it."""
    number = iter(range(1_000_000))
    wait_until(lambda: working.outlet.offer(seen(next(number), camera=camera)) or bool(reader.got))


def test_a_reader_gets_records_of_the_cameras_that_it_wants(publishing: Any) -> None:
    opened, working = publishing()
    reader, other = (
        Reader(opened.endpoint, 5, cameras=("gate",)),
        Reader(opened.endpoint, 1, cameras=("ga",), timeout_s=1),
    )
    keep_offering(working, reader)
    working.offer(20, first=5000)
    reader.join(10)
    assert [record.camera for record in reader.got] == ["gate"] * 5
    other.join(10)
    assert other.got == [], "a camera's name that begins alike is another's"


def test_with_curve_only_the_readers_that_are_named_get_in(publishing: Any) -> None:
    (public, secret), (known, known_secret), (_, strange_secret) = (new_keypair() for _ in range(3))
    opened, working = publishing(readers=[known], secret=secret)
    assert opened.public == public
    reader = Reader(opened.endpoint, 1, server_key=public, secret_key=known_secret)
    stranger = Reader(opened.endpoint, 1, server_key=public, secret_key=strange_secret, timeout_s=1)
    plain = Reader(opened.endpoint, 1, timeout_s=1)
    keep_offering(working, reader)
    working.offer(200)
    for thread in (stranger, plain):
        thread.join(10)
    assert reader.got
    assert stranger.got == plain.got == []


@pytest.fixture
def mute() -> Iterator[Any]:
    """A subscriber that never reads, and holds next to nothing."""
    context: Any = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.rcvhwm = 1
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.subscribe("")
    yield socket
    socket.close(0)
    context.term()


def test_a_reader_that_stalls_loses_records_which_are_counted_and_the_others_lose_none(
    publishing: Any, mute: Any
) -> None:
    opened, working = publishing(queue=200_000)
    mute.connect(opened.endpoint)
    reader = Reader(opened.endpoint, 10**9, timeout_s=20)
    keep_offering(working, reader)
    for number in range(100_000, 120_000, 500):  # as fast as a reader that does not stall can read
        working.offer(500, first=number)
        wait_until(lambda last=number + 499: reader.got[-1].seq == last)
    assert working.dropped.keys() == {"slow-reader"}
    assert [record.seq for record in reader.got if record.seq >= 100_000] == list(range(100_000, 120_000))


def test_an_address_that_is_taken_is_down_and_taken_later(publishing: Any) -> None:
    port = free_port()
    first = sink(settings("zmq", bind=f"tcp://127.0.0.1:{port}"))
    first.open()
    second = sink(settings("zmq", bind=f"tcp://127.0.0.1:{port}"))
    with pytest.raises(DownError, match=f"cannot listen on tcp://127.0.0.1:{port}: Address already in use"):
        second.open()
    second.close()
    first.close()
    assert str(port) in second.check()


def test_a_secret_that_is_no_key_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingsError, match="output zmq: secret: a CURVE key must be") as raised:
        sink(settings("zmq", readers=[new_keypair()[0]], secret="hunter2"))
    assert "hunter2" not in str(raised.value)
