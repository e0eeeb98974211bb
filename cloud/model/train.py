"""The training loop, the same for pre-training and for a round: one CPU, one GPU, or several under `torchrun`.

    culling pretrain student --labels a.jsonl --images data --out student.safetensors
    torchrun --nproc-per-node 4 -m culling.cloud.model.pretrain student …

A checkpoint holds the weights, the momentum, the step, what a watch saw and kept, which weights may move if not all,
and what a loss has learnt; it is replaced atomically.
Batches and sampling depend on the seed and the step alone, so a run killed at any moment goes on exactly where its last
checkpoint stood, and ends where an unbroken one does.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from culling.cloud.model.family import family_of
from culling.cloud.model.half import half_precision
from culling.cloud.model.recipe.average import Average
from culling.cloud.model.recipe.prefetch import Batches
from culling.cloud.model.recipe.share import Share
from culling.cloud.model.recipe.watch import Looks, Watch, plateau
from culling.cloud.model.target import Target
from culling.common.errors import ModelError, TrainingError


@dataclass(frozen=True)
class Recipe:
    """How to train: `steps` of SGD with linear warm-up and cosine decay of the rate `lr` to zero.

    With a `cooldown` the rate stays up, and falls linearly to zero over that many steps at the end: a run whose end
    is not known yet can be cooled down from any of its checkpoints. With a `patience`, `steps` are the most: a run that
    is watched cools down and ends once its looks have found nothing better for so many steps. Below 1, only a `share`
    of the weights moves, after the warm-up.
    """

    steps: int
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: int = 100
    clip: float = 10.0
    checkpoint_every_s: float = 120.0
    seed: int = 0
    cooldown: int | None = None
    patience: int | None = None
    share: float = 1.0

    @property
    def look_every(self) -> int:
        """Steps between two looks: a few within the patience, so that one that is off by chance decides nothing."""
        return max(1, (self.patience or 1) // 4)

    def end(self, looks: Looks = ()) -> int:
        """Return how many steps the run has, as far as its looks tell by now."""
        found = None if self.patience is None else plateau(looks, self.patience)
        return self.steps if found is None else min(self.steps, found + (self.cooldown or 0))

    def rate(self, step: int, looks: Looks = ()) -> float:
        """Return the learning rate of `step`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        if self.cooldown is None:
            return self.lr * warm * 0.5 * (1 + math.cos(math.pi * step / max(1, self.steps)))
        return self.lr * warm * min(1.0, (self.end(looks) - step) / max(1, self.cooldown))


@dataclass
class Run:
    """The state of a run between two steps; `losses` holds one mapping of loss name to value for every step done.

    `looks` are those of its watch: steps, and the loss after each of them.
    """

    step: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)
    looks: list[tuple[int, float]] = field(default_factory=list)


Loss = Callable[[nn.Module, Tensor, list[Target]], dict[str, Tensor]]
"""What a batch costs a model: images `(B, 3, H, W)` float in [0, 1] and their targets; scalars by name."""


class _Step(nn.Module):
    """The loss as a module, which is what DistributedDataParallel synchronises."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        return self._loss(self.model, images, targets)


def train(
    model: nn.Module,
    batches: Batches,
    recipe: Recipe,
    checkpoint: Path,
    on_step: Callable[[Run, float], None] = lambda run, seconds: None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    average: Average | None = None,
    watch: Watch | None = None,
    loss: Loss | None = None,
) -> Run:
    """Train `model` in place, resuming from `checkpoint` if it is there; leave the last state in it.

    `average`, made of the same model once what learns is decided, follows its weights and is kept in the checkpoint.
    So is `watch`, which looks before the first step, every `look_every` steps and after the last one.

    What is lowered is the family's loss, or another `loss`; one that is a module learns as well, and is kept in the
    checkpoint.

    Returns early, with a checkpoint, when `stop()` turns true. Raises `TrainingError` on a loss that is not finite;
    the checkpoint, if one was written by then, still holds the last good state.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    device = torch.device(gpu if torch.cuda.is_available() else "cpu")
    model.to(device).to(memory_format=torch.channels_last).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    beside = loss if isinstance(loss, nn.Module) else None
    if beside is not None:
        parameters += beside.to(device).parameters()
    optimizer = torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    if average is not None:
        average.start({})
    if watch is not None:
        watch.start({})
    share = Share(model, recipe.share) if recipe.share < 1 else None
    if share is not None:
        share.start({})
    pace = family_of(model).rate
    run = load_checkpoint(checkpoint, model, optimizer, average, watch, share, beside) if checkpoint.exists() else Run()
    step_loss: nn.Module = _Step(model, loss or family_of(model).loss)
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        step_loss = nn.parallel.DistributedDataParallel(step_loss)
    saved = clock()
    _look(watch, recipe, run)
    while run.step < recipe.end(run.looks) and not stop():
        started = clock()
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(run.step, run.looks) * pace
        torch.manual_seed(recipe.seed * 1_000_003 + run.step * world + rank)
        images, targets = batches(run.step, rank)
        images = images.to(device, memory_format=torch.channels_last)
        with half_precision(device):
            losses = step_loss(images, [target.to(device) for target in targets])
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(parameters, recipe.clip)
        if not torch.isfinite(total.detach() + norm):
            found = f"loss is {total.item()}, its gradient {norm.item()} at step {run.step}"
            again = f"resume {checkpoint}" if checkpoint.exists() else "start again"
            raise TrainingError(f"{found}; lower the rate and {again}")
        optimizer.step()
        run.step += 1
        if share is not None:
            share.hold()
            if run.step >= recipe.warmup and not share.chosen:
                share.choose(optimizer)
        if average is not None:
            average.update(run.step)
        run.losses.append({name: float(value.detach()) for name, value in losses.items()})
        _look(watch, recipe, run)
        on_step(run, clock() - started)
        if rank == 0 and clock() - saved >= recipe.checkpoint_every_s:
            save_checkpoint(checkpoint, model, optimizer, run, average, watch, share, beside)
            saved = clock()
    if rank == 0:
        save_checkpoint(checkpoint, model, optimizer, run, average, watch, share, beside)
    if world > 1:
        distributed.destroy_process_group()
    return run


