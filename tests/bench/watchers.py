"""What watching costs: `python tests/bench/watchers.py [CAMERAS]` prints, each with its unit,

event to pixel   from a beat's leaving its edge to the frame of the browser that shows it, p50 and p95
scrolling        frames a second that the browser draws while all cameras are scrolled through, and its longest pause
ingest           frames made durable a second with 0 and with 100 watchers, one edge with a window of 32
weight           of the page: bytes sent, and packed; until its first paint, until all cameras are there; elements; heap
"""

from __future__ import annotations

import gzip
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from culling.common.wire.messages import Ack, Welcome, pack, unpack
from support.browser import CHROMIUM, Browser
from support.cloud import CloudState, Edge, ServiceProcess, camera_state, hard_frame, hello
from support.http import fetch
from support.showcase import PER_EDGE, Showcase

BEAT_S = 10.0
"""Half as often as by default. Edges speak one after another, as those do that were started at any time."""
BEATEN_S = 30.0
LAST_S = 5.0
"""To let what was sent last come onto the page."""
FRAMES = 400
WINDOW = 32
RECORD = """
window.painted = [];
source.addEventListener("fleet", event => {
  const rows = JSON.parse(event.data).cameras;
  requestAnimationFrame(() => setTimeout(() => {
    for (const row of rows) painted.push([row.camera, row.seen, Date.now() / 1000]);
  }));
});
"""
SCROLL = """
const [spend, done] = arguments, times = [];
let down = 1;
function step(at) {
  times.push(at);
  if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1) down = -1;
  if (scrollY <= 0) down = 1;
  scrollBy(0, 40 * down);
  if (at - times[0] < spend) requestAnimationFrame(step);
  else done(times);
}
requestAnimationFrame(step);
"""
"""A quick hand on the wheel: 40 pixels a frame, which is a screen and a half a second."""
SCROLLED_MS = 10_000


def scrolling(fleet: Showcase, url: str) -> tuple[float, float]:
    """Return the frames a second that were drawn while the page was scrolled, and the longest pause, ms."""
    browser = Browser(url, width=1280, height=900)
    try:
        browser.wait(lambda: browser.run("return state.cameras.size") > len(fleet.names))
        with beating(fleet):
            times = browser.driver.execute_async_script(SCROLL, SCROLLED_MS)
        pauses = [later - one for one, later in pairwise(times)]
        return 1000 * len(pauses) / (times[-1] - times[0]), max(pauses)
    finally:
        browser.close()


PAINTED = "return performance.getEntriesByType('paint').find(one => one.name === 'first-contentful-paint')?.startTime"
WEIGHT = "return [document.querySelectorAll('*').length, performance.memory.usedJSHeapSize, performance.now()]"


def weight(fleet: Showcase, url: str) -> str:
    """Return what the page weighs, and what a browser has to carry that shows all cameras."""
    page = fetch(f"{url}/").body
    browser = Browser(url, width=1280, height=900)
    try:
        browser.wait(lambda: browser.run("return state.cameras.size") > len(fleet.names))
        elements, heap, there = browser.run(WEIGHT)
        first = browser.wait(lambda: browser.run(PAINTED))
        sizes = f"{len(page) / 1e3:.0f} kB, packed {len(gzip.compress(page)) / 1e3:.0f} kB"
        times = f"first paint after {first:.0f} ms, all cameras after {there:.0f} ms"
        return f"{sizes}; {times}; {elements} elements, a heap of {heap / 1e6:.0f} MB"
    finally:
        browser.close()


@contextmanager
def beating(fleet: Showcase) -> Iterator[dict[tuple[str, int], float]]:
    """Let edge after edge speak, on a thread; yield when each camera's number of frames was sent."""
    sent: dict[tuple[str, int], float] = {}
    edges, over = len(fleet.secrets), threading.Event()

    def beat() -> None:
        for number in count():
            if over.wait(BEAT_S / edges):
                return
            at, only = time.time(), number % edges
            fleet.beat(only=only)
            sent.update({(name, fleet.seen(name)): at for name in fleet.names[only * PER_EDGE : (only + 1) * PER_EDGE]})

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def event_to_pixel(fleet: Showcase, url: str) -> list[float]:
    browser = Browser(url, width=2560, height=1440)
    try:
        browser.wait(lambda: browser.run("return state.cameras.size") > len(fleet.names))
        browser.run(RECORD)
        with beating(fleet) as sent:
            time.sleep(BEATEN_S)
        time.sleep(LAST_S)
        painted = {(name, seen): at for name, seen, at in reversed(browser.run("return painted"))}
        return [painted[key] - at for key, at in sent.items() if key in painted]
    finally:
        browser.close()


class Watchers:
    """Streams that are read as fast as they come, on a thread of their own."""

    def __init__(self, url: str, count: int) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.create_connection((host, int(port))) for _ in range(count)]
        for one in self._sockets:
            one.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self._selector.register(one, selectors.EVENT_READ)
        self._over = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.2):
                one: Any = key.fileobj
                if not one.recv(65536):
                    self._selector.unregister(one)

    def close(self) -> None:
        self._over.set()
        for one in self._sockets:
            one.close()


def ingest(edge: Edge, first: int) -> float:
    """Return how many frames a second were acked."""
    waiting = [hard_frame(seq, "bench") for seq in range(first, first + FRAMES)]
    flying, acked, started = 0, 0, time.monotonic()
    while acked < FRAMES:
        while waiting and flying < WINDOW:
            frame, jpeg = waiting.pop()
            edge.send_parts(pack(frame, jpeg))
            flying += 1
        if (parts := edge.socket.poll(1.0)) is not None and isinstance(unpack(parts, "cloud")[0], Ack):
            flying, acked = flying - 1, acked + 1
    return FRAMES / (time.monotonic() - started)


def main() -> None:
    cameras = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        cloud = CloudState(Path(folder), schedule={"hold": True}, page={"port": 0})
        secret = cloud.enroll("bench", edge="edge-of-bench")
        fleet = Showcase(cloud, [f"camera-{number:03d}" for number in range(cameras)])
        fleet.add_past(time.time())
        with ServiceProcess(cloud) as service:
            url = (cloud.data_dir / "page").read_text().strip()
            fleet.open(service.endpoint)
            edge = Edge(service.endpoint, cloud.keys.curve_public, secret)
            edge.ask(hello(camera_state("bench")), Welcome)
            alone = ingest(edge, 1)
            watchers = Watchers(url, 100)
            fleet.beat()
            watched = ingest(edge, 1 + FRAMES)
            watchers.close()
            print(f"ingest: {alone:.0f} frames/s with no watcher, {watched:.0f} with 100, of {cameras} cameras")
            if CHROMIUM:
                print(f"weight: {weight(fleet, url)}, of {cameras} cameras")
                delays = event_to_pixel(fleet, url)
                print(f"event to pixel: {describe(delays)} ({len(delays)} beats of {cameras} cameras)")
                drawn, pause = scrolling(fleet, url)
                print(f"scrolling: {drawn:.0f} frames/s, the longest pause {pause:.0f} ms, of {cameras} cameras")
            edge.close()
            fleet.close()
        cloud.close()


def describe(delays: list[float]) -> str:
    return f"p50 {statistics.median(delays):.2f} s, p95 {statistics.quantiles(delays, n=20)[-1]:.2f} s"


if __name__ == "__main__":
    main()
