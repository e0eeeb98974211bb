"""`[schedule]`, `[round]` and `[gate]`: when a round starts, what it trains on, and what may be published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from culling.common.config import LAST_SEED, Section


class ScheduleSettings(Section):
    """`[schedule]`: what starts a round. With `hold` only `culling cloud rounds CAMERA --start` does.

    `min_new` labelled frames since the last round; or the first of them older than `max_age_s`; or an AP50, as measured
    by audits, that fell by more than `drift`, and more than chance explains, all day or in a part of it. The last two
    want `least` frames, and the last one `first`. Until a round has found something to teach, `first` frames start one:
    a base student is worst, and `min_new` can take hours. A round that starts for new frames finds at least `CULLED`
    times as many as it keeps, or it would cull nothing.
    """

    hold: bool = Field(
        default=False, description="start no round by itself; `culling cloud rounds CAMERA --start` still does"
    )
    min_new: int = Field(
        default=256,
        ge=1,
        description="labelled frames since the last round that start one; at least twice `round.kept`, so that a round "
        "has something to cull",
    )
    first: int = Field(
        default=32,
        ge=1,
        description="labelled frames that start a round until one has found something to teach, and that must wait "
        "before `drift` starts one, if fewer than `min_new`",
    )
    max_age_s: float = Field(
        default=86_400.0, gt=0, description="age of the oldest labelled frame that waits, seconds, that starts one"
    )
    drift: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="fall of the measured AP50, all day or in a part of the day, beyond which one starts if chance "
        "does not explain it",
    )
    least: int = Field(
        default=16, ge=1, description="frames that must wait before `max_age_s` starts one; `drift` waits for `first`"
    )


class ExecutorSettings(Section):
    """`[executor]`: where rounds run, `parallel` of them at once, each in a process of its own.

    `local` is this machine: rounds that run at once divide its cores (or `round.threads`) and the memory of its GPUs.
    `ray` is a cluster of Ray, at `address`, that asks for a token (`RAY_AUTH_MODE=token`); a round takes `num_cpus` and
    `num_gpus` of it.
    """

    kind: Literal["local", "ray"] = Field(
        default="local", description="where rounds run: on this machine, or in a cluster of Ray (`culling[ray]`)"
    )
    parallel: int = Field(default=1, ge=1, le=1024, description="rounds that run at once, each of another camera")
    address: str = Field(
        default="auto", description="`ray`: the cluster, `HOST:PORT`; `auto` is the one that this machine is part of"
    )
    num_cpus: float = Field(
        default=1.0, gt=0, le=256, description="`ray`: cores that a round takes, and as many threads; a share below 1"
    )
    num_gpus: float = Field(
        default=0.0, ge=0, le=16, description="`ray`: GPUs that a round takes; below 1, that share of one's memory"
    )


CULLED = 2
"""A round keeps at most one in so many of the frames that it chooses from: one that keeps all would cull nothing."""


class RoundSettings(Section):
    """`[round]`: the `kept` frames of the pool that teach most by `policy` are trained on (n).

    Before that the student in use runs on at most `scored` frames of the pool that it has not seen. `mistakes` is all
    that is wrong on a frame in total (see `evaluation/mistakes.py`), `precision` the paper's 1 - AP. `replay_share` of
    the training set are other frames of the pool, of every hour and class. Training ends when the loss of frames that
    are kept aside has not fallen for `patience` steps, and after `most_steps` in any case. `frozen` counts the trunk's
    stages that keep their weights; `nice` is the niceness of its process, which is killed after `stall_s` seconds
    without a step: an export, the longest step there is, takes five minutes on two busy cores. `zoo` is how many
    earlier students are tried before all that, 0 for none (see `round/zoo/`). `interest` names the
    classes that frames are culled, scaled and gated by (none: all); every class is trained.
    """

    kept: int = Field(
        default=128,
        ge=1,
        le=4096,
        description="frames that a round trains on (n), of all that were labelled; at most half",
    )
    policy: Literal["mistakes", "precision"] = Field(
        default="mistakes",
        description="by what the frames that teach most are found: `mistakes`, all that is wrong on a frame in total, "
        "or `precision`, the paper's 1 - AP",
    )
    scored: int = Field(
        default=1024,
        ge=1,
        description="frames of the pool on which a round runs the student in use at most; what it found is kept for "
        "the next round",
    )
    replay_share: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="share of the training set that are other frames of the pool: a few of each hour of the day and "
        "each class, rare ones first",
    )
    spare_unseen: bool = Field(
        default=False,
        description="teach no background to classes that the held-out frames show and the training set lacks; "
        "`culling study unseen` says what that is worth on a clip",
    )
    zoo: int = Field(
        default=0,
        ge=0,
        le=24,
        description="students that a round tries on the newest labels before it trains: earlier ones of the camera, "
        "the last of each hour of the day, and those in use at its site; one that passes the gate is published again",
    )
    held_out: int = Field(default=64, ge=1, le=1024, description="most frames by which the gate judges")
    most_steps: int = Field(
        default=640,
        ge=1,
        le=1_000_000,
        description="steps of training at most; it ends before when the loss of the frames kept aside no longer falls",
    )
    patience: int = Field(
        default=80,
        ge=1,
        description="steps without a lower loss on the frames kept aside (a fifth of the training set, 32 at most) "
        "after which training cools down, for half as many steps, and ends; a set of fewer than 24 frames has none to "
        "keep aside, and takes twice as many steps",
    )
    int8_steps: int = Field(
        default=0,
        ge=0,
        description="last steps of training with weights and activations as they are in 8 bits, taught by the student "
        "as it was before them; only with `student.int8`",
    )
    distil: bool = Field(
        default=False,
        description="have the teacher teach a student more than its labels: what it says of the student's own "
        "proposals, and its features, which are kept while frames are labelled (`store.features_bytes`); only with a "
        "teacher that has features (`bundled`, also in an ensemble) and a Faster R-CNN student",
    )
    batch: int = Field(
        default=4, ge=1, le=64, description="frames per step of training; halved once where a GPU has no memory for it"
    )
    lr: float = Field(default=0.01, gt=0, description="peak learning rate")
    warmup: int = Field(default=20, ge=0, description="steps over which the learning rate rises")
    frozen: int = Field(default=1, ge=0, le=4, description="stages of the student's trunk that keep their weights")
    trained_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the student's weights that a round may change: those of the largest momentum after the "
        "warm-up, which changes nothing then; with 0.05 a model travels as a small part of its bytes "
        "(`publish.deltas`), and what it costs in precision is measured in tests/bench/README.md",
    )
    checkpoint_s: float = Field(
        default=30.0, gt=0, description="seconds between two checkpoints: the most training that a kill can cost"
    )
    seed: int = Field(default=0, ge=0, le=LAST_SEED, description="seed of batches and sampling")
    threads: int = Field(default=0, ge=0, le=256, description="threads of a round; 0: as many as there are cores")
    nice: int = Field(
        default=5,
        ge=0,
        le=19,
        description="how far a round steps back before other work on the machine, as in `nice`; the process that "
        "labels steps back 5 further",
    )
    stall_s: float = Field(
        default=900.0,
        ge=1,
        description="seconds without a step of its process after which a round is killed and tried once more; the "
        "process that labels is replaced after as long",
    )
    interest: tuple[str, ...] = Field(
        default=(),
        description="classes that frames are culled, scaled and gated by; an empty list: all, as for a camera whose "
        "set has none of them. Every class is trained",
    )

    @model_validator(mode="after")
    def _moves_weights(self) -> Self:
        if self.trained_share < 1:
            if self.warmup >= (least := min(self.patience, self.most_steps)):
                raise ValueError(
                    f"warmup is {self.warmup}: below a trained_share of 1 it moves no weight, so it must be less than "
                    f"patience and most_steps ({least})"
                )
            if self.int8_steps:
                raise ValueError("int8_steps changes every weight: leave it at 0, or trained_share at 1")
        return self

    def labels_of_interest(self, classes: Sequence[str]) -> list[int] | None:
        """Return which of `classes` are of interest, by their indices; None for every one."""
        return [classes.index(name) for name in self.interest if name in classes] or None


class GateSettings(Section):
    """`[gate]`: the candidate's AP50 must certainly exceed the incumbent's by `margin`, on `least` held-out frames.

    `certainty` is that of a one-sided bound; .5 takes the likelier of the two. No class, no part of the day and no
    false alarm may be worse by more than `worse` (see `evaluation/comparison.py`). A class that the incumbent does not
    find at all must be `found` (see `evaluation/relisted.py`).
    """

    margin: float = Field(
        default=0.0,
        ge=-1,
        le=1,
        description="AP50 by which a candidate must exceed the model in use for certain: the lower bound of its gain",
    )
    least: int = Field(
        default=16,
        ge=1,
        description="held-out frames that are needed to judge at all; a round does not start with fewer",
    )
    certainty: float = Field(
        default=0.95, ge=0.5, lt=1, description="certainty of each one-sided bound; 0.5 takes the likelier of the two"
    )
    worse: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="AP50 by which no class of interest and no part of the day may be worse, false alarms likewise",
    )
    found: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="AP50 from which a class counts as found that the model in use does not look for",
    )