def _look(watch: Watch | None, recipe: Recipe, run: Run) -> None:
    """Look if it is time to, and if a run that is resumed has not looked at this step already."""
    if watch is None or (run.looks and run.looks[-1][0] == run.step):
        return
    if run.step % recipe.look_every == 0 or run.step >= recipe.end(run.looks):
        watch.look(run.looks, run.step)


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.SGD,
    run: Run,
    average: Average | None = None,
    watch: Watch | None = None,
    share: Share | None = None,
    beside: nn.Module | None = None,
) -> None:
    """Replace `path` atomically by the current state."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        if (buffer := optimizer.state[parameter].get("momentum_buffer")) is not None:
            tensors[f"momentum.{index}"] = buffer.contiguous()
    tensors |= {f"average.{k}": v.contiguous() for k, v in (average.tensors if average else {}).items()}
    tensors |= {f"best.{k}": v.contiguous() for k, v in (watch.tensors if watch else {}).items()}
    tensors |= {f"share.{k}": v.contiguous() for k, v in (share.tensors if share else {}).items()}
    tensors |= {f"beside.{k}": v.contiguous() for k, v in (beside.state_dict() if beside else {}).items()}
    partial = path.with_suffix(".partial")
    told = {"step": str(run.step), "losses": json.dumps(run.losses), "looks": json.dumps(run.looks)}
    save_file(tensors, partial, told)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.SGD,
    average: Average | None = None,
    watch: Watch | None = None,
    share: Share | None = None,
    beside: nn.Module | None = None,
) -> Run:
    """Put the state saved in `path` into all of these; what it has no average of starts one.

    Momentum follows its parameter by place: a run resumed with other stages frozen goes on without any.
    Raises `ModelError` if the state is of another model.
    """
    try:
        with safe_open(path, "pt") as file:
            keys = file.keys()
            meta = file.metadata()
            model.load_state_dict({k[6:]: file.get_tensor(k) for k in keys if k.startswith("model.")})
            parameters = optimizer.param_groups[0]["params"]
            if sum(k.startswith("momentum.") for k in keys) == len(parameters):
                for index, parameter in enumerate(parameters):
                    buffer = file.get_tensor(f"momentum.{index}").to(parameter.device)
                    if buffer.shape != parameter.shape:
                        raise RuntimeError("momentum of other parameters")
                    optimizer.state[parameter]["momentum_buffer"] = buffer
            if average is not None:
                average.start({k[8:]: file.get_tensor(k) for k in keys if k.startswith("average.")})
            if watch is not None:
                watch.start({k[5:]: file.get_tensor(k) for k in keys if k.startswith("best.")})
            if share is not None:
                share.start({k[6:]: file.get_tensor(k) for k in keys if k.startswith("share.")})
            if beside is not None:
                beside.load_state_dict({k[7:]: file.get_tensor(k) for k in keys if k.startswith("beside.")})
            step, losses = int(meta["step"]), json.loads(meta["losses"])
            return Run(step, losses, [(int(at), float(loss)) for at, loss in json.loads(meta.get("looks", "[]"))])
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: not a checkpoint of this model ({reason}); remove it to start again") from None
