"""`culling demo`: a video played through the whole loop on one machine, where only the camera is simulated.

The cloud service and an edge agent run as processes of their own, enrolled and linked over CURVE on loopback, with the
same commands and settings files as a deployment (`run.py`). The first part of the clip plays in a loop as the camera;
the rest is held back from the loop, and measures what each round's student learned (`figures.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from culling.cloud.demo.changes import divide
from culling.cloud.demo.run import Demo, play, record
from culling.common.errors import CameraError, CullingError, SettingsError, StorageError
from culling.common.logs import redact
from culling.common.video import BUNDLED_CLIP, FED

RECORD_S = 120.0
"""Seconds recorded from a live URL: the loop plays 60 % of it, enough that a round's frames are not all alike."""

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: culling demo north-door --video recording.mp4 --report figures.json")
def demo(
    camera: Annotated[str, typer.Argument(help="name of the camera")] = "camera-1",
    video: Annotated[str | None, typer.Option(help="file or URL to play; default: the bundled clip")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="rounds to wait for, published or refused")] = 3,
    minutes: Annotated[
        float | None, typer.Option(min=0.5, help="most minutes to play before measuring", show_default="no limit")
    ] = None,
    speed: Annotated[str, typer.Option(help="real: the video's own pace; max: the student's")] = "real",
    labels: Annotated[Path | None, typer.Option(help="label file of the video, to measure against too")] = None,
    report: Annotated[Path | None, typer.Option(help="write every figure to this JSON file")] = None,
    plots: Annotated[Path, typer.Option(help="folder for the plots")] = Path("runs/demo"),
    work: Annotated[Path | None, typer.Option(help="new folder in which to keep keys, logs, index and models")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="override a setting of cloud or edge, e.g. student.family=yolox, see `culling settings`; repeatable",
        ),
    ] = None,
) -> None:
    """Play a video through the whole loop: edge agent, cloud service, rounds of training, hot swaps.

    It measures this machine first, chooses what it can do in about ten minutes, and says so. It ends when its rounds
    have: a student that is no better is a result too.
    """
    from culling.cloud.demo.closing import failure, print_closing
    from culling.cloud.demo.figures import measure, write_plots
    from culling.cloud.demo.prepare import prepare
    from culling.cloud.round.process import STAGES

    console = Console()
    if speed not in ("real", "max"):
        raise SettingsError(f"--speed {speed}: expected real or max")
    started, changes = time.monotonic(), divide(override)
    _check_outputs(report, plots)
    with _folder(work) as folder:
        clip = _clip(video, folder, console)
        run = Demo(clip, camera, minutes, "real" if speed == "real" else "max", folder, changes)
        ready = prepare(run, rounds, labels, console)
        console.print(f"Playing the first {FED:.0%} of {clip.name} as camera {camera}; the rest is held back.")
        complete = play(run, ready.plan, tuple(STAGES), console)
        console.print("Measuring every round's student on the held-back part …")
        figures = measure(run, ready.held_out, ready.plan, ready.start, ready.answering)
        figures |= {"speed": asdict(ready.speed), "complete": complete}
        figures |= {"wall_s": round(time.monotonic() - started, 1)}
    print_closing(console, figures)  # first, so that the figures are shown even if a file cannot be written
    try:
        if report is not None:
            report.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
            console.print(f"wrote {report}")
        for path in write_plots(figures, plots):
            console.print(f"wrote {path}")
    except OSError as error:
        raise StorageError(f"{error.filename}: cannot be written: {error.strerror}") from None
    if problem := failure(figures):
        raise CullingError(problem)


def _check_outputs(report: Path | None, plots: Path) -> None:
    """Raise SettingsError now rather than after minutes of work for an output that cannot be written."""
    if report is not None and (report.is_dir() or not os.access(report.parent, os.W_OK)):
        raise SettingsError(f"--report {report}: expected a file in a writable folder")
    try:
        plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--plots {plots}: cannot be created: {error.strerror}") from None


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
        raise SettingsError(f"--work {work}: cannot be created: {error.strerror}") from None
    yield work.resolve()


def _clip(video: str | None, folder: Path, console: Console) -> Path:
    """Return the file to play; a URL is recorded first, because part of the clip is held back."""
    if video is None:
        return BUNDLED_CLIP
    if "://" not in video:
        path = Path(video).resolve()
        if not path.is_file():
            raise CameraError(f"{video}: no such file")
        return path
    console.print(f"Recording {RECORD_S:.0f} s of {redact(video)} …")
    return record(video, folder / "recorded.mkv", RECORD_S)
