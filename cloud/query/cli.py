"""The command line that asks a stored video: `culling query`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from culling.cloud.operate import ConfigFile, Overrides
from culling.cloud.query.place import find_place
from culling.cloud.query.question import parse
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.store.folders import alone, make_folder
from culling.common.atomic import write_atomic
from culling.common.config import LAST_SEED, parse_overrides, settings_file
from culling.common.errors import SettingsError
from culling.common.progress import say

if TYPE_CHECKING:
    from culling.cloud.query.told import Found

app = typer.Typer(add_completion=False)


@app.command(name="query", epilog='Example: culling query yard.mp4 "car >= 3" --error 0.01 --out found')
def query_command(
    video: Annotated[Path, typer.Argument(help="the video, of a fixed camera")],
    query: Annotated[str, typer.Argument(help="CLASS OP NUMBER, OP one of >= > <= < ==; joined by `and`, `or`")],
    zone: Annotated[
        str | None, typer.Option(help='objects that stand there: a zone of --edge, or corners "x,y x,y x,y"')
    ] = None,
    edge: Annotated[Path | None, typer.Option(help="an edge's settings, edge.toml, that have the zone")] = None,
    error: Annotated[
        float,
        typer.Option(min=0.0001, max=0.5, help="share of frames that may be wrong, each way, with 95 % certainty"),
    ] = 0.01,
    sample: Annotated[
        int | None, typer.Option(min=1, help="frames that the teacher labels first", show_default="as error takes")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="student, .onnx or .safetensors, e.g. the camera's own", show_default="[student]'s"),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.05, max=4, help="multiplies the student's usual input size")] = 1.0,
    frames: Annotated[int | None, typer.Option(min=1, help="only the first frames", show_default="all")] = None,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="what the sample is drawn by")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="folder for JSON and contact sheet; what the teacher said is kept there, too"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    override: Overrides = None,
    config: ConfigFile = None,
) -> None:
    """Find when a video shows what is asked for, with few looks of the teacher and a bound on wrong answers.

    A run that was ended goes on from what the teacher said, if --out is given.
    """
    question = parse(query)
    if zone is None and edge is not None:
        raise SettingsError(f"--edge {edge}: say with --zone which of its zones is meant, or leave it out")
    place = None if zone is None else find_place(zone, edge)
    file, given = settings_file(CloudSettings, config), parse_overrides(override)
    with _folder(out) as folder:
        from culling.cloud.query.ask import Asked, ask

        settings = load_settings(file, given | {"service.data_dir": folder})
        with alone(folder / "query.lock", say):
            asked = Asked(video, question, place, error, sample, model, scale, frames, seed)
            told, sheet = ask(asked, settings, say)
        if out is not None:
            _write(out, told, sheet)
    _print(told, as_json)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """Yield the folder for what need not be computed again; without `out` it is gone afterwards."""
    if out is None:
        with TemporaryDirectory(prefix="culling-query-") as folder:
            yield Path(folder)
        return
    make_folder(out / "cache")
    yield out / "cache"


def _write(out: Path, told: Found, sheet: bytes | None) -> None:
    write_atomic(out / "query.json", msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    if sheet is None:
        (out / "query.png").unlink(missing_ok=True)  # what an earlier query showed is not this one's
    else:
        write_atomic(out / "query.png", sheet)


def _print(told: Found, as_json: bool) -> None:
    from culling.cloud.query.told import lines

    if as_json:
        print(msgspec.json.encode(told).decode())
        return
    for line in lines(told):
        print(line)
