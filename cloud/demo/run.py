"""What a demo plays, and the two processes that it plays it through.

The cloud service and an edge agent are started from the command line and settings files that a deployment uses, and
are stopped once enough rounds have ended in a hot swap, or when time is up.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

import av
import tomli_w
from av.format import Flags
from rich.console import Console
from rich.live import Live

from culling.cloud.settings import sqlite_url
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import Roster
from culling.cloud.store.rounds import Round, Rounds
from culling.common.clock import Clock, SystemClock
from culling.common.errors import CameraError, CullingError
from culling.common.logs import redact
from culling.common.video import FED, Track, address
from culling.common.wire.messages import CameraState

EDGE = "demo-edge"
STOP_S = 40.0
"""Seconds for each side to end after SIGTERM: the agent drains for 10, the service gives a running round 7."""


@dataclass(frozen=True)
class Demo:
    """What to play and for how long; keys, settings, logs, index and models go to `folder`."""

    video: Path
    camera: str
    rounds: int
    minutes: float
    speed: Literal["real", "max"]
    folder: Path

    @property
    def cloud_toml(self) -> Path:
        return self.folder / "cloud.toml"

    @property
    def edge_toml(self) -> Path:
        return self.folder / "kit" / "edge.toml"

    @property
    def trace(self) -> Path:
        return self.folder / "trace.jsonl"

    @property
    def data_dir(self) -> Path:
        return self.folder / "cloud"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.txt"


def record(url: str, out: Path, seconds: float, clock: Clock = SystemClock()) -> Path:  # noqa: B008 - it has no state
    """Copy `seconds` of a stream's video, as it comes, into `out`: no more of its own time, and no more of the clock's.

    Raises `CameraError`.
    """
    try:
        options = {"rtsp_flags": "prefer_tcp"} if url.startswith("rtsp") else {}
        with av.open(address(url), options=options, timeout=(10, 10)) as source, av.open(str(out), "w") as sink:
            track = Track(source).stream
            copy, copied = sink.add_stream_from_template(track), 0
            for packet in _timed(source, track, seconds, clock):
                packet.stream = copy
                sink.mux(packet)
                copied += 1
    except (CameraError, av.FFmpegError) as error:
        raise CameraError(redact(f"{url}: cannot be recorded: {error}")) from None
    if not copied:
        raise CameraError(redact(f"{url}: cannot be recorded: no video came within {seconds:g} s"))
    return out


def _timed(source: Any, track: Any, seconds: float, clock: Clock) -> Iterator[Any]:
    """Yield the packets of a track that say when they are due, until `seconds` have passed on either clock."""
    timeless, began, due = bool(source.format.flags & Flags.no_timestamps.value), clock.monotonic(), -1
    for packet in source.demux():
        arrived = clock.monotonic() - began
        if arrived >= seconds:
            return
        if packet.stream.index != track.index or not packet.size:
            continue
        if timeless:  # FFmpeg would guess 25 frames a second, or say nothing
            due = max(due + 1, round(1000 * arrived))
            packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), due, due
        if packet.pts is not None and packet.dts is not None:
            played = float((packet.pts - (0 if timeless else track.start_time or 0)) * packet.time_base)
            yield packet
            if played >= seconds:
                return


def prepare(run: Demo, console: Console) -> None:
    """Enroll the edge and write both settings files, as an operator would, but for loopback and few frames."""
    port = _free_port()
    cloud = {
        "service": {"data_dir": str(run.data_dir), "endpoint": f"tcp://127.0.0.1:{port}", "reserve_bytes": 64 << 20},
        "teacher": {"short_side": 384},
        "schedule": {"min_new": 16, "least": 16, "max_age_s": 600.0},
        "round": {"kept": 12, "factor": 2, "epochs": 5.0, "held_out": 8, "checkpoint_s": 20.0},
        # With so few held-out frames a tie is luck: the student that saw more of the camera wins it.
        "gate": {"margin": -0.02, "least": 2},
        "publish": {"reoffer_s": 5.0},
        "metrics": {"port": 0},
        "page": {"port": 0},
    }
    run.cloud_toml.write_bytes(tomli_w.dumps(cloud).encode())
    console.print("Enrolling the edge and exporting its first student …")
    enroll = ["cloud", "enroll", EDGE, "--camera", run.camera, "--out", str(run.edge_toml.parent)]
    _culling(*enroll, "--config", str(run.cloud_toml))
    edge = tomllib.loads(run.edge_toml.read_text("utf-8"))
    edge["agent"] |= {"state_dir": str(run.folder / "edge"), "allow_cpu": True, "threads": 1, "trace": str(run.trace)}
    edge["cloud"]["heartbeat_s"] = 1.0
    edge["camera"] = [
        {"name": run.camera, "url": str(run.video), "pace": run.speed, "loop": True, "last": FED, "max_fps": 1.5}
    ]
    edge["selector"] = {"frames_per_window": 12, "window_s": 30.0, "spacing_s": 0.8, "bootstrap": 4, "audit_share": 0.2}
    edge["metrics"] = {"port": _free_port()}
    run.edge_toml.write_bytes(tomli_w.dumps(edge).encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _culling(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "culling.common.cli", *arguments], capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
        raise CullingError(f"culling {arguments[0]} {arguments[1]} failed: {why.removeprefix('culling: ')}")


def play(run: Demo, console: Console) -> bool:
    """Run both processes until enough rounds have ended in a hot swap or time is up; return whether they have."""
    with _process(run, "cloud", "serve", run.cloud_toml) as cloud, _process(run, "edge", "run", run.edge_toml) as edge:
        deadline = time.monotonic() + 60 * run.minutes
        index = Index(sqlite_url(run.data_dir / "index.sqlite"))
        try:
            with _shown(console) as show:
                console.print(f"Watch it in a browser: {_page(run, cloud, deadline)}")
                while not (ended := finished(index, run)) and time.monotonic() < deadline:
                    for name, process in (("cloud serve", cloud), ("edge run", edge)):
                        if process.poll() is not None:
                            raise CullingError(f"culling {name} ended early: {last_line(run, name.split()[0])}")
                    show(status(index, run))
                    time.sleep(0.5)
            if not ended:
                console.print(f"{run.minutes:g} minutes are over; measuring what there is.")
            run.metrics.write_bytes(_scrape(run))
            _stop(edge, "edge")
            _stop(cloud, "cloud")
        finally:
            index.close()
    return ended


def _page(run: Demo, cloud: subprocess.Popen[bytes], deadline: float) -> str:
    """Wait until the service's page is served, and return its address."""
    while not (page := run.data_dir / "page").exists() and cloud.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return page.read_text("utf-8").strip() if page.exists() else "not served"


