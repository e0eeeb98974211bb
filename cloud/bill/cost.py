"""What a camera's student costs in GFLOPs (2 x multiply-adds) and seconds, beside what full training would have cost.

A bill has these parts, and leaves nothing out that computes:

edge         the student's passes over the frames that it looked at, at the input size that it ran at
labels       every frame that the teacher labelled: held-out frames, audits, and those to train on
answers      every frame on which it answered an edge that asked (a cascade)
zoo, score, cull, learn, resolution, train, export, gate     the stages of rounds, refused and failed ones too

**Full training** is the paper's (its table 1): the teacher labels every frame, and the student is trained on each of
them at full size, `PAPER_PASSES` times. Its frames are those that came to the student: neither those beyond a camera's
`max_fps` nor those of a frozen picture, which nobody wanted to be looked at.

Two ratios follow: full training over the whole bill, as in the paper's table 1, where the student's pass over every
frame is most of it; and over the bill without the edge's passes (*incremental*), which a camera with a detector makes
anyway. What is not known is nan, and so is every sum and ratio of it: there is no ratio without the whole bill.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

EDGE, LABELS, ANSWERS = "edge", "labels", "answers"
PARTS = (EDGE, LABELS, ANSWERS, "zoo", "score", "cull", "learn", "resolution", "train", "export", "gate")
"""The parts of a bill in the order of the loop; all but the first three are stages of a round."""

PAPER_PASSES = 40
"""How often the paper trains on each frame: 20 epochs of the frame and its mirror image."""

DAY_FRAMES = 86_400
"""The paper's day: one frame a second."""

Size = tuple[int, int]
"""`(height, width)` of an input in pixels."""


@dataclass(frozen=True)
class Cost:
    """Seconds on this machine, and GFLOPs on any; nan where not known."""

    seconds: float = 0.0
    gflops: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.gflops + other.gflops)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.seconds * times, self.gflops * times)

    def over(self, other: Cost) -> Cost:
        """Return this cost divided by `other`, in both units; infinite where `other` is 0."""
        return Cost(_ratio(self.seconds, other.seconds), _ratio(self.gflops, other.gflops))


NOTHING = Cost()
UNKNOWN = Cost(math.nan, math.nan)


class PassCost(msgspec.Struct, frozen=True):
    """The GFLOPs of one frame: `fixed`, for what is done with a fixed number of proposals, and `per_pixel` of input."""

    fixed: float
    per_pixel: float

    def gflops(self, size: Size) -> float:
        """Return what a frame of that input size costs; exact where both sides are multiples of 64."""
        return self.fixed + self.per_pixel * size[0] * size[1]


class StudentCost(msgspec.Struct, frozen=True):
    """What a student costs: to look at a frame, and to learn from it once, forward and backward."""

    look: PassCost
    learn: PassCost


@dataclass(frozen=True)
class PerImage:
    """The cost of one image at each stage; for `training`, of showing it once."""

    student: Cost
    teacher: Cost
    training: Cost


@dataclass(frozen=True)
class Bill:
    """The cost of one way to a trained student, by part; a part that is not named costs nothing."""

    parts: Mapping[str, Cost]

    @property
    def total(self) -> Cost:
        """All parts together."""
        return self.incremental + self.parts.get(EDGE, NOTHING)

    @property
    def incremental(self) -> Cost:
        """All parts but the student's passes at the edge."""
        return sum((cost for part, cost in self.parts.items() if part != EDGE), NOTHING)

    def __add__(self, other: Bill) -> Bill:
        both = {**self.parts, **other.parts}
        return Bill({part: self.parts.get(part, NOTHING) + other.parts.get(part, NOTHING) for part in both})


def full_bill(frames: float, passes: float, each: PerImage) -> Bill:
    """Return the cost of labelling every frame, and training on each `passes` times."""
    return Bill({LABELS: each.teacher * frames, "train": each.training * (frames * passes)})


def culled_bill(frames: int, labelled: int, kept: int, passes: float, each: PerImage, resolution: Cost) -> Bill:
    """Return the cost that the paper counts of culling `frames` to the `kept` hardest of the `labelled` ones."""
    training = each.training * (kept * passes)
    labels = each.teacher * min(labelled, frames)
    return Bill({EDGE: each.student * frames, LABELS: labels, "resolution": resolution, "train": training})


def _ratio(one: float, other: float) -> float:
    return one / other if other else math.inf
