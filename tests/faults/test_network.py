"""F14: slow, lossy, thin, broken and silent lines between edge and cloud. Nothing is lost, nothing comes twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from culling.cloud.store.fsck import fsck
from support.cloud import CloudState, ServiceProcess
from support.forms import Tell, forms
from support.proxy import Proxy
from support.uplink import Uplink
from support.waiting import wait_until

pytestmark = pytest.mark.fault
BEAT_S = 0.5


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CloudState, ServiceProcess]]:
    cloud = CloudState(tmp_path_factory.mktemp("cloud"), schedule={"hold": True})
    with ServiceProcess(cloud) as process:
        yield cloud, process
        assert process.terminate() == 0
    assert not [finding for finding in fsck(cloud.settings).findings if not finding.what.startswith("camera ")]
    cloud.close()


@contextmanager
def cut_now_and_then(proxy: Proxy, every_s: float, for_s: float) -> Iterator[None]:
    """Take the line away again and again."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(every_s - for_s):
            proxy.up = False
            over.wait(for_s)
            proxy.up = True

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        proxy.up = True


def delayed(proxy: Proxy) -> None:
    proxy.delay_s = 0.15


def lossy(proxy: Proxy) -> None:
    proxy.stall_share = 0.05


def thin(proxy: Proxy) -> None:
    proxy.rate = 64_000 // 8


def damaged(proxy: Proxy) -> None:
    proxy.corrupt = 300_000


def unsteady(proxy: Proxy) -> None:
    proxy.delay_s = 0.02


LINES: dict[str, Callable[[Proxy], None]] = {
    "300-ms": delayed,
    "5-percent-loss": lossy,
    "64-kbit": thin,
    "cuts": unsteady,
}


@pytest.mark.parametrize("line", LINES)
@forms("frames", fast=30, full=600)
def test_f14_over_a_bad_line_every_frame_arrives_once(
    line: str, frames: int, service: tuple[CloudState, ServiceProcess], tmp_path: Path, tell: Tell
) -> None:
    arrive_once(service, tmp_path, tell, line, frames, LINES[line])


@pytest.mark.soak
def test_f14_a_damaged_byte_ends_the_connection_and_costs_no_frame(
    service: tuple[CloudState, ServiceProcess], tmp_path: Path, tell: Tell
) -> None:
    """A damaged length leaves both ends waiting for bytes that never come, until ZeroMQ's beats are missed."""
    arrive_once(service, tmp_path, tell, "damaged", 600, damaged)


def arrive_once(
    service: tuple[CloudState, ServiceProcess],
    folder: Path,
    tell: Tell,
    line: str,
    frames: int,
    spoil: Callable[[Proxy], None],
) -> None:
    """Send frames over a line, and count them at both ends."""
    cloud, process = service
    with Proxy(int(process.endpoint.rsplit(":", 1)[1])) as proxy:
        spoil(proxy)
        uplink = Uplink(folder, cloud, proxy.endpoint, camera=f"{line}-{frames}", heartbeat_s=BEAT_S)
        uplink.spool_frames(frames)
        began = time.monotonic()
        uplink.start()
        every, length = (1.7, 0.4) if frames < 100 else (30.0, 10.0)
        with cut_now_and_then(proxy, every, length) if line == "cuts" else nullcontext():
            if line == "cuts":  # the line is to be cut while there is something to send
                wait_until(lambda: proxy.connections > 1, every + 20)
                uplink.spool_frames(frames)
                frames *= 2
            wait_until(lambda: uplink.counts().acked == frames, 60 + 3 * frames)
        seconds, connections = time.monotonic() - began, proxy.connections
        uplink.close()
    counts, stored = uplink.counts(), cloud.frames.counts()[uplink.camera].stored
    tell(f"F14 {line}", made=counts.made, acked=counts.acked, evicted=counts.evicted, spooled=counts.ready,
         stored=stored, lost=frames - stored, connections=connections, seconds=seconds)  # fmt: skip
    assert uplink.adds_up()
    assert (counts.made, counts.acked, stored) == (frames, frames, frames)


def test_f14_a_line_that_went_silent_is_noticed_within_three_beats_and_used_again(
    service: tuple[CloudState, ServiceProcess], tmp_path: Path
) -> None:
    cloud, process = service
    with Proxy(int(process.endpoint.rsplit(":", 1)[1])) as proxy:
        uplink = Uplink(tmp_path, cloud, proxy.endpoint, camera="half-open", heartbeat_s=BEAT_S)
        uplink.start()
        wait_until(lambda: uplink.forwarder.linked)
        proxy.half_open = True
        began = time.monotonic()
        uplink.spool_frames(10)
        wait_until(lambda: not uplink.forwarder.linked)
        noticed = time.monotonic() - began
        assert uplink.counts().ready == 10, "nothing leaves the spool on trust"
        proxy.half_open = False
        proxy.cut()  # as a router does that is back, and knows nothing of the connection
        wait_until(lambda: uplink.counts().acked == 10)
        uplink.close()
    assert noticed <= 3 * BEAT_S + BEAT_S, "three beats, and the one under way"
    assert cloud.frames.counts()["half-open"].stored == 10
