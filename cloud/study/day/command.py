"""The command `culling study day`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from culling.common.clock import DAY_S
from culling.common.config import LAST_SEED, parse_overrides
from culling.common.process.console import counted

if TYPE_CHECKING:
    from culling.cloud.settings import CloudSettings
    from culling.cloud.study.day.compose import Composer


def day(
    video: Annotated[Path, typer.Option(help="clip of a fixed camera, of a minute or two by day")],
    labels: Annotated[Path, typer.Option(help="label file of the clip, one JSON object a line")],
    out: Annotated[Path, typer.Option(help="folder for day.mp4, labels.jsonl, contact.jpg and day.json")],
    seed: Annotated[
        int, typer.Option(min=0, max=LAST_SEED, help="another seed is another day: weather, hours, what passes")
    ] = 0,
    frames: Annotated[
        int,
        typer.Option(min=0, help="seconds from midnight; more than 86400 go on into the next day; 0: no clip"),
    ] = int(DAY_S),
    every: Annotated[
        int, typer.Option(min=1, help="write one frame in so many seconds; above 10 the clip's own clock is wrong")
    ] = 4,
    check: Annotated[
        int, typer.Option(min=0, help="compare student and teacher on so many composed and so many real frames")
    ] = 0,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="override a setting for --check; `culling settings cloud` lists them; repeatable",
        ),
    ] = None,
) -> None:
    """Compose a day of a camera from a clip of it: footage with exact labels, for the other studies.

    What moves is cut out of the clip and passes as it does there, more in the rush, little by night. The seed
    decides sun, dusk, lamps, rain, fog, noise, steps of exposure and a knock of the camera.

    Look at contact.jpg before you believe in it. A killed run goes on where it was.
    """
    from culling.cloud.settings import load_settings
    from culling.cloud.store.folders import alone, make_folder
    from culling.cloud.study.day.cast import load_cast
    from culling.cloud.study.day.compose import Composer
    from culling.cloud.study.day.contact import write_contact
    from culling.cloud.study.day.film import VIDEO, DayRecord, claim, write_film
    from culling.cloud.weights.index import file_hash
    from culling.common import logs
    from culling.common.errors import InputError
    from culling.common.progress import say
    from culling.common.video import frame_rate

    logs.setup("warning")
    frame_rate(video)  # what is no video leaves no folder behind
    of = file_hash(video), file_hash(labels, InputError)
    decided = parse_overrides(override or ()) | {"service.data_dir": out / "cache"}
    console, settings = Console(), load_settings(None, decided)
    make_folder(out)
    with alone(out / "day.lock", say):
        record = DayRecord(video.name, *of, seed, frames, every)
        claim(record, out)
        cast = load_cast(video, labels, settings.default_classes)
        console.print(f"{video.name}: {counted(len(cast.actors), 'object')} cut out, {len(cast.stands)} that stand")
        composer = Composer(cast, seed)
        write_contact(composer, out / "contact.jpg")
        console.print(f"wrote {out / 'contact.jpg'}")
        if check:
            _check(composer, video, labels, check, settings, console)
        write_film(composer, record, out)
        if frames:
            console.print(f"wrote {out / VIDEO} and its labels.jsonl")


def _check(
    composer: Composer, video: Path, labels: Path, count: int, settings: CloudSettings, console: Console
) -> None:
    from culling.cloud.study.basis.results import print_table
    from culling.cloud.study.day.check import check, table

    print_table(table(check(composer, video, labels, count, settings)), console)
