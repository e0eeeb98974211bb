"""`culling demo`: a video played through the whole loop on one machine, with nothing simulated but the camera.

The cloud service and an edge agent run as two processes of their own, enrolled and linked over CURVE on loopback, from
the same commands and settings files a deployment uses. The first part of the clip is the live camera, played round
and round; the rest is never shown to the loop, and measures what each round's student learnt (`measure.py`).
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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from urllib.request import urlopen

import msgspec
import tomli_w
import typer
from rich.console import Console
from rich.live import Live

from culling.cloud.settings import sqlite_url
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import Roster
from culling.cloud.store.rounds import Round, Rounds
from culling.common.errors import CameraError, CullingError, SettingsError, StorageError
from culling.common.logs import redact
from culling.common.video import BUNDLED_CLIP, FED
from culling.common.wire.messages import CameraState

EDGE = "demo-edge"
STOP_S = 40.0
MEASURED_FRAMES = 30
"""Frames of the held-back part that are measured, evenly spaced: each costs the teacher a second or two on a CPU."""

RECORD_S = 120.0

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Demo:
    """What to play and for how long; `folder` receives keys, settings, logs, the index and the models."""

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


@app.command()
def demo(
    video: Annotated[str | None, typer.Option(help="file or URL to play; default: the clip that comes along")] = None,
    camera: Annotated[str, typer.Option(help="name of the camera")] = "camera-1",
    rounds: Annotated[int, typer.Option(min=1, help="hot swaps to wait for, each the end of a round")] = 3,
    minutes: Annotated[float, typer.Option(min=0.5, help="stop after so long, and measure what there is")] = 13.0,
    speed: Annotated[str, typer.Option(help="real: the camera's pace; max: as fast as the student keeps up")] = "real",
    labels: Annotated[Path | None, typer.Option(help="label file of the video, to measure against as well")] = None,
    report: Annotated[Path | None, typer.Option(help="write every figure to this JSON file")] = None,
    plots: Annotated[Path, typer.Option(help="folder for the plots")] = Path("runs/demo"),
    work: Annotated[Path | None, typer.Option(help="keep keys, logs, index and models in this new folder")] = None,
) -> None:
    """Play a video through the whole loop: edge agent, cloud service, at least three rounds, three hot swaps."""
    from culling.cloud.demo.figures import measure, print_table, write_plots
    from culling.cloud.evaluation.holdout import plan

    console = Console()
    if speed not in ("real", "max"):
        raise SettingsError(f"--speed {speed}: expected real or max")
    started = time.monotonic()
    _check_outputs(report, plots)
    with _folder(work) as folder:
        clip = _clip(video, folder, console)
        held_back = plan(clip, FED, MEASURED_FRAMES, labels)
        run = Demo(clip, camera, rounds, minutes, "real" if speed == "real" else "max", folder)
        console.print(f"Playing the first {FED:.0%} of {clip.name} as camera {camera}; the rest is held back.")
        prepare(run, console)
        complete = play(run, console)
        console.print("Measuring every round's student on the held-back part …")
        figures = measure(run, held_back)
        figures |= {"complete": complete, "wall_s": round(time.monotonic() - started, 1)}
    print_table(console, figures)  # first: whatever becomes of the files, the figures have been shown
    try:
        if report is not None:
            report.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
            console.print(f"wrote {report}")
        for path in write_plots(figures, plots):
            console.print(f"wrote {path}")
    except OSError as error:
        raise StorageError(f"{error.filename}: cannot be written: {error.strerror}") from None
    if not complete:
        raise CullingError(f"{minutes:g} minutes were not enough for {rounds} hot swaps; give it more with --minutes")


def _check_outputs(report: Path | None, plots: Path) -> None:
    """Raise SettingsError now for what could not be written when all is done."""
    if report is not None and (report.is_dir() or not os.access(report.parent, os.W_OK)):
        raise SettingsError(f"--report {report}: expected a file in a folder that can be written")
    try:
        plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--plots {plots}: cannot be made: {error.strerror}") from None


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is None:
        with TemporaryDirectory(prefix="culling-demo-") as name:
            yield Path(name)
        return
    if work.exists() and not (work.is_dir() and not any(work.iterdir())):
        raise SettingsError(f"--work {work}: expected a new or empty folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--work {work}: cannot be made: {error.strerror}") from None
    yield work.resolve()


def _clip(video: str | None, folder: Path, console: Console) -> Path:
    """Return the file to play; a live URL is recorded first, since only what has an end has a part to hold back."""
    if video is None:
        return BUNDLED_CLIP
    if "://" not in video:
        path = Path(video).resolve()
        if not path.is_file():
            raise CameraError(f"{video}: no such video")
        return path
    console.print(f"Recording {RECORD_S:.0f} s of {redact(video)} …")
    return record(video, folder / "recorded.mkv", RECORD_S)


def record(url: str, out: Path, seconds: float) -> Path:
    """Copy up to `seconds` of a stream's video, as it comes, into `out`. Raises `CameraError`."""
    import av

    try:
        with av.open(url, timeout=(10, 10)) as source, av.open(str(out), "w") as sink:
            stream = source.streams.video[0]
            copy = sink.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.stream = copy
                sink.mux(packet)
                if float((packet.pts - (stream.start_time or 0)) * packet.time_base) >= seconds:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise CameraError(redact(f"{url}: cannot be recorded: {error}")) from None
    return out


