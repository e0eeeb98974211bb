"""`culling cloud camera`: add, remove and move a camera, and purge what one recorded; also while the service runs."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from culling.cloud.operate import Camera, ConfigFile, Overrides, settings_of
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.store.people.deeds import record
from culling.cloud.store.purge.audit import AUDIT
from culling.cloud.store.purge.purge import Purged, purge
from culling.cloud.store.roster import Roster
from culling.common.clock import SystemClock
from culling.common.errors import InputError

app = typer.Typer(help="Add, remove and move cameras; purge what they recorded.", no_args_is_help=True)

Edge = Annotated[str, typer.Option(help="Name of an enrolled edge.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write for the edge.", show_default="the camera's name")]
Url = Annotated[str | None, typer.Option(help="Address of the camera, for the table that is written.")]


def add_commands(parent: typer.Typer) -> None:
    """Add the group to the commands of `culling cloud`."""
    parent.add_typer(app, name="camera")


@app.command(epilog="Example: culling cloud camera add ramp --edge yard --out ramp --url rtsp://10.0.0.7/stream")
def add(
    camera: Camera, edge: Edge, out: Out = None, url: Url = None, config: ConfigFile = None, override: Overrides = None
) -> None:
    """Give an enrolled edge one more camera, and write what the edge needs for it."""
    from culling.cloud.enroll import URL_TO_FILL_IN, Newcomer
    from culling.cloud.enroll import add as add_camera

    settings = settings_of(config, override)
    who = Newcomer(camera, edge, url or URL_TO_FILL_IN)
    toml = add_camera(settings, who, out or Path(camera), SystemClock())
    record(Index(settings.store_url), settings.data_dir, "camera_added", time.time(), camera=camera, edge=edge)
    _say_next(toml, f"camera {camera} is added to edge {edge}")


@app.command(epilog="Example: culling cloud camera move ramp --edge gate-house --out ramp")
def move(
    camera: Camera, edge: Edge, out: Out = None, url: Url = None, config: ConfigFile = None, override: Overrides = None
) -> None:
    """Give a camera to another edge; its models, frames and rounds go with it.

    What the old edge still holds in its spool is refused from then on: let it send that first.
    """
    from culling.cloud.enroll import URL_TO_FILL_IN, Newcomer
    from culling.cloud.enroll import move as move_camera

    settings = settings_of(config, override)
    who = Newcomer(camera, edge, url or URL_TO_FILL_IN)
    toml = move_camera(settings, who, out or Path(camera), SystemClock())
    record(Index(settings.store_url), settings.data_dir, "camera_moved", time.time(), camera=camera, edge=edge)
    _say_next(toml, f"camera {camera} belongs to edge {edge} now; take it out of the other edge's settings")


@app.command(epilog="Example: culling cloud camera remove ramp --purge")
def remove(
    camera: Camera,
    purge_all: Annotated[bool, typer.Option("--purge", help="Delete all that it recorded, and its models.")] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Take a camera out: its frames are refused from now on, and it has no more rounds."""
    settings = settings_of(config, override)
    index, now = Index(settings.store_url), time.time()
    edge = Roster(index).remove(camera, now)
    record(index, settings.data_dir, "camera_removed", now, camera=camera, edge=edge)
    print(f"camera {camera} is removed: its frames are refused; take it out of the settings of edge {edge}")
    if purge_all:
        _purge(settings, index, camera, None)
    else:
        print(f"what it recorded is kept until it expires; culling cloud camera purge {camera} --all deletes it now")


@app.command("purge", epilog="Example: culling cloud camera purge ramp --before 2026-11-01")
def purge_command(
    camera: Camera,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only what was recorded before, e.g. 2026-11-01 or with a time.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that was recorded until now.")] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Delete what a camera recorded: pictures, what the index says of them, labels and history; in quarantine too.

    What its edge sends later of that time is refused. Copies that `backup` made are not touched.
    """
    if everything == (before is not None):
        raise typer.BadParameter("give either a date or --all", param_hint="'--before'")
    settings = settings_of(config, override)
    _purge(settings, Index(settings.store_url), camera, None if before is None else _time(before))


def _time(text: str) -> float:
    """Return a date or a time, local unless it says otherwise, as seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise InputError(f"--before {text}: expected a date such as 2026-11-01, or 2026-11-01T08:30") from None


def _purge(settings: CloudSettings, index: Index, camera: str, before: float | None) -> None:
    """Purge, and say what went and what an operator has still to look at."""
    objects = open_objects(settings.store.objects, settings.data_dir)
    purged = purge(index, settings.data_dir, camera, before, time.time(), objects)
    _say(camera, purged, settings.data_dir)


def _say(camera: str, purged: Purged, data_dir: Path) -> None:
    print(
        f"purged of camera {camera}: {purged.rows} frames, {purged.pictures} pictures, labels of {purged.labels} "
        f"frames, {purged.history} minutes of history, {purged.records} other records; see {data_dir / AUDIT}"
    )
    if purged.unreadable:
        print(f"{purged.unreadable} files in {data_dir / 'corrupt'} do not say which camera they are of: look at them")
    if purged.models:
        print(f"{purged.models} models in use carry one small picture of {camera} each, until newer ones replace them")


def _say_next(toml: Path, done: str) -> None:
    print(f"{done}. Next:")
    print(f"  1. copy student.onnx and the manifest from {toml.parent} beside the edge's settings")
    print(f"  2. paste the table into the edge's settings, with the camera's address ({toml}):")
    print("\n".join(f"     {line}" for line in toml.read_text().splitlines()))
    print("  3. on the edge: culling edge reload, or restart the agent")
