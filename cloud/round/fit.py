"""The fit stage (`train` in the index): train the camera's student on the culled set, until that is done.

It starts from the weights in use, and copes with a stop, a damaged checkpoint, and a GPU too small for a batch. Some
of the frames are kept aside (`aside.py`): once their loss stops falling, the rate falls to zero and the training ends,
with the weights of which that loss was lowest.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
import torch
from safetensors import SafetensorError
from torch import nn

from culling.cloud.bill.count import student_cost
from culling.cloud.model.base import first_student
from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.family import family_of
from culling.cloud.model.half import half_precision
from culling.cloud.model.recipe.apprentice import Apprentice
from culling.cloud.model.recipe.watch import Watch, best, plateau
from culling.cloud.model.train import Loss, Recipe, Run, train
from culling.cloud.model.weights import load_weights, save_weights
from culling.cloud.round.aside import keep_aside
from culling.cloud.round.context import Context, Result, Results, StoppedError, frame_size, labels
from culling.cloud.round.distil.distil import distilled, lessons_of
from culling.cloud.round.scale import FACTOR
from culling.cloud.settings import CloudSettings, RoundSettings
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.rounds import Round
from culling.common.errors import ModelError, StorageError, TrainingError
from culling.common.scaler import input_size

log = structlog.get_logger(__name__)

Start = Callable[[], nn.Module]
OnStep = Callable[[Run, float], None]
MakeWatch = Callable[[nn.Module], Watch]
MakeLoss = Callable[[nn.Module], Loss]

CURVE_POINTS = 80
"""The index keeps every round's curve, which must stay small however long a round trains."""

APPRENTICE_RATE = 0.1
"""Of a round's learning rate, in 8 bits."""

JITTER = (0.85, 1.15)
"""Range of the random zoom: a fixed camera's objects keep their size, so it is narrower than in pre-training."""


def fit(context: Context, turn: Round, results: Results) -> Result:
    """Train from the newest weights of the camera, or from those of an earlier student that does better on the newest
    labels; a run that was cut short resumes from its checkpoint.
    """
    settings = context.settings.round
    frames = context.settled(turn.camera, context.store.get(results["cull"]["kept"] + results["cull"]["replay"]))
    learnt, watched = _divided(list(context.pictures(frames)))
    sizes = canvases(frame_size(frames), results["resolution"]["scale"], context.settings.student.long_side)
    judges = context.settled(turn.camera, context.store.get(results["label"]["held_out"]))
    spared = unseen(frames, judges, context.settings.teacher.true_score) if settings.spare_unseen else ()
    batches = round_batches(context.settings, learnt, sizes, settings.seed + turn.id, spared)
    recipe = round_recipe(settings, len(watched))
    started = time.monotonic()
    heart, eight = context.heart, settings.int8_steps if context.settings.student.int8 else 0
    heart.expect(recipe.steps + eight)
    taught, told = lessons_of(context, [sample.source for sample in learnt]) if settings.distil else (None, {})
    model, run = retrain(
        lambda: start_from(context, turn.camera, results.get("zoo", {}).get("start")),
        batches,
        recipe,
        context.folder / "train.checkpoint",
        context.stopping,
        lambda run, _: heart.reach(run.step),
        partial(watch_over, batches, watched) if watched else None,
        None if taught is None else distilled(*taught, batches),
    )
    if run.step < recipe.end(run.looks):
        raise StoppedError
    if eight:
        model = _in_int8(context, model, batches, eight, lambda last, _: heart.reach(run.step + last.step))
    train_s = round(time.monotonic() - started, 1)
    path = context.folder / "candidate.safetensors"
    save_weights(path, model, "fp16", context.classes)
    cost = student_cost(model, settings.frozen)  # its family may be another than that of the student in use
    for step in (*range(run.step), *range(eight)):
        context.work.learn(cost, batches.size(step), batches.batch)
    for step in range(eight):  # its tutor looks at all of it, too
        context.work.look(cost, batches.size(step), batches.batch)
    context.work.look(cost, sizes[0], len(run.looks) * len(watched))
    return {
        "steps": run.step,
        "most_steps": recipe.steps,
        "best_step": best(run.looks) if run.looks else run.step,
        "ended": why_ended(run, recipe, len(learnt), len(watched)) + (f", then {eight} in 8 bits" if eight else ""),
        "train_s": train_s,
        "losses": _curve(run),
        "looks": [(step, round(loss, 4)) for step, loss in run.looks],
        "spared": [context.classes[label] for label in spared],
        **({"distilled": told} if settings.distil else {}),
        "weights": context.files.add(path.read_bytes(), "safetensors"),
    }


