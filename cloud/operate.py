"""The commands that make a request of a camera: the same requests that the page makes (`actions.py`)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from culling.cloud.control.actions import ask
from culling.cloud.page import views
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.store.folders import is_held, make_folder
from culling.cloud.store.index import Index
from culling.cloud.store.objects.places import model_files
from culling.cloud.store.registry import Registry
from culling.cloud.store.requests import Kind, Requests
from culling.cloud.store.roster import Roster
from culling.common.atomic import write_atomic
from culling.common.config import parse_overrides, settings_file
from culling.common.errors import CullingError, InputError

ANSWER_S = 15.0
"""The service answers within a second unless its disk is slow; waiting longer would look like a hang."""
WHOLE = ("id", "camera", "is")
PANEL = "Act on a camera"
SEARCHED = CloudSettings.searched

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file.", show_default=f"the first of {', '.join(map(str, SEARCHED))}"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, e.g. round.kept=64; `culling settings cloud` lists them; lists as JSON; repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Camera = Annotated[str, typer.Argument(help="Name of the camera.")]

PLAIN: dict[Kind, str] = {
    "rollback": "Go back to the model before the live one, under a new counter; the live one is revoked.",
    "hold": "Stop rounds of a camera from starting by themselves; `rounds CAMERA --start` still starts one.",
    "unhold": "Let rounds of a camera start by themselves again.",
    "unpin": "Let a camera accept new models again.",
    "pause": "Stop a camera from forwarding frames until `resume`; it still detects, and its spool still drains.",
    "resume": "Let a camera forward frames again.",
    "frame": "Make a camera forward its next frame, even if its loss is low.",
}


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those of `culling cloud`."""
    for kind, text in PLAIN.items():
        example = f"Example: culling cloud {kind} north-door"
        app.command(kind, help=text, epilog=example, rich_help_panel=PANEL)(_plain(kind))
    for command, rest in (
        (pin, " north-door-3"),
        (budget, " 120"),
        (models, ""),
        (classes, " shop"),
        (export_model, " --out /media/stick"),
    ):
        example = f"Example: culling cloud {command.__name__.replace('_', '-')} north-door{rest}"
        app.command(epilog=example, rich_help_panel=PANEL)(command)


def settings_of(config: Path | None, override: list[str] | None) -> CloudSettings:
    """Return the settings that a command was given, or that are found. Raises SettingsError."""
    return load_settings(settings_file(CloudSettings, config), parse_overrides(override))


def _plain(kind: Kind) -> Any:
    def command(camera: Camera, config: ConfigFile = None, override: Overrides = None) -> None:
        ask_and_print(settings_of(config, override), kind, camera, {})

    return command