@contextmanager
def _process(run: Demo, side: str, command: str, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, "-m", "culling.common.cli", side, command, "--config", str(config)]
    with (run.folder / f"{side}.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_environment(side))
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _environment(side: str) -> dict[str, str]:
    """Return the environment for one side: `CULLING_*` variables set the cloud here, and the edge would refuse them."""
    return {name: value for name, value in os.environ.items() if side == "cloud" or not name.startswith("CULLING_")}


def _scrape(run: Demo) -> bytes:
    port = tomllib.loads(run.edge_toml.read_text("utf-8"))["metrics"]["port"]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return bytes(answer.read())


def _stop(process: subprocess.Popen[bytes], side: str) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        raise CullingError(f"culling {side} did not end within {STOP_S:.0f} s of SIGTERM") from None
    if code:
        raise CullingError(f"culling {side} ended with exit code {code}")


def last_line(run: Demo, side: str) -> str:
    """Return the last line that a process logged, which says why it ended."""
    lines = (run.folder / f"{side}.log").read_text(errors="replace").strip().splitlines()
    return redact(lines[-1]) if lines else "its log is empty"


def finished(index: Index, run: Demo) -> bool:
    """Return whether enough rounds' models have gone live at the edge."""
    made = {f"{run.camera}/{row.model_id}" for row in Rounds(index).all(run.camera) if row.state == "published"}
    return sum(swap.outcome == "live" and name in made for name, swap in Registry(index).swaps().items()) >= run.rounds


def status(index: Index, run: Demo) -> str:
    """Return one line that says what the loop is doing."""
    states = [row.state for row in Roster(index).rows() if row.name == run.camera and row.state]
    rounds = sorted(Rounds(index).all(run.camera), key=lambda row: row.id)
    swaps = [swap for swap in Registry(index).swaps().values() if swap.outcome == "live"]
    parts = [_camera_line(states[0]) if states else "camera connecting"]
    parts += [f"round {row.id} {_stage(row)}" for row in rounds[-1:]]
    if swaps:
        parts.append(f"{len(swaps)} hot swap{'s' if len(swaps) > 1 else ''}")
    return " · ".join(parts)


def _camera_line(state: CameraState) -> str:
    sent = sum(state.forwarded.values())
    rate = sent / max(state.seen, 1)
    counts = f"{state.seen} seen, {state.inferred} scored, {sent} forwarded ({rate:.1%}), {state.acked} acked"
    return f"camera {state.state}: {counts}"


def _stage(row: Round) -> str:
    if row.state != "running":
        return row.state
    return f"after {list(row.stages)[-1]}" if row.stages else "labelling"


@contextmanager
def _shown(console: Console) -> Iterator[Any]:
    """Yield a function that shows the status: in place on a terminal, otherwise as a line every ten seconds."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda line: live.update(line)
        return
    last = -10.0

    def plain(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            print(line, flush=True)

    yield plain
