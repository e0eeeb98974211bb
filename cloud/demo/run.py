"""What a demo plays, and the two processes that it plays it through.

The cloud service and an edge agent are started from the command line and settings files that a deployment uses, and
are stopped once enough rounds have ended, published or refused, or when the time is up that was asked for.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

import av
import tomli_w
from av.format import Flags
from rich.console import Console

from culling.cloud.demo.cascade import TOGETHER, Answering
from culling.cloud.demo.changes import Changes
from culling.cloud.demo.plan import BATCH, Plan
from culling.cloud.demo.progress import Alive, read_progress, shown
from culling.cloud.settings import RoundSettings, sqlite_url
from culling.cloud.store.index import Index
from culling.cloud.store.requests import Requests
from culling.common.clock import Clock, SystemClock
from culling.common.errors import CameraError, CullingError
from culling.common.logs import redact
from culling.common.video import FED, Track, address

EDGE = "demo-edge"
STOP_S = 40.0
"""Seconds for each side to end after SIGTERM: the agent drains for 10, the service gives a running round 7."""

LEAST = 4
"""So many frames are waited for in any case, to train on and to judge by."""

MOST_LABELS = 100_000
"""A demo plays a camera's day in minutes: only its number of rounds limits how much is labelled."""

LEAST_AGE_S = 60.0
BLOCK_S, GUARD_S = 5.0, 0.5
"""Shorter blocks are held out than in a deployment, or minutes could pass before the first is."""

CERTAINTY = 0.5
"""Minutes of video have too few frames to be certain by: the likelier of two students is taken, within the margin."""


@dataclass(frozen=True)
class Demo:
    """What to play, with what `changes` of settings, and for how many minutes at most; keys, logs, index and models go
    to `folder`.
    """

    video: Path
    camera: str
    minutes: float | None
    speed: Literal["real", "max"]
    folder: Path
    changes: Changes = field(default_factory=Changes)

    @property
    def cloud_toml(self) -> Path:
        return self.folder / "cloud.toml"

    @property
    def edge_toml(self) -> Path:
        return self.folder / "kit" / "edge.toml"

    @property
    def records(self) -> Path:
        return self.folder / "detections.jsonl"

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


def write_cloud_settings(run: Demo, plan: Plan, answering: Answering | None = None) -> None:
    """Write the service's settings file, as an operator would, but for loopback and few frames; it answers edges where
    a cascade is wanted.
    """
    sizes = plan.sizes
    cloud: dict[str, dict[str, Any]] = {
        "service": {
            "data_dir": str(run.data_dir),
            "endpoint": f"tcp://127.0.0.1:{_free_port()}",
            "reserve_bytes": 64 << 20,
        },
        "store": {"held_out_block_s": BLOCK_S, "guard_s": GUARD_S},
        "teacher": {"short_side": sizes.teacher_side},
        "labelling": {"per_day": MOST_LABELS, "threads": plan.label_threads},
        "student": {"long_side": sizes.long_side, "int8": plan.int8},
        # A round never waits for long: few frames that are a while old will do, and audits bring some of any camera.
        "schedule": {
            "min_new": plan.min_new,
            "first": plan.min_new,
            "least": LEAST,
            "max_age_s": max(LEAST_AGE_S, 2 * plan.collect_s),
        },
        "round": {
            "kept": sizes.kept,
            "most_steps": sizes.steps,
            "patience": min(RoundSettings().patience, sizes.steps),
            "batch": BATCH,
            "threads": plan.threads,
            "held_out": sizes.held_out,
            "checkpoint_s": 60.0,
        },
        # With so few held-out frames a tie is luck: the student that saw more of the camera wins it.
        "gate": {"margin": -0.02, "least": LEAST, "certainty": CERTAINTY, "worse": 0.3},
        "publish": {"reoffer_s": 5.0},
        "metrics": {"port": 0},
        "page": {"port": 0},
    }
    if answering is not None:
        cloud["teacher"] |= {"batch": TOGETHER}
        cloud["labelling"] |= {"verdicts_per_minute": answering.verdicts}
    run.cloud_toml.write_bytes(tomli_w.dumps(cloud).encode())