def pin(
    camera: Camera,
    model: Annotated[str | None, typer.Argument(help="One of the camera's models; default: the live one.")] = None,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Keep a camera on one model until `unpin`, even if its rounds make better ones."""
    ask_and_print(settings_of(config, override), "pin", camera, {} if model is None else {"model_id": model})


def budget(
    camera: Camera,
    frames: Annotated[
        int | None, typer.Argument(help="Frames per window; default: the budget in its settings.")
    ] = None,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Change how many frames a camera may forward per window, without restarting its agent."""
    payload = {} if frames is None else {"frames_per_window": frames}
    ask_and_print(settings_of(config, override), "budget", camera, payload)


def models(camera: Camera, config: ConfigFile = None, as_json: AsJson = False, override: Overrides = None) -> None:
    """Show every model of a camera, newest first: which one it runs, and which files are still stored."""
    settings = settings_of(config, override)
    index = Index(settings.store_url)
    Roster(index).require(camera)
    rows = views.model_list(index, model_files(settings), camera)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print_table([_model_columns(row) for row in rows], f"camera {camera} has no model")


def export_model(
    camera: Camera,
    out: Annotated[Path, typer.Option("--out", help="Folder, e.g. on a USB stick.")],
    model: Annotated[str | None, typer.Option("--model", help="One of its models; default: the live one.")] = None,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Write a camera's model and its signed manifest, for `culling edge install` at an edge without a line."""
    settings = settings_of(config, override)
    index = Index(settings.store_url)
    Roster(index).require(camera)
    wanted = model or Registry(index).live_ids().get(camera, "")
    found = Registry(index).find(camera, wanted)
    if found is None:
        what = f"no live or previous model {wanted}" if wanted else "no model"
        raise InputError(f"camera {camera} has {what}: see `culling cloud models {camera}`")
    if found.expires <= time.time():
        raise InputError(f"the manifest of {wanted} has expired and no edge takes it: publish the model again")
    files = model_files(settings)
    file = out.resolve() / f"{found.model_id}.manifest"
    make_folder(file.parent)
    write_atomic(file.with_suffix(".onnx"), files.read(found.artefact.sha256))
    write_atomic(file, found.manifest)
    print(f"{file}, and {found.model_id}.onnx beside it: `culling edge install` takes both to camera {camera}")


def classes(
    camera: Camera,
    chosen: Annotated[str | None, typer.Argument(metavar="[SET]", help="A set of the `classes` settings.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the set that the settings give it.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
    override: Overrides = None,
) -> None:
    """Show what a camera looks for, or have it look for another set: a round is asked for, which starts once labelled.

    Labels whose list has every class of the new one go on counting; of the others the newest are asked again.
    """
    settings = settings_of(config, override)
    if chosen is None and not reset:
        told = views.classes(Index(settings.store_url), settings, camera)
        print(json.dumps(told, indent=2) if as_json else "\n".join(_classes_lines(told)))
        return
    if chosen is not None and reset:
        raise InputError("name a set, or give --reset, not both")
    if chosen is not None and chosen not in settings.class_sets:
        raise InputError(f"no set is called {chosen}: there are {', '.join(settings.class_sets)} (settings, [classes])")
    ask_and_print(settings, "classes", camera, {} if chosen is None else {"classes": chosen})


def _classes_lines(told: dict[str, Any]) -> Iterator[str]:
    why = "by command" if told["asked"] else "by the settings"
    yield f"{told['camera']} looks for {', '.join(told['classes'])} (set {told['set']}, {why})"
    if told["in_force"] != told["classes"]:
        yield f"labels are still read as {', '.join(told['in_force'])}: the service changes that between two rounds"
    since = "" if told["since"] is None else f" since {datetime.fromtimestamp(told['since'], UTC):%m-%d %H:%M}"
    yield f"{told['labelled']} frames are labelled for it{since}"
    if told["model"] is None:
        yield "it has no model"
        return
    yield f"{told['model']} finds {', '.join(told['finds'])}"
    new = [name for name in told["classes"] if name not in told["finds"]]
    if new or set(told["classes"]) != set(told["finds"]):
        yield f"the next round changes that: new is {', '.join(new) or 'nothing'}; see `culling cloud rounds`"
    for name, names in told["sets"].items():
        yield f"set {name}: {', '.join(names)}"


def ask_and_print(settings: CloudSettings, kind: Kind, camera: str, payload: dict[str, Any]) -> None:
    """Enter a request and, if the service runs, wait for its answer. Raises CullingError when that is a refusal."""
    index = Index(settings.store_url)
    request = ask(index, kind, camera, time.time(), payload)
    deadline = time.monotonic() + (ANSWER_S if is_held(settings.data_dir) else 0.0)
    while (answer := Requests(index).answered(request)) is None:
        if time.monotonic() >= deadline:
            print(f"request {request} is entered{when(settings)}")
            return
        time.sleep(0.1)
    done, text = answer
    if not done:
        raise CullingError(text)
    print(text)


def when(settings: CloudSettings) -> str:
    """Return the end of a sentence: when a request will be carried out, or "" while the service runs."""
    return "" if is_held(settings.data_dir) else "; the service is not running and will carry it out when it starts"


def print_table(rows: list[dict[str, str]], empty: str) -> None:
    """Print rows under their keys, or `empty` where there are none."""
    if not rows:
        print(empty)
        return
    # What identifies a row is never cut off: a narrow terminal narrows the other columns.
    table = Table(*(Column(name, no_wrap=name in WHOLE) for name in rows[0]))
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


def _model_columns(row: dict[str, Any]) -> dict[str, str]:
    return {
        "model": row["model_id"],
        "is": f"{row['state']}{', provisional' if row['provisional'] else ''}",
        "runs": "yes" if row["runs"] else "",
        "from": f"round {row['round']}{', zoo' * (row['origin'] == 'zoo')}" if row["round"] else row["origin"],
        "scale": f"{row['scale']:.2f}",
        "made": datetime.fromtimestamp(row["created"], UTC).strftime("%m-%d %H:%M"),
        "swap": row["swap"] or "",
        "file": "kept" if row["kept"] else "gone",
    }
