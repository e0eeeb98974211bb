"""Pre-training of the bundled pair: from ImageNet trunks and label files to detectors that have seen the world.

The loop is `cloud/model/train.py`, the same as in a round. A run leaves `OUT` (fp16 safetensors), `OUT` with the suffix
`.checkpoint` (to resume from; removed at the end) and its training curve as `.csv` and `.png` beside it. Its `.lock`
keeps a second run out.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.dataset import Batcher, Sample, load_samples
from culling.cloud.model.faster_rcnn.network import (
    STUDENT,
    TEACHER,
    build,
    deepen,
    freeze,
    load_resnet18,
    load_resnet50,
    reestimate_statistics,
)
from culling.cloud.model.recipe.augment import Augment
from culling.cloud.model.recipe.average import Average
from culling.cloud.model.recipe.balance import balanced
from culling.cloud.model.recipe.paste import Paste
from culling.cloud.model.recipe.prefetch import Prefetch
from culling.cloud.model.train import Recipe, Run, train
from culling.cloud.model.weights import read_tensors, save_weights
from culling.common.errors import InputError, ModelError
from culling.common.process.lock import only_one
from culling.common.progress import shown
from culling.common.scaler import STRIDE

STATISTICS_BATCHES = 50
"""Two hundred canvases: the running means of a trunk's norms settle well before."""


@dataclass(frozen=True)
class Pretraining:
    """All that decides a pre-training run.

    `until` maps a video's name to the fraction of it that may be learnt from, "" standing for every other video.
    `init` is an ImageNet trunk or an earlier detector of the same kind, a ResNet-50 one being deepened to ResNet-101.
    `depth`, `fpn_width` and `head_width` replace those of the bundled student or teacher.
    `canvases` are `(height, width)` in pixels; `frozen` counts the trunk's stages that keep their weights. An image
    whose source begins with a key of `weights` is drawn that many times as often as others, one without a box to
    learn `empty` times as often as one with. Images with a class that fewer than a share `balance` of them have are
    drawn more often. `fill`, `stretch`, `paste` and `augment` are the `Batcher`'s; batches are made ahead by so many
    `processes`. The weights that come out are the running average of those trained, by `average` a step, unless that
    is 0.
    """

    kind: Literal["student", "teacher"]
    labels: Sequence[Path]
    images: Sequence[Path]
    out: Path
    init: Path | None
    until: dict[str, float]
    recipe: Recipe
    canvases: Sequence[tuple[int, int]]
    batch: int = 4
    depth: int | None = None
    fpn_width: int | None = None
    head_width: int | None = None
    frozen: int = 1
    mosaic: float = 0.3
    jitter: tuple[float, float] = (0.7, 1.1)
    weights: dict[str, float] = field(default_factory=dict)
    empty: float = 1.0
    balance: float = 0.0
    fill: float = 0.0
    stretch: float = 0.0
    paste: float = 0.0
    augment: Augment | None = None
    average: float = 0.0
    processes: int = 0


def pretrain(run: Pretraining) -> Run:
    """Train, or go on training, and write the weights.

    Raises InputError or ModelError before any work is lost, and StorageError while another process trains into the
    same file: each would go on from the other's checkpoint.
    """
    _check(run)
    spec = STUDENT if run.kind == "student" else TEACHER
    torch.manual_seed(run.recipe.seed)  # layers that nothing fills must start alike when a run is resumed
    changed = {"depth": run.depth, "fpn_width": run.fpn_width, "head_width": run.head_width}
    model = build(replace(spec, **{name: value for name, value in changed.items() if value is not None}))
    fresh_trunk = _start(model, run.init)
    samples = load_samples(run.labels, run.images, lambda name: run.until.get(name, run.until.get("", 1.0)))
    batches = _batches(run, samples)
    lock = only_one(run.out.with_suffix(".lock"), f"pre-training of {run.out.name}")
    with lock if _is_first() else nullcontext():
        return _trained(run, model, fresh_trunk, len(samples), batches)


def _trained(run: Pretraining, model: FasterRCNN, fresh_trunk: bool, images: int, batches: Batcher) -> Run:
    checkpoint = run.out.with_suffix(".checkpoint")
    if fresh_trunk and run.kind == "student" and not checkpoint.exists():
        # Steps far beyond the run's own, so that the statistics do not come from the first batches alone.
        reestimate_statistics(model, [batches(10**6 + i)[0] for i in range(STATISTICS_BATCHES)])
    freeze(model, run.frozen)
    average = Average(model, run.average) if run.average else None
    with shown(f"{run.kind}, {images} images", "step", run.recipe.steps) as show:
        result = train(
            model,
            Prefetch(batches, run.processes) if run.processes else batches,
            run.recipe,
            checkpoint,
            lambda run, _: show(run.step, f", loss {recent_loss(run):.3f}"),
            average=average,
        )
    if average is not None:
        average.apply()
    if _is_first():
        save_weights(run.out, model, "fp16")
        write_curve(run.out, result)
        checkpoint.unlink()
    return result


