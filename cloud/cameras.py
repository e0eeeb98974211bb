"""`culling cloud camera`: add, remove and move a camera, and purge what one recorded; also while the service runs."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from culling.cloud.operate import Camera, ConfigFile, Overrides
from culling.cloud.settings import load_settings
from culling.cloud.store.index import Index
from culling.cloud.store.purge import AUDIT, Purged, purge
from culling.cloud.store.roster import Roster
from culling.common.clock import SystemClock
from culling.common.config import parse_overrides
from culling.common.errors import InputError

app = typer.Typer(help="Add, remove and move cameras; purge what they recorded.", no_args_is_help=True)

Edge = Annotated[str, typer.Option(help="Name of an enrolled edge.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write for the edge; default: the camera's name.")]
Url = Annotated[str | None, typer.Option(help="Address of the camera, for the table that is written.")]


def add_commands(parent: typer.Typer) -> None:
    """Add the group to the commands of `culling cloud`."""
    parent.add_typer(app, name="camera")


@app.command(epilog="Example: culling cloud camera add yard --edge shop-1 --out yard --config cloud.toml")
def add(
    name: Camera, edge: Edge, out: Out = None, url: Url = None, config: ConfigFile = None, override: Overrides = None
) -> None:
    """Give an enrolled edge one more camera, and write what the edge needs for it."""
    from culling.cloud.enroll import URL_TO_FILL_IN, Newcomer
    from culling.cloud.enroll import add as add_camera

    settings = load_settings(config, parse_overrides(override))
    who = Newcomer(name, edge, url or URL_TO_FILL_IN)
    _say_next(add_camera(settings, who, out or Path(name), SystemClock()), f"camera {name} is added to edge {edge}")


@app.command(epilog="Example: culling cloud camera move yard --edge shop-2 --out yard --config cloud.toml")
def move(
    name: Camera, edge: Edge, out: Out = None, url: Url = None, config: ConfigFile = None, override: Overrides = None
) -> None:
    """Give a camera to another edge; its models, frames and rounds go with it.

    What the old edge still holds in its spool is refused from then on: let it send that first.
    """
    from culling.cloud.enroll import URL_TO_FILL_IN, Newcomer
    from culling.cloud.enroll import move as move_camera

    settings = load_settings(config, parse_overrides(override))
    who = Newcomer(name, edge, url or URL_TO_FILL_IN)
    toml = move_camera(settings, who, out or Path(name), SystemClock())
    _say_next(toml, f"camera {name} belongs to edge {edge} now; take it out of the other edge's settings")


@app.command(epilog="Example: culling cloud camera remove yard --purge --config cloud.toml")
def remove(
    name: Camera,
    purge_all: Annotated[bool, typer.Option("--purge", help="Delete all that it recorded, and its models.")] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Take a camera out: its frames are refused from now on, and it has no more rounds."""
    settings = load_settings(config, parse_overrides(override))
    index, now = Index(settings.store_url), time.time()
    edge = Roster(index).remove(name, now)
    print(f"camera {name} is removed: its frames are refused; take it out of the settings of edge {edge}")
    if purge_all:
        _say(name, purge(index, settings.data_dir, name, None, now), settings.data_dir)
    else:
        print(f"what it recorded is kept until it expires; culling cloud camera purge {name} --all deletes it now")


@app.command("purge", epilog="Example: culling cloud camera purge yard --before 2026-11-01 --config cloud.toml")
def purge_command(
    name: Camera,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only what was recorded before, e.g. 2026-11-01 or with a time.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that was recorded until now.")] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Delete what a camera recorded: rows, pictures, labels and history, those in quarantine too.

    What its edge sends later of that time is refused. Copies that `backup` made are not touched.
    """
    if everything == (before is not None):
        raise typer.BadParameter("give either a date or --all", param_hint="'--before'")
    settings = load_settings(config, parse_overrides(override))
    until = None if before is None else _time(before)
    _say(name, purge(Index(settings.store_url), settings.data_dir, name, until, time.time()), settings.data_dir)


def _time(text: str) -> float:
    """Return a date or a time, local unless it says otherwise, as seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise InputError(f"--before {text}: expected a date such as 2026-11-01, or 2026-11-01T08:30") from None


def _say(name: str, purged: Purged, data_dir: Path) -> None:
    print(
        f"purged of camera {name}: {purged.rows} frames, {purged.pictures} pictures, labels of {purged.labels} frames, "
        f"{purged.history} minutes of history, {purged.records} other records; see {data_dir / AUDIT}"
    )
    if purged.unreadable:
        print(f"{purged.unreadable} files in {data_dir / 'corrupt'} do not say which camera they are of: look at them")


def _say_next(toml: Path, done: str) -> None:
    print(f"{done}. Next:")
    print(f"  1. copy student.onnx and the manifest from {toml.parent} beside the edge's settings")
    print(f"  2. paste the table into the edge's settings, with the camera's address ({toml}):")
    print("\n".join(f"     {line}" for line in toml.read_text().splitlines()))
    print("  3. on the edge: culling edge reload, or restart the agent")
