"""`culling bench overhead --view`: the agent with its live view on, against the same agent without one."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from culling.common import bench
from culling.common.bench import Comparison, Measured, Report, Stated, at_least
from culling.edge.bench.agent import agent_speed
from culling.edge.bench.material import Material
from culling.edge.bench.receivers import HERE, free_port
from culling.edge.model.provider import choose_provider
from culling.edge.view.cameras import LENGTH, Live

CAMERA = "camera-0"
"""The rig's first camera."""
RETRY_S = 0.05
"""Until the agent has started there is nobody to ask."""


def view_report(material: Material, frames: int, threads: int, rounds: int) -> Report:
    """Measure the agent's frames/s with a view that nobody looks at, with one that somebody does, and with none."""
    shown: list[float] = []
    unseen, watched, off = bench.in_turn(
        rounds,
        lambda: _speed(material, frames, threads),
        lambda: _watched(material, frames, threads, shown),
        lambda: agent_speed(material, threads, frames, 1),
    )
    unit = "frames/s"
    without = Measured("the agent with no view", unit, off)
    nobody = Comparison(
        "view", Measured("the agent with a view that nobody looks at", unit, unseen), without, at_least(0.99)
    )
    seen = tuple(speed / alone for speed, alone in zip(watched, off, strict=True))
    stated = (
        Stated(Measured("the agent that somebody looks at, against the agent with no view", "", seen)),
        Stated(Measured("pictures that were looked at, of a whole run", "pictures", tuple(shown))),
    )
    return Report("overhead", (nobody,), stated, machine=bench.machine(choose_provider(allow_cpu=True)))


def _speed(material: Material, frames: int, threads: int, port: int = 0) -> float:
    view = {"enabled": True, "port": port, "token": False}
    return agent_speed(material, threads, frames, 1, view=view)


def _watched(material: Material, frames: int, threads: int, shown: list[float]) -> float:
    port = free_port()
    with _watching(port) as pictures:
        speed = _speed(material, frames, threads, port)
    shown.append(float(len(pictures)))
    return speed


@contextmanager
def _watching(port: int) -> Iterator[list[int]]:
    """Ask for one picture after another meanwhile, as a browser does; yield how many bytes each answer has."""
    over, pictures = threading.Event(), list[int]()

    def watch() -> None:
        while not over.wait(RETRY_S):
            with suppress(OSError, http.client.HTTPException):
                _watch(port, over, pictures)

    watching = threading.Thread(target=watch, name="watcher", daemon=True)
    watching.start()
    try:
        yield pictures
    finally:
        over.set()
        watching.join()


def _watch(port: int, over: threading.Event, pictures: list[int]) -> None:
    """Look until the agent ends, or `over`."""
    connection = http.client.HTTPConnection(HERE, port, timeout=10)
    last = "0"
    try:
        while not over.is_set():
            connection.request("GET", f"/api/cameras/{CAMERA}/live?last={last}&viewer=bench")
            number, size = _answer(connection.getresponse())
            if number:
                last = str(number)
                pictures.append(size)
    finally:
        connection.close()


def _answer(response: http.client.HTTPResponse) -> tuple[int, int]:
    """Return the number of the picture that came, 0 for none, and the answer's size in bytes."""
    data = response.read()
    if response.status != 200:
        raise http.client.HTTPException(f"status {response.status}")
    (length,) = LENGTH.unpack_from(data)
    return msgspec.json.decode(data[LENGTH.size : LENGTH.size + length], type=Live).number, len(data)