def _in_int8(context: Context, trained: nn.Module, batches: Batcher, steps: int, on_step: OnStep) -> nn.Module:
    """Return what becomes of a student in so many more steps in 8 bits. Raises StoppedError."""
    recipe, checkpoint = apprentice_recipe(context.settings.round, steps), context.folder / "int8.checkpoint"
    model, run = retrain(
        lambda: copy.deepcopy(trained), batches, recipe, checkpoint, context.stopping, on_step, loss=apprentice(batches)
    )
    if run.step < steps:
        raise StoppedError
    return model


def unseen(frames: Sequence[StoredFrame], judges: Sequence[StoredFrame], true_score: float) -> tuple[int, ...]:
    """Return the classes that the camera's judges show, but none of the frames to be trained on; the scores are true
    from `true_score` on.

    Their exemplars left the pool, or came while a block was held out. Frames without any would teach that there is
    none: to these classes no background is taught.
    """
    taught, shown = (
        {int(label) for frame in some for label in labels(frame).above(true_score).labels} for some in (frames, judges)
    )
    return tuple(sorted(shown - taught))


def _divided(found: Sequence[tuple[StoredFrame, bytes]]) -> tuple[list[Sample], list[Sample]]:
    """Return what is learnt, and what is kept aside to see when that is done."""
    samples = [Sample(jpeg, frame.width, frame.height, labels(frame), frame.id) for frame, jpeg in found]
    aside = set(keep_aside([frame.captured for frame, _ in found]))
    return [one for at, one in enumerate(samples) if at not in aside], [samples[at] for at in sorted(aside)]


def canvases(frame: tuple[int, int], scale: float, long_side: int, full: float = 1.0) -> list[tuple[int, int]]:
    """Return the input sizes to train at, for frames of `(width, height)`.

    They are the size at `scale`, one step smaller, and at `full`, which the next round compares scales with.
    """
    return list(dict.fromkeys(input_size(*frame, each, long_side) for each in (scale, scale * FACTOR, full)))


def round_batches(
    settings: CloudSettings,
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    seed: int,
    spared: tuple[int, ...] = (),
) -> Batcher:
    """Return the batches that a round trains on; nothing is background to the classes `spared`."""
    return Batcher(
        samples,
        settings.round.batch,
        sizes,
        JITTER,
        score_floor=settings.teacher.true_score,
        ignore_floor=settings.teacher.min_score,
        seed=seed,
        spared=spared,
    )


