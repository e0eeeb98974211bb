"""The command lines that make models out of files: `culling pretrain` and `culling export`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from culling.common.config import LAST_SEED
from culling.common.errors import SettingsError

pretrain_app = typer.Typer(add_completion=False)
export_app = typer.Typer(add_completion=False)


@pretrain_app.command(
    name="pretrain",
    epilog="Example: culling pretrain student --labels labels.jsonl --images frames --out student.safetensors",
)
def pretrain_command(
    kind: Annotated[str, typer.Argument(help="student or teacher", metavar="student|teacher")],
    labels: Annotated[list[Path], typer.Option(help="label file, one JSON object a line; may be repeated")],
    images: Annotated[list[Path], typer.Option(help="folder that holds the labels' sources; may be repeated")],
    out: Annotated[Path, typer.Option(help="weights file to write; an unfinished run resumes from its checkpoint")],
    init: Annotated[Path | None, typer.Option(help="ImageNet trunk, or a detector to start from")] = None,
    until: Annotated[
        list[str] | None, typer.Option(help="FRACTION or NAME=FRACTION of a video to learn from; 0 leaves it out")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="optimiser steps")] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="canvases per step and worker")] = 4,
    lr: Annotated[float, typer.Option(min=0, help="peak learning rate")] = 0.02,
    canvas: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT of a batch; repeat it to vary")] = None,
    mosaic: Annotated[float, typer.Option(min=0, max=1, help="share of canvases tiled from four images")] = 0.0,
    jitter: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="range of an image's size relative to its canvas")
    ] = (0.7, 1.0),
    weight: Annotated[
        list[str] | None,
        typer.Option(help="PREFIX=WEIGHT: how often to draw images whose source begins with PREFIX; default: 1"),
    ] = None,
    empty: Annotated[float, typer.Option(min=0, help="weight of images without boxes")] = 0.1,
    balance: Annotated[
        float, typer.Option(min=0, max=1, help="share of draws below which a class is drawn more often; 0 is off")
    ] = 0.0,
    fill: Annotated[float, typer.Option(min=0, max=1, help="share of images that cover their place, cut")] = 0.0,
    stretch: Annotated[float, typer.Option(min=0, max=1, help="how far an aspect may change, as a logarithm")] = 0.0,
    paste: Annotated[float, typer.Option(min=0, max=1, help="share of canvases with objects from other images")] = 0.0,
    colour: Annotated[float, typer.Option(min=0, max=1, help="share of canvases in another light, dusk too")] = 0.0,
    noise: Annotated[float, typer.Option(min=0, max=1, help="share of canvases blurred, noisy or compressed")] = 0.0,
    tilt: Annotated[float, typer.Option(min=0, max=1, help="share of canvases seen from another angle")] = 0.0,
    average: Annotated[
        float, typer.Option(min=0, max=0.99999, help="decay of the average of weights that is written; 0 is off")
    ] = 0.0,
    cooldown: Annotated[
        int | None, typer.Option(min=1, help="hold the rate, and let it fall over the last steps, so many")
    ] = None,
    frozen: Annotated[int, typer.Option(min=0, max=4, help="trunk stages that keep their weights")] = 1,
    depth: Annotated[int | None, typer.Option(help="trunk depth, if not the kind's own; 50 starts a teacher")] = None,
    fpn_width: Annotated[int | None, typer.Option(min=8, help="channels of the pyramid, if not the kind's own")] = None,
    head_width: Annotated[int | None, typer.Option(min=8, help="width of the box head, if not the kind's own")] = None,
    processes: Annotated[int, typer.Option(min=0, help="processes that make batches ahead, for a GPU")] = 0,
    checkpoint_every: Annotated[float, typer.Option(min=1, help="seconds between checkpoints")] = 120.0,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="seed of batches and sampling")] = 0,
) -> None:
    """Train a student or teacher from label files; after a kill, run it again to resume."""
    from culling.cloud.model.pretrain import Pretraining, pretrain
    from culling.cloud.model.recipe.augment import Augment
    from culling.cloud.model.train import Recipe

    if kind not in ("student", "teacher"):
        raise SettingsError(f"pretrain {kind!r}: expected student or teacher")
    if depth not in (None, 18, 50, 101):
        raise SettingsError(f"--depth {depth}: expected 18, 50 or 101")
    pretrain(
        Pretraining(
            kind="student" if kind == "student" else "teacher",
            labels=labels,
            images=images,
            out=out,
            init=init,
            until=dict(_valued("--until", text, 1.0) for text in until or []),
            recipe=Recipe(steps=steps, lr=lr, checkpoint_every_s=checkpoint_every, seed=seed, cooldown=cooldown),
            canvases=[_size(text) for text in canvas or ["320x256", "384x288", "480x352"]],
            batch=batch,
            depth=depth,
            fpn_width=fpn_width,
            head_width=head_width,
            frozen=frozen,
            mosaic=mosaic,
            jitter=jitter,
            weights=dict(_valued("--weight", text, math.inf) for text in weight or []),
            empty=empty,
            balance=balance,
            fill=fill,
            stretch=stretch,
            paste=paste,
            augment=Augment(colour, noise, tilt) if colour or noise or tilt else None,
            average=average,
            processes=processes,
        )
    )
    typer.echo(f"wrote {out}, its curve {out.with_suffix('.png')} and {out.with_suffix('.csv')}")


def _valued(option: str, text: str, most: float) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        upper = f"0..{most:g}" if math.isfinite(most) else "0 or more"
        raise SettingsError(f"{option} {text}: expected [NAME=]NUMBER, the number {upper}")
    return name, number


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise SettingsError(f"--canvas {text}: expected WIDTHxHEIGHT in pixels")
    return int(height), int(width)


@export_app.command(name="export", epilog="Example: culling export --weights student.safetensors --out student.onnx")
def export_command(
    out: Annotated[Path, typer.Option(help="ONNX file to write")],
    weights: Annotated[Path | None, typer.Option(help="student weights; default: the bundled student")] = None,
    int8: Annotated[
        Path | None,
        typer.Option(help="video of the camera, to calibrate an 8-bit student: faster without a GPU, not with one"),
    ] = None,
) -> None:
    """Export a student as one static ONNX graph, after checking that it computes what the student does."""
    from culling.cloud.model.base import outlines
    from culling.cloud.model.quantise import calibration_frames, quantise
    from culling.cloud.model.refit import export_proven
    from culling.cloud.model.weights import load_bundled, load_student
    from culling.common.atomic import write_atomic
    from culling.common.progress import say
    from culling.common.video import BUNDLED_CLIP, read_frames

    model, classes = load_student(weights) if weights else load_bundled("student")
    frames = [frame for _, frame in read_frames(BUNDLED_CLIP, {0, 400})]
    graph, parity = export_proven(outlines(), model, classes, frames, say)
    typer.echo(f"agrees with the weights: {parity}")
    if int8 is not None:
        say(f"reading {int8}, and quantising to 8 bits")
        graph = quantise(graph, calibration_frames(int8))
        typer.echo(f"quantised to 8 bits on frames of {int8}: measure it with culling evaluate")
    write_atomic(out, graph)
    typer.echo(f"wrote {out}, {len(graph) / 1e6:.1f} MB")