def prepare(run: Demo, console: Console) -> None:
    """Enrol the edge and write both settings files, as an operator would, but for loopback and few frames."""
    port = _free_port()
    cloud = {
        "service": {"data_dir": str(run.data_dir), "endpoint": f"tcp://127.0.0.1:{port}", "reserve_bytes": 64 << 20},
        "teacher": {"short_side": 384},
        "schedule": {"min_new": 16, "least": 16, "max_age_s": 600.0},
        "round": {"kept": 12, "factor": 2, "epochs": 5.0, "held_out": 8, "checkpoint_s": 20.0},
        # So few frames judge that a tie would be a matter of luck: the student that saw more of the camera wins it.
        "gate": {"margin": -0.02, "least": 2},
        "publish": {"reoffer_s": 5.0},
        "metrics": {"port": 0},
        "page": {"port": 0},
    }
    run.cloud_toml.write_bytes(tomli_w.dumps(cloud).encode())
    console.print("Enrolling the edge and exporting its first student …")
    enroll = ["cloud", "enroll", EDGE, "--camera", run.camera, "--out", str(run.edge_toml.parent)]
    _culling(*enroll, "--config", str(run.cloud_toml))
    edge = tomllib.loads(run.edge_toml.read_text())
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
    done = subprocess.run([sys.executable, "-m", "culling.common.cli", *arguments], capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        raise CullingError(f"culling {arguments[0]} {arguments[1]} failed: {why.removeprefix('culling: ')}")


def play(run: Demo, console: Console) -> bool:
    """Run both processes until enough rounds have ended in a hot swap, or time is up; return whether they have."""
    with _process(run, "cloud", "serve", run.cloud_toml) as cloud, _process(run, "edge", "run", run.edge_toml) as edge:
        deadline = time.monotonic() + 60 * run.minutes
        index = Index(sqlite_url(run.data_dir / "index.sqlite"))
        try:
            with _shown(console) as show:
                console.print(f"Watch it in a browser: {_page(run, cloud, deadline)}")
                while not (ended := finished(index, run)) and time.monotonic() < deadline:
                    for name, process in (("cloud serve", cloud), ("edge run", edge)):
                        if process.poll() is not None:
                            raise CullingError(f"culling {name} ended by itself: {last_line(run, name.split()[0])}")
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
    """Return the address of the service's page, once it is served."""
    while not (page := run.data_dir / "page").exists() and cloud.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return page.read_text().strip() if page.exists() else "not served"


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
    """Return this process's environment; `CULLING_*` variables set the cloud here, and would be unknown to the edge."""
    return {name: value for name, value in os.environ.items() if side == "cloud" or not name.startswith("CULLING_")}


def _scrape(run: Demo) -> bytes:
    port = tomllib.loads(run.edge_toml.read_text())["metrics"]["port"]
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
    """Return the last line a process logged."""
    lines = (run.folder / f"{side}.log").read_text(errors="replace").strip().splitlines()
    return redact(lines[-1]) if lines else "it logged nothing"


def finished(index: Index, run: Demo) -> bool:
    """Return whether enough models of rounds have gone live at the edge."""
    made = {f"{run.camera}/{row.model_id}" for row in Rounds(index).all(run.camera) if row.state == "published"}
    return sum(swap.outcome == "live" and name in made for name, swap in Registry(index).swaps().items()) >= run.rounds


def status(index: Index, run: Demo) -> str:
    """Return one line on what is going on."""
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
    """Show the newest status: in place on a terminal, else a plain line every ten seconds."""
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
