"""Commands for labels of a camera: `culling cloud export`, `import` and `review`; also while the service runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from culling.cloud.annotations.classes import Wanted, parse_map
from culling.cloud.annotations.cli import Drop, From, Images, Renamed, Size, parse_size
from culling.cloud.annotations.looks import TITLES, Format
from culling.cloud.operate import AsJson, Camera, ConfigFile, Overrides, print_table, settings_of
from culling.cloud.review.decide import Decided, decide, ignoring, listed, read_decisions
from culling.cloud.review.desk import Desk, open_desk
from culling.cloud.review.export import What, chosen, export
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index
from culling.cloud.store.people.deeds import Deed, Deeds, operator
from culling.cloud.store.purge.audit import Event, record
from culling.common.clock import SystemClock
from culling.common.errors import InputError
from culling.common.process.console import counted
from culling.common.progress import shown

PANEL = "Labels of a camera"

By = Annotated[
    str | None, typer.Option("--by", help="Who made the labels.", show_default="the account that runs the command")
]
Frames = list[str] | None


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those of `culling cloud`."""
    commands: dict[str, tuple[Callable[..., None], str]] = {
        "export": (export_command, "north-door --what culled --format coco --out culled"),
        "import": (import_command, "north-door culled/annotations.json"),
        "review": (review_command, "north-door --json"),
    }
    for name, (command, rest) in commands.items():
        app.command(name, epilog=f"Example: culling cloud {name} {rest}", rich_help_panel=PANEL)(command)


def _desk(settings: CloudSettings) -> Desk:
    return open_desk(settings, Index(settings.store_url), None, SystemClock())


def _audited(settings: CloudSettings, event: Event, **what: Any) -> Callable[[int], None]:
    return lambda frames: record(settings.data_dir, event, time.time(), frames=frames, **what)


def _note(desk: Desk, event: Event, camera: str, frames: int, **what: Any) -> None:
    """Enter in the index what was done, if anything: what `_audited` returns runs while frames are being changed."""
    if frames:
        Deeds(desk.index).add(Deed(operator(), event, camera, what={"frames": frames, **what}), time.time())


def account() -> str:
    """Return who runs this process, as `name@host`; through sudo, who became that."""
    return operator().who


