"""A family of students: all that the loop has to know of an architecture, found by name.

    [project.entry-points."culling.students"]
    yolox = "culling.cloud.model.yolox.family:YOLOX"

A weights file names its family; so whatever loads weights gets the architecture with them, and a camera changes its
family by a round like any other. A family under another licence is another package with such an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from culling.cloud.model.target import Target
from culling.common.errors import ModelError

STUDENTS = "culling.students"
"""The group of entry points that names families."""

Found = tuple[Tensor, Tensor, Tensor]
"""What a model finds in one image: boxes `(n, 4)` xyxy, scores `(n,)`, best first, and labels `(n,)`, 0-based."""


@dataclass(frozen=True)
class Pass:
    """What a pass of a batch computed on the way to its `losses`, scalars by name, for who teaches a student more.

    `levels` are those of the pyramid, `(B, C, h, w)`, the finest first. The rest is of the proposals that its box head
    was taught at: `boxes` `(n, 4)` of each image, and of all R of them `logits` `(R, 1 + classes)`, the background
    first, `offsets` `(R, 1 + classes, 4)`, and `labels` `(R,)`, 0 for background, with their `goals` `(R, 4)`,
    `weights` `(R,)`, and `hard` `(R,)`, what each adds to the loss of classes.
    """

    losses: dict[str, Tensor]
    levels: list[Tensor]
    boxes: list[Tensor]
    logits: Tensor
    offsets: Tensor
    labels: Tensor
    goals: Tensor
    weights: Tensor
    hard: Tensor


@dataclass(frozen=True)
class Family:
    """What one architecture is made of; `model` below is an instance of `kind`.

    Images are `(B, 3, H, W)` float in [0, 1], RGB, H and W multiples of `scaler.STRIDE`.
    """

    name: str
    kind: type[nn.Module]
    build: Callable[[Mapping[str, Tensor], tuple[str, ...]], Any]
    """Return an untrained model for these classes, in the dimensions that the tensors of a weights file have."""

    classes: Callable[[Any], int]
    """Return how many classes a model finds."""

    loss: Callable[[Any, Tensor, list[Target]], dict[str, Tensor]]
    """Return the losses of a batch of images, scalars by name."""

    find: Callable[[Any, Tensor], Iterator[Found]]
    """Yield what a model in evaluation mode finds in each image: what a graph is compared with."""

    graph: Callable[[Any], nn.Module]
    """Return the module that is exported: see `export.export_student` for what goes in and comes out."""

    fold: Callable[[Any], Any]
    """Return a copy on the CPU, in evaluation mode, whose tensors are those that its graph has."""

    pyramid: Callable[[Any], nn.Module]
    """Return the part of a model that gives the levels of its feature pyramid, a tuple of them or a mapping."""

    freeze: Callable[[Any, int], None]
    """Freeze the stem and so many stages of the trunk; everything else learns."""

    relist: Callable[[Any, Sequence[str], Sequence[str]], Any]
    """Return a model whose classes are the second argument as one of the third: everything but the rows of new names is
    kept, and those find nothing until they have learnt.
    """

    cut: Callable[[Any], tuple[float, int]]
    """Return the score below which a model gives nothing, and how many detections it gives per image at most."""

    read: Callable[[Path, tuple[str, ...]], Any] | None = None
    """Return a model for these classes from an ONNX file that others made; None if that cannot be."""

    student: Callable[[Any], bool] = lambda model: True
    """Return whether a model is made for the edge: the reference family has teachers too."""

    passing: Callable[[Any, Tensor, list[Target]], Pass] | None = None
    """Return the losses of a batch with what they come from; None where a student cannot be distilled."""

    rate: float = 1.0
    """Multiplies the learning rate of a recipe, which is that of the reference family."""


@cache
def families() -> dict[str, Family]:
    """Return every family that is installed, by name. Raises ModelError naming an entry that is none."""
    found = {}
    for entry in entry_points(group=STUDENTS):
        family = entry.load()
        if not isinstance(family, Family):
            raise ModelError(f"the entry {entry.name!r} of {STUDENTS} is {entry.value}, which is no family of students")
        if entry.name != family.name:
            raise ModelError(
                f"the entry {entry.name!r} of {STUDENTS} is a family called {family.name!r}: give both one name"
            )
        found[family.name] = family
    return found


def family_named(name: str) -> Family:
    """Return the family of that name. Raises ModelError naming those that there are."""
    try:
        return families()[name]
    except KeyError:
        raise ModelError(
            f"no family of students is called {name!r}; there are {', '.join(sorted(families()))}"
        ) from None


def family_of(model: nn.Module) -> Family:
    """Return the family that a model belongs to. Raises ModelError if it belongs to none."""
    for family in families().values():
        if isinstance(model, family.kind):
            return family
    raise ModelError(f"{type(model).__name__} belongs to no family of students")