def enroll_edge(run: Demo, plan: Plan, answering: Answering | None = None) -> None:
    """Enroll the edge and write its settings file; the cloud's must be there."""
    enroll = ["cloud", "enroll", EDGE, run.camera, "--out", str(run.edge_toml.parent)]
    _culling(*enroll, "--config", str(run.cloud_toml), *run.changes.flags("cloud"))
    edge = tomllib.loads(run.edge_toml.read_text("utf-8"))
    run.edge_toml.write_bytes(tomli_w.dumps(edge_settings(run, plan, edge, answering)).encode())


def edge_settings(
    run: Demo, plan: Plan, enrolled: Mapping[str, Any], answering: Answering | None = None
) -> dict[str, Any]:
    """Return the settings of an edge that was `enrolled` with those; its records are written where a cascade is wanted,
    which answers for them.
    """
    edge = {name: dict(section) for name, section in enrolled.items() if name != "camera"}
    edge["agent"] |= {"state_dir": str(run.folder / "edge"), "allow_cpu": True, "threads": 1, "trace": str(run.trace)}
    edge["cloud"]["heartbeat_s"] = 1.0
    camera = {"name": run.camera, "url": str(run.video), "pace": run.speed, "loop": True, "last": FED}
    selector = {
        "frames_per_window": plan.frames_per_window,
        "window_s": plan.window_s,
        "spacing_s": 0.8,
        # A short clip is played over and over. Its second lap looks like its first, and would be barred for that.
        "duplicate_change": 0.0,
        "bootstrap": 4,
        "audit_share": 0.25,
    }
    own = {"camera": [camera | {"max_fps": plan.max_fps}], "selector": selector, "metrics": {"port": _free_port()}}
    if answering is not None:
        own["cascade"] = {"deadline_s": answering.deadline_s}
        own["output"] = [{"kind": "jsonl", "path": str(run.records)}]
    return edge | own


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


def play(run: Demo, plan: Plan, stages: Sequence[str], console: Console) -> bool:
    """Run both processes until every round has ended, or time is up; return whether they have.

    `stages` are the names of a round's stages, in order. Raises `CullingError` when a process ends by itself, or when
    nothing moves any more.
    """
    with _process(run, "cloud", "serve", run.cloud_toml) as cloud, _process(run, "edge", "run", run.edge_toml) as edge:
        deadline = time.monotonic() + 60 * run.minutes if run.minutes is not None else math.inf
        index = Index(sqlite_url(run.data_dir / "index.sqlite"))
        try:
            with shown(console) as show:
                console.print(f"Watch it in a browser: {_page(run, cloud, deadline)}")
                done = _watch(run, plan, stages, index, {"cloud serve": cloud, "edge run": edge}, show, deadline)
            if not done:
                console.print(f"{run.minutes:g} minutes are over, as --minutes asked; measuring what there is.")
            run.metrics.write_bytes(_scrape(run))
            _stop(edge, "edge")
            _stop(cloud, "cloud")
        finally:
            index.close()
    return done


def _watch(
    run: Demo,
    plan: Plan,
    stages: Sequence[str],
    index: Index,
    processes: Mapping[str, subprocess.Popen[bytes]],
    show: Callable[[str], None],
    deadline: float,
) -> bool:
    began, alive, held = time.time(), Alive(time.monotonic()), False
    read = partial(read_progress, index, run.camera, plan, stages, began, limit_s=deadline - time.monotonic())
    while not (progress := read()).done:
        if time.monotonic() >= deadline:
            return False
        for name, process in processes.items():
            if process.poll() is not None:
                raise CullingError(f"culling {name} ended early: {last_line(run, name.split()[0])}")
        if problem := alive.problem(progress, time.monotonic()):
            raise CullingError(f"{problem}; the edge's last word: {last_line(run, 'edge')}")
        if progress.all_started and not held:  # a round more would only take the machine's time
            Requests(index).ask("hold", run.camera, time.time())
            held = True
        show(progress.line())
        time.sleep(0.5)
    return True


def _page(run: Demo, cloud: subprocess.Popen[bytes], deadline: float) -> str:
    """Wait until the service's page is served, and return its address."""
    while not (page := run.data_dir / "page").exists() and cloud.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return page.read_text("utf-8").strip() if page.exists() else "not served"


@contextmanager
def _process(run: Demo, side: str, command: str, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, "-m", "culling.common.cli", side, command, "--config", str(config)]
    arguments += run.changes.flags(side)
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
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return bytes(answer.read())
    except OSError:
        raise CullingError("the edge was not up yet: allow more time with --minutes") from None


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