def export_command(
    camera: Camera,
    out: Annotated[Path, typer.Option(help="New or empty folder to write.")],
    what: Annotated[What, typer.Option(help="Which frames; `all` are those with labels.")] = "culled",
    to: Annotated[Format, typer.Option("--format", help="Format of the labels.")] = "coco",
    most: Annotated[int | None, typer.Option(min=1, help="Most frames.", show_default="all of them")] = None,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Write frames of a camera and their labels for a label tool.

    The file names are the frames' names: leave them as they are, so that `culling cloud import` finds the frames again.
    """
    settings = settings_of(config, override)
    desk = _desk(settings)
    frames = chosen(desk, camera, what, most)
    with shown("export", "frame", len(frames)) as show:
        done = export(desk, frames, out, to, show)
    _audited(settings, "frames_exported", camera=camera, what=what, out=str(out.resolve()))(done.frames)
    _note(desk, "frames_exported", camera, done.frames, what=what, out=str(out.resolve()))
    print(f"exported {counted(done.frames, 'frame')} of {camera} with {counted(done.boxes, 'box')}: {done.labels}")
    if done.lost:
        print(f"{done.lost} pictures were damaged and are put aside: see `culling cloud fsck`")


def import_command(
    camera: Camera,
    file: Annotated[Path, typer.Argument(help="Label file, or folder of them.")],
    told: From = None,
    renamed: Renamed = None,
    drop: Drop = False,
    images: Images = None,
    size: Size = None,
    by: By = None,
    confirm: Annotated[
        bool,
        typer.Option("--all", help="A person has looked at every frame: take those over too whose boxes are the same."),
    ] = False,
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Let labels that a person made overrule the teacher's; all of a file is taken over, or nothing.

    Frames whose boxes are what the labels say already are left as they are, unless `--all` is given.
    """
    from culling.cloud.annotations.convert import read
    from culling.cloud.annotations.folder import Sizes
    from culling.cloud.review.take_in import take_in

    settings = settings_of(config, override)
    desk = _desk(settings)
    wanted = Wanted(desk.classes(camera), parse_map(renamed or []), drop)
    found = read(file, told, wanted, Sizes(images, parse_size(size)))
    author = by or account()
    note = _audited(settings, "labels_imported", camera=camera, file=str(file), by=author)
    done = take_in(desk, camera, found, images, author, confirm, note)
    _note(desk, "labels_imported", camera, done.taken, file=str(file), by=author)
    print(f"{file} ({TITLES[found.format]}): labels of {counted(done.taken, 'frame')} of {camera} are a person's now")
    if done.same:
        hint = "" if confirm else "; --all takes those over too, if a person has looked at every one"
        said = "frame says what its" if done.same == 1 else "frames say what their"
        print(f"{done.same} {said} labels say already{hint}")
    for line in found.told():
        print(line)


def review_command(
    camera: Camera,
    accept_teacher: Annotated[Frames, typer.Option(metavar="ID", help="The teacher is right; repeatable.")] = None,
    accept_student: Annotated[Frames, typer.Option(metavar="ID", help="The student is right; repeatable.")] = None,
    skip: Annotated[Frames, typer.Option(metavar="ID", help="Show a frame no more; repeatable.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Decisions as JSON: a list of id, decision, boxes."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many frames to show.")] = 20,
    by: By = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    override: Overrides = None,
) -> None:
    """Show the frames on which teacher and student dispute most, or decide who is right there.

    What a person decides overrules the teacher, and such a frame is not shown again. A file of decisions may also have
    a place of a frame ignored (`ignore`, with one box), or take that back (`unignore`).
    """
    settings = settings_of(config, override)
    desk = _desk(settings)
    flags = {"teacher": accept_teacher, "student": accept_student, "skip": skip}
    decisions = [_decided(name, decision) for decision, names in flags.items() for name in names or ()]
    decisions += read_decisions(file) if file is not None else []
    told: dict[str, Any] = {}
    if decisions:
        author = by or account()
        taken = decide(desk, camera, decisions, author, _audited(settings, "frames_reviewed", camera=camera, by=author))
        _note(desk, "frames_reviewed", camera, taken.new, by=author)
        told = {"decided": taken.new, "same": taken.same}
        if places := [row["toml"] for row in ignoring(desk, camera, decisions) if row["toml"]]:
            told["ignored"] = places
    found = told | listed(desk, camera, limit)
    for row in found["frames"]:
        row["path"] = desk.store.place(camera, row["id"])
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if told:
        print(f"decided {counted(told['decided'], 'frame')}, {told['same']} as before; {found['left']} are left")
        if found["effect"] is not None:
            print(found["effect"]["told"])
        if told.get("ignored"):
            print("Ignored in those frames. For later ones, put into the settings of the camera's edge:")
            print(*told["ignored"], sep="\n", end="")
        return
    rows = [{"id": row["id"], "in dispute": f"{row['mass']:.2f}", "why": row["why"]} for row in found["frames"]]
    print_table(rows, f"camera {camera}: teacher and student dispute nothing that nobody has looked at")
    if found["left"] > len(rows):
        print(f"{found['left'] - len(rows)} more are in dispute")
    if found["effect"] is not None:
        print(found["effect"]["told"])


def _decided(name: str, decision: str) -> Decided:
    if len(name) != 32 or not set(name) <= set("0123456789abcdef"):
        raise InputError(f"{name}: names of frames are 32 hex digits, as `culling cloud review` shows them")
    return Decided(name, decision)  # type: ignore[arg-type]