def _is_first() -> bool:
    """Return whether this is the process that writes, of the several that `torchrun` starts."""
    return int(os.environ.get("RANK", 0)) == 0


def _batches(run: Pretraining, samples: list[Sample]) -> Batcher:
    batches = Batcher(samples, run.batch, run.canvases, run.jitter, run.mosaic, seed=run.recipe.seed)
    drawn = probabilities(batches, run.weights, run.empty)
    if run.balance:
        drawn = balanced(samples, drawn, run.balance)
    paste = Paste(samples, run.paste) if run.paste else None
    return replace(batches, probabilities=drawn, fill=run.fill, stretch=run.stretch, paste=paste, augment=run.augment)


def probabilities(batches: Batcher, weights: dict[str, float], empty: float) -> NDArray[np.float64]:
    """Return how likely each of the samples is drawn. Raises `InputError` where that leaves nothing to draw."""

    def weight(sample: Sample) -> float:
        matching = [value for prefix, value in weights.items() if sample.source.startswith(prefix)]
        return (matching[-1] if matching else 1.0) * (
            1.0 if (sample.detections.scores >= batches.score_floor).any() else empty
        )

    drawn = np.array([weight(sample) for sample in batches.samples])
    if not drawn.sum() > 0:
        raise InputError("every image has weight 0: nothing is left to draw")
    return np.asarray(drawn / drawn.sum(), np.float64)


def _check(run: Pretraining) -> None:
    for height, width in run.canvases:
        if height % STRIDE or width % STRIDE or min(height, width) < 2 * STRIDE:
            raise InputError(f"canvas {width}x{height}: sides must be multiples of {STRIDE}, at least {2 * STRIDE}")
    if not 0 < run.jitter[0] <= run.jitter[1]:
        raise InputError(f"jitter {run.jitter[0]:g} {run.jitter[1]:g}: expected LOW HIGH with 0 < LOW <= HIGH")
    if run.out.is_dir():
        raise InputError(f"{run.out}: is a folder; name the file to write")
    if run.out.suffix != ".safetensors":
        raise InputError(f"{run.out}: name a file that ends in .safetensors; its checkpoint and curve lie beside it")
    if not run.out.parent.is_dir():
        raise InputError(f"{run.out.parent}: no such folder to write {run.out.name} into")


def _start(model: FasterRCNN, init: Path | None) -> bool:
    """Fill `model` from `init`; return whether only its trunk was filled."""
    if init is None:
        return True
    weights, _ = read_tensors(init)
    try:
        if "backbone.body.conv1.weight" in weights:
            wanted = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
            model.load_state_dict(deepen(weights, wanted), strict=False)
            return False
        load = load_resnet50 if "layer1.0.conv3.weight" in weights else load_resnet18
        load(model, weights)
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{init}: weights of another architecture ({str(error).splitlines()[0]})") from None
    return True


def recent_loss(run: Run, window: int = 50) -> float:
    """Return the mean total loss of the last `window` steps."""
    return float(np.mean([sum(losses.values()) for losses in run.losses[-window:]]))


def write_curve(out: Path, run: Run) -> None:
    """Write the losses of every step as CSV and, smoothed, as PNG beside `out`."""
    from matplotlib.figure import Figure

    names = list(run.losses[0])
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *names])
        writer.writerows([i, *(f"{losses[n]:.5f}" for n in names)] for i, losses in enumerate(run.losses, 1))
    axes = (figure := Figure(figsize=(8, 4.5), layout="constrained")).subplots()
    window = max(1, len(run.losses) // 50)
    for name in names:
        values = np.convolve([losses[name] for losses in run.losses], np.ones(window) / window, mode="valid")
        axes.plot(np.arange(len(values)) + window, values, label=name.replace("_", " "))
    axes.set(xlabel="step", ylabel=f"loss, mean of {window} steps", ylim=(0, None), title=out.stem)
    axes.legend(frameon=False)
    figure.savefig(out.with_suffix(".png"), dpi=120)


def main() -> None:
    """Run as `torchrun -m culling.cloud.model.pretrain …`: the same command line as `culling pretrain`."""
    from culling.common import cli

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    sys.exit(cli.main(["pretrain", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