def round_recipe(settings: RoundSettings, watched: int) -> Recipe:
    """Return how a round trains that keeps so many frames aside.

    Without any, nothing tells when it is done: it takes twice the patience, and its rate falls all the way.
    """
    patience = min(settings.patience, settings.most_steps)
    if not watched:
        return fixed_recipe(settings, min(settings.most_steps, 2 * patience), settings.seed)
    recipe = fixed_recipe(settings, settings.most_steps, settings.seed)
    return replace(recipe, cooldown=patience // 2, patience=patience)


def fixed_recipe(settings: RoundSettings, steps: int, seed: int) -> Recipe:
    """Return how so many steps are trained as a round does, whatever comes of them."""
    recipe = Recipe(steps, settings.lr, warmup=settings.warmup, checkpoint_every_s=settings.checkpoint_s, seed=seed)
    return replace(recipe, share=settings.trained_share)


def apprentice(batches: Batcher) -> MakeLoss:
    """Return what makes of a student its losses in 8 bits; the first batch shows what can be rounded."""
    return lambda model: Apprentice(model, *batches(0))


def apprentice_recipe(settings: RoundSettings, steps: int) -> Recipe:
    """Return how so many last steps are trained in 8 bits: the student is trained already, so the rate is lower."""
    return replace(fixed_recipe(settings, steps, settings.seed), lr=settings.lr * APPRENTICE_RATE, share=1.0)


def why_ended(run: Run, recipe: Recipe, learnt: int, watched: int) -> str:
    """Return in words why a training took as many steps as it did."""
    if not watched:
        return f"{run.step} steps: of {learnt} frames none can be kept aside to see when it is done"
    found = plateau(run.looks, recipe.patience or 0)
    kept = f"best after {best(run.looks)}, by {watched} frames kept aside"
    if found is None or found >= recipe.steps:
        return f"all of {recipe.steps} steps, {kept}"
    return f"plateau after {found} of at most {recipe.steps} steps, {run.step} with the cool-down, {kept}"


def watch_over(batches: Batcher, watched: Sequence[Sample], model: nn.Module) -> Watch:
    """Return a watch over `model` by its mean loss on frames that are not in `batches`, at the size it is meant for."""
    plain = replace(batches, batch=1, canvases=batches.canvases[:1], jitter=(1.0, 1.0))
    return Watch(model, lambda: _mean_loss(model, [replace(plain, samples=[sample]) for sample in watched]))


@torch.no_grad()
def _mean_loss(model: nn.Module, each: Sequence[Batcher]) -> float:
    device, total = next(model.parameters()).device, 0.0
    for number, batches in enumerate(each):
        images, targets = batches(0)
        torch.manual_seed(number)  # the same anchors are drawn at every look
        with half_precision(device):
            losses = family_of(model).loss(model, images.to(device), [target.to(device) for target in targets])
        total += sum(float(value) for value in losses.values())
    return total / len(each)


def retrain(
    start: Start,
    batches: Batcher,
    recipe: Recipe,
    checkpoint: Path,
    stop: Callable[[], bool] = lambda: False,
    on_step: OnStep = lambda run, seconds: None,
    watch: MakeWatch | None = None,
    loss: MakeLoss | None = None,
) -> tuple[nn.Module, Run]:
    """Train the model that `start` makes; return it and its run, which after a `stop` has fewer steps than it should.

    With a `watch` of that model it ends with the best of its weights, else with the last. With a `loss` made of it,
    that is lowered, else the family's own.

    A `checkpoint` that can be read is resumed. If the GPU has no memory for a batch, half a batch is tried once. Raises
    TrainingError if that does not fit either, StorageError if the checkpoint cannot be written.
    """
    for size in (batches.batch, max(1, batches.batch // 2)):
        try:
            return _resume(start, replace(batches, batch=size), recipe, checkpoint, stop, on_step, watch, loss)
        except torch.OutOfMemoryError:
            log.warning("training_out_of_memory", batch=size)
        torch.cuda.empty_cache()
    raise TrainingError(f"the GPU has no memory for a batch of {size}: lower round.batch or student.long_side")


def _resume(
    start: Start,
    batches: Batcher,
    recipe: Recipe,
    checkpoint: Path,
    stop: Callable[[], bool],
    on_step: OnStep,
    watch: MakeWatch | None,
    loss: MakeLoss | None,
) -> tuple[nn.Module, Run]:
    for attempt in ("resumed", "restarted"):
        model = start()
        eyes, lowered = watch(model) if watch else None, loss(model) if loss else None
        try:
            run = train(model, batches, recipe, checkpoint, on_step, stop=stop, watch=eyes, loss=lowered)
            if eyes is not None:
                eyes.apply()
            return model, run
        except ModelError:
            if attempt == "restarted" or not checkpoint.exists():
                raise
            checkpoint.unlink()  # it is damaged: its steps are worth less than the round
        except SafetensorError as error:
            raise StorageError(f"cannot write {checkpoint}: {error}") from None
    raise AssertionError


def _curve(run: Run) -> list[tuple[int, float]]:
    """Return the training curve as at most `CURVE_POINTS` (step, mean loss since the point before)."""
    sums = [sum(losses.values()) for losses in run.losses]
    stride = max(1, math.ceil(len(sums) / CURVE_POINTS))
    parts = [sums[start : start + stride] for start in range(0, len(sums), stride)]
    return [(index * stride + len(part), round(sum(part) / len(part), 4)) for index, part in enumerate(parts)]


def start_from(context: Context, camera: str, weights: str | None = None) -> nn.Module:
    """Return the student that a round trains: that of the `weights` with this hash, else the camera's newest; or where
    every camera starts, if that is of another family, knows more of the classes that are wanted now, or all the
    camera's models were published as ONNX.

    Where a class is new to both, training starts from the latter: the former was taught that it is background.
    """
    wanted, family = context.classes, context.settings.student.family
    newest = _newest(context, camera) if weights is None else _kept(context, weights)
    if newest is None or family_of(newest[0]).name != family:
        model, known = first_student(context.settings, wanted)
        log.info("base_started_from", camera=camera, family=family)
    else:
        model, known = newest
        if missing := _missing(wanted, known):
            first, finds = first_student(context.settings, wanted)
            if _missing(wanted, finds) <= missing:
                model, known = first, finds
    if known != wanted:
        log.info("student_relisted", camera=camera, classes=list(wanted), new=sorted(_missing(wanted, known)))
        model = family_of(model).relist(model, known, wanted)
    family_of(model).freeze(model, context.settings.round.frozen)
    return model


def _missing(wanted: Sequence[str], known: Sequence[str]) -> set[str]:
    return set(wanted) - set(known)


def _newest(context: Context, camera: str) -> tuple[nn.Module, tuple[str, ...]] | None:
    for known in context.registry.models(camera):
        weights, usable = known.artefact.weights, known.state in ("live", "previous", "retired")
        if usable and weights is not None and context.files.path(weights, "safetensors").exists():
            return _kept(context, weights)
    return None


def _kept(context: Context, weights: str) -> tuple[nn.Module, tuple[str, ...]]:
    context.files.read(weights, "safetensors")  # raises if its bytes are damaged
    return load_weights(context.files.path(weights, "safetensors"))
