"""`[student]`, `[resolution]` and `[publish]`: what cameras start with, how far it shrinks, how long it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from culling.common.config import Section


class StudentSettings(Section):
    """`[student]`: `weights` is "bundled" or a file, the model of a camera that has none; see `scaler.input_size`.

    `family` is the architecture (see `model/family.py`). Where a camera's student is of another one, its next round
    starts from `weights`, and is judged against what the camera has, as any round is.

    With `int8` rounds make students in 8 bits, for edges without a GPU (see `quantise.py`); a GPU gains nothing by it.
    """

    family: str = Field(
        default="faster-rcnn-resnet18",
        description="architecture of the students: `faster-rcnn-resnet18`, or `yolox`, a sixth to an eighth of the "
        "time on a CPU; a camera whose student is of another family changes with its next round",
    )
    weights: Literal["bundled"] | Path = Field(
        default="bundled",
        description="`bundled`, or a weights file of the family, safetensors, or for `yolox` ONNX: where every camera "
        "starts",
    )
    long_side: int = Field(
        default=640, ge=64, le=4096, description="pixels of the long side of a student's input at scale 1"
    )
    int8: bool = Field(default=False, description="ship the students of rounds in 8 bits, for edges without a GPU")


class ResolutionSettings(Section):
    """`[resolution]`: by `labels`, the smallest input at which every class surely loses at most `tolerance`; or,
    as in the paper, by `loss`, whose change, squared and relative, `threshold` bounds (see `round/scale.py`).
    """

    choose: Literal["labels", "loss"] = Field(
        default="labels",
        description="how the input's size is chosen: `labels`, by what the student in use loses of the teacher's "
        "labels at a smaller one; or `loss`, the paper's way, by how far its confidence loss changes",
    )
    tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="AP50, and AP50:95, that a class may lose by a smaller input, with 95 % certainty (`labels`); a "
        "class of fewer than 100 objects may lose more, by the root of what it lacks",
    )
    threshold: float = Field(
        default=0.05,
        ge=0,
        description="largest change of the confidence loss, squared and relative to its own size, that a smaller input "
        "may bring (`loss`); at ten times that, an input is not worth a look (`labels`)",
    )
    max_steps: int = Field(default=8, ge=0, le=32, description="most steps of 0.9 that the input may shrink by")
    min_scale: float = Field(default=0.4, gt=0, le=1, description="smallest scale that is tried")
    policy: Literal["paper", "zero-intercept", "reference", "per-object"] = Field(
        default="paper", description="form of the confidence loss that scales are compared by"
    )


class PublishSettings(Section):
    """`[publish]`: a manifest expires after `valid_days`; an unaccepted offer is repeated after `reoffer_s`.

    With `deltas`, an edge that has one of its camera's models is sent what changed since, where that is shorter.
    """

    valid_days: float = Field(
        default=365.0,
        gt=0,
        le=36_500,
        description="days until the offer of a model expires; a model that is in use runs on",
    )
    reoffer_s: float = Field(
        default=60.0, gt=0, description="seconds after which an offer that was not taken is repeated"
    )
    deltas: bool = Field(
        default=True,
        description="send an edge what changed since a model that it has, where that is shorter than the whole model; "
        "making it takes a core for some seconds, once for each model and each one that edges have",
    )
