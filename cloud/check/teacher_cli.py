"""`culling teacher check`: what a user runs first with a teacher of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from culling.cloud.operate import ConfigFile, Overrides
from culling.cloud.settings import DEFAULT, CloudSettings
from culling.common.atomic import write_atomic
from culling.common.config import load, parse_overrides, settings_file
from culling.common.errors import SettingsError

if TYPE_CHECKING:
    from culling.cloud.check.trial import Trial

app = typer.Typer(add_completion=False)


@app.command(name="check", epilog="Example: culling teacher check onnx:yolox_nano.onnx --video yard.mp4")
def check_command(
    video: Annotated[Path, typer.Option(help="a video of the camera that it is to label")],
    teacher: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND[:FILE]", help="e.g. bundled, onnx:model.onnx, detectron2:model.pkl; default: the settings'"
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="label file of the video, to measure AP by")] = None,
    out: Annotated[Path, typer.Option(help="contact sheet to write, a PNG")] = Path("teacher.png"),
    classes: Annotated[str, typer.Option(help="set of the `classes` settings that it is asked for")] = DEFAULT,
    override: Overrides = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Try a teacher on ten frames of a video: its boxes as a picture, its classes, speed, cost, memory and AP."""
    from culling.cloud.check.contact import contact_sheet
    from culling.cloud.check.trial import try_out
    from culling.cloud.teacher.loading import sayings

    settings = _settings(teacher, config, override)
    if classes not in settings.class_sets:
        raise SettingsError(f"--classes {classes}: there is no such set; there are {', '.join(settings.class_sets)}")
    names = settings.class_sets[classes].names
    teaching = settings.teacher.model_copy(update={"map": sayings(settings, names)[0]})
    wanted = [name for name in settings.round.interest if name in names]
    trial, shown = try_out(teaching, video, labels, wanted, names)
    write_atomic(out, contact_sheet(shown, names))
    if as_json:
        print(msgspec.json.encode(trial).decode())
        return
    for line in _told(trial):
        print(line)
    print(f"wrote {out}: look whether the boxes are right")


def _settings(teacher: str | None, config: Path | None, override: list[str] | None) -> CloudSettings:
    """Return the settings, `[teacher]` as the argument, else the settings file, and the overrides say it."""
    given = parse_overrides(override)
    if teacher is not None:
        kind, _, file = teacher.partition(":")
        given = {"teacher.kind": kind, "teacher.file": file or None} | given
    path = None if teacher is not None and config is None else settings_file(CloudSettings, config)
    if teacher is None and path is None:
        raise SettingsError("name a teacher, e.g. onnx:model.onnx, or a settings file with --config")
    unused = {} if path else {"service.data_dir": "unused"}
    return load(CloudSettings, path, given | unused)


def _told(trial: Trial) -> Iterator[str]:
    """Yield what a trial found, a line for each matter."""
    yield f"{trial.kind} on {trial.device}: says {trial.names} names"
    for ours, theirs in trial.says.items():
        yield f"  {ours}: {', '.join(theirs) if theirs else 'nothing'}"
    cost = "not countable" if trial.gflops is None else f"{trial.gflops:.1f} GFLOPs"
    width, height = trial.size
    yield f"speed: {trial.ms:.0f} ms a frame of {width}x{height}, median of {trial.frames}; cost: {cost}"
    gpu = "" if trial.gpu_memory_mib is None else f", {trial.gpu_memory_mib:,} MiB of the GPU's"
    yield f"memory: {trial.memory_mib:,} MiB at its peak{gpu}"
    sure = ", ".join(f"{count} {name}" for name, count in trial.boxes.items()) or "none: are file and colours right?"
    yield f"boxes that it is sure of, on the frames shown: {sure}"
    for name, one in trial.precision.items():
        yield f"AP50 of {name}: {one.ap50:.3f}, AP50:95: {one.ap50_95:.3f}, by {one.objects} labels"
