"""The command line that adds up a stated day: `culling bill`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from culling.cloud.bill.cost import DAY_FRAMES, PAPER_PASSES, PARTS
from culling.cloud.bill.day import PAPER_FACTOR, Day, Models, ratio
from culling.cloud.bill.statement import flops
from culling.cloud.operate import settings_of
from culling.common.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from culling.cloud.settings import CloudSettings

DAY_MINUTES = 1440

app = typer.Typer(add_completion=False)


@app.command(name="bill", epilog="Example: culling bill --frame 1920x1080 --rounds 3 --json")
def bill_command(
    frame: Annotated[str, typer.Option(metavar="WxH", help="Size of the camera's frames in pixels.")] = "1280x720",
    frames: Annotated[
        int, typer.Option(min=1, help="Frames of the day; default: the paper's, one a second.")
    ] = DAY_FRAMES,
    n: Annotated[int | None, typer.Option(min=1, help="Frames kept by a round.", show_default="round.kept")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the day.")] = 1,
    passes: Annotated[
        float, typer.Option(min=0.01, help="How often each frame is trained on; default: the paper's.")
    ] = PAPER_PASSES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting, e.g. round.scored=512; `culling settings cloud` lists them; repeatable.",
        ),
    ] = None,
) -> None:
    """Add up what a day of a camera costs in GFLOPs, at most, beside full training on all of its frames."""
    settings = settings_of(None, ["service.data_dir=.", *(override or ())])
    told = add_up(plan(settings, n, frames, rounds, passes), models_of(settings, frame))
    if as_json:
        print(json.dumps(told, indent=2))
        return
    for name, cost in told["parts"].items():
        print(f"{name:<12} {flops(cost):>14}  {cost / told['gflops']:.2%}")
    print(f"{'all':<12} {flops(told['gflops']):>14}")
    print(f"{'full':<12} {flops(told['full']):>14}")
    print(f"full training costs {told['ratio_paper']:,.0f} times as much by the paper's definition,")
    print(
        f"{told['ratio']:,.0f} times the whole bill, {told['ratio_incremental']:,.0f} times without the edge's passes"
    )


def add_up(day: Day, models: Models) -> dict[str, Any]:
    """Return the day's figures under stable names, in GFLOPs; ratios are full training over each."""
    culled, full = day.paper(models)
    whole = day.whole(models)
    return {
        "parts": {part: whole.parts[part].gflops for part in PARTS if part in whole.parts},
        "gflops": whole.total.gflops,
        "full": full.total.gflops,
        "ratio_paper": ratio(full, culled.total),
        "ratio_paper_incremental": ratio(full, culled.incremental),
        "ratio": ratio(full, whole.total),
        "ratio_incremental": ratio(full, whole.incremental),
    }


def plan(settings: CloudSettings, n: int | None, frames: int, rounds: int, passes: float) -> Day:
    """Return the day that the settings make of so many frames and rounds."""
    from culling.cloud.round.aside import keep_aside
    from culling.cloud.round.fit import round_recipe

    own = settings.round
    kept = n or own.kept
    replayed = int(kept * own.replay_share / (1 - own.replay_share))
    aside = len(keep_aside(range(kept + replayed)))
    return Day(
        frames=frames,
        rounds=rounds,
        passes=passes,
        kept=kept,
        labelled=PAPER_FACTOR * kept,
        per_day=settings.labelling.per_day,
        answers=settings.labelling.verdicts_per_minute * DAY_MINUTES,
        held_out=own.held_out,
        scored=own.scored,
        replayed=replayed,
        aside=aside,
        look_every=round_recipe(own, aside).look_every,
        batch=own.batch,
    )


def models_of(settings: CloudSettings, frame: str) -> Models:
    """Return the models that the settings name, and their input sizes for frames of WxH pixels.

    Raises SettingsError for another `frame`, ModelError for weights that cannot be used.
    """
    from culling.cloud.bill.count import student_cost
    from culling.cloud.model.export import parity_sizes
    from culling.cloud.model.weights import load_bundled, load_student
    from culling.cloud.round.export import BLANK, PARITY_FRAMES
    from culling.cloud.round.fit import canvases
    from culling.cloud.round.scale import scales
    from culling.cloud.teacher.loading import load_teacher
    from culling.common.scaler import input_size

    width, _, height = frame.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise SettingsError(f"--frame {frame}: expected WIDTHxHEIGHT in pixels, e.g. 1280x720")
    size, long_side = (int(width), int(height)), settings.student.long_side
    wanted, scale = settings.student.weights, settings.resolution
    family = settings.student.family
    bundled = wanted == "bundled"
    student, _ = load_bundled("student", family=family) if bundled else load_student(Path(wanted), family)
    inputs = scales(lambda at: input_size(*size, at, long_side), scale.max_steps, scale.min_scale)
    label = load_teacher(settings).gflops(size[1], size[0])
    if label is None:
        raise ModelError(f"what the teacher {settings.teacher.kind!r} computes cannot be counted")
    return Models(
        student_cost(student, settings.round.frozen),
        label,
        canvases(size, 1.0, long_side),
        [at for _, at in inputs.values()],
        parity_sizes(long_side) * (2 * PARITY_FRAMES + BLANK),
    )
