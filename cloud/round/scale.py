"""The scale stage (`resolution` in the index): optResolution, section 2.3 of the paper, by labels or by losses.

It finds the smallest input that a fixed camera's objects need. Each step shrinks the input by 0.9.

labels   the smallest input at which the student in use loses next to nothing by the teacher's labels (`shrink.py`); a
         change of the confidence loss far beyond the threshold only says which inputs are not worth a look
loss     the paper's: the last one before the confidence loss of the culled frames differs by more than the threshold
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from culling.cloud.bill.cost import StudentCost
from culling.cloud.evaluation.tally import Tally, tallies
from culling.cloud.round.context import Context, Result, Results, frame_size
from culling.cloud.round.shrink import SizeComparison, SizeVerdict, enough, smallest, told
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.rounds import Round
from culling.common.frame import Detections
from culling.common.graph import Graph
from culling.common.scaler import input_size
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.wire.codec import decode_jpeg

FACTOR = 0.9
"""The paper's step."""

PROBED = 16
"""Frames that are seen at every scale; the others only at those that are worth it."""

FAR = 10.0
"""Times the threshold by which the loss may change at a scale that is worth a look."""

BLOCK_S = 10.0
"""Frames within so many seconds resemble each other, and are drawn together."""

Measure = Literal["mse", "mean", "normalised"]
Size = tuple[int, int]
Picture = NDArray[np.uint8]
Inputs = Mapping[int, tuple[float, Size]]
"""Scales and input sizes `(height, width)` by their k, full size first."""


@dataclass(frozen=True)
class ScalePoint:
    """One step of the curve: the input `size` `(height, width)` at `scale` and how far its losses are from full size.

    `mse` is the paper's sum over frames of squared differences, `mean` the same per frame, and `normalised` that mean
    over the mean square of the full-size losses: 0.01 means that losses are off by a tenth. Why it is not over their
    variance: `docs/adr/0005`.
    """

    k: int
    scale: float
    size: tuple[int, int]
    mse: float
    mean: float
    normalised: float


@dataclass(frozen=True)
class ScaleCurve:
    """Every scale that was tried, full size first (the last may be too small), and the one to use."""

    points: tuple[ScalePoint, ...]
    chosen: ScalePoint


@dataclass(frozen=True)
class ScaleTrial:
    """Labelled frames that inputs are compared on, named by their index, each of a block of time.

    `pictures` yields those of the given frames that can be read, `find` is a student at an input size, `loss` its
    confidence loss, and `tally` what of its detections is right; `labels` are the classes of interest and their names.
    """

    blocks: Sequence[int]
    pictures: Callable[[Sequence[int]], Iterator[tuple[int, Picture]]]
    find: Callable[[Picture, Size], Detections]
    loss: Callable[[Detections], float]
    tally: Callable[[int, Detections], Sequence[Tally]]
    labels: Mapping[int, str]


@dataclass(frozen=True)
class Search:
    """Every scale that was worth a look, with its verdict where one could be given, the one to use and `why`.

    `passes` is what it cost, in student's passes at full size.
    """

    points: tuple[ScalePoint, ...]
    verdicts: tuple[SizeVerdict, ...]
    chosen: ScalePoint
    why: str
    passes: float

    def told(self) -> Result:
        """Return it as the stage's result."""
        judged = [
            {"ap50": round(each.ap50, 4), "ap50_95": round(each.ap50_95, 4), "passed": each.passed}
            for each in self.verdicts
        ]
        curve = [
            asdict(point) | (judged[at] if judged else dict.fromkeys(("ap50", "ap50_95", "passed")))
            for at, point in enumerate(self.points)
        ]
        figures = {"scale_why": self.why, "scale_passes": round(self.passes, 1)}
        return {"scale": self.chosen.scale, "size": self.chosen.size, "curve": curve} | figures


def scale(context: Context, turn: Round, results: Results) -> Result:
    """Find the smallest scale that is good enough for the live student, by the policy of the settings."""
    settings = context.settings.resolution
    live = context.incumbent(turn.camera)
    graph, cost = context.graph(live.artefact.sha256), context.cost(live)
    chosen = context.store.get(results["cull"]["kept"] + results["cull"]["replay"])
    frames, names = context.settled(turn.camera, chosen), set(results["cull"]["kept"])
    kept = [frame for frame in frames if frame.id in names]
    long_side = context.settings.student.long_side
    inputs = scales(partial(_size, frame_size(kept), long_side), settings.max_steps, settings.min_scale)
    meter = LossMeter(POLICIES[settings.policy], len(context.classes), context.interest)
    if settings.choose == "labels":
        context.heart.expect(len(frames))
        trial = _trial(context, frames, graph, cost, meter)
        return search(trial, inputs, settings.threshold, settings.tolerance).told()
    context.heart.expect(len(kept) * len(inputs))  # at most: the curve may end before
    return search_by_loss(_trial(context, kept, graph, cost, meter), inputs, settings.threshold).told()


def _size(frame: tuple[int, int], long_side: int, scale: float) -> Size:
    return input_size(*frame, scale, long_side)


def _trial(
    context: Context, frames: Sequence[StoredFrame], graph: Graph, cost: StudentCost | None, meter: LossMeter
) -> ScaleTrial:
    classes, interest = context.classes, context.interest

    def pictures(chosen: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        places = {frames[at].id: at for at in chosen}
        for frame, jpeg in context.pictures([frames[at] for at in chosen]):
            yield places[frame.id], decode_jpeg(jpeg)

    return ScaleTrial(
        blocks=[int(frame.captured // BLOCK_S) for frame in frames],
        pictures=pictures,
        find=partial(context.see, graph, cost),
        loss=meter.loss,
        tally=lambda at, found: tallies(context.compared(frames[at], found), len(classes)),
        labels={at: name for at, name in enumerate(classes) if interest is None or at in interest},
    )


def scales(size: Callable[[float], Size], max_steps: int = 8, min_scale: float = 0.0) -> dict[int, tuple[float, Size]]:
    """Return the scales 0.9^k to compare, full size first; none that rounds to the size before.

    `size(scale)` is the input `(height, width)` at a scale, already rounded to the student's stride.
    """
    found: dict[int, tuple[float, Size]] = {0: (1.0, size(1.0))}
    for k in range(1, max_steps + 1):
        if FACTOR**k < min_scale:
            break
        if size(FACTOR**k) != list(found.values())[-1][1]:
            found[k] = (FACTOR**k, size(FACTOR**k))
    return found


def search(trial: ScaleTrial, inputs: Inputs, threshold: float, tolerance: float) -> Search:
    """Return the smallest input at which next to nothing is lost by the labels; full size where that cannot be told.

    Every picture is decoded once, the first `PROBED` of them aside, which are seen at every scale: they say where the
    confidence loss is another altogether.
    """
    if not enough(trial.blocks):
        full = ScalePoint(0, *inputs[0], 0.0, 0.0, 0.0)
        return Search((full,), (), full, told([1.0], (), 0, len(trial.blocks)), 0.0)
    found: dict[int, dict[int, Detections]] = {k: {} for k in inputs}
    everything = range(len(trial.blocks))
    probe = everything[:: max(1, -(-len(everything) // PROBED))]
    passes = _look(trial, inputs, probe, found)
    worth = {
        k: value
        for k, value in inputs.items()
        if _curve_point(k, inputs, trial, found).normalised <= FAR * threshold or k == 0
    }
    passes += _look(trial, worth, [at for at in everything if at not in probe], found)
    points = tuple(_curve_point(k, worth, trial, found) for k in worth)
    at = sorted(found[0])
    looked = {k: [trial.tally(index, found[k][index]) for index in at] for k in worth}
    comparison = SizeComparison(looked[0], [trial.blocks[index] for index in at], trial.labels, tolerance)
    verdicts = [comparison.verdict(each) for each in looked.values()] if comparison.enough else []
    chosen = smallest(verdicts)
    why = told([point.scale for point in points], verdicts, chosen, len(at))
    return Search(points, tuple(verdicts), points[chosen], why, passes)


def search_by_loss(trial: ScaleTrial, inputs: Inputs, threshold: float) -> Search:
    """Return the paper's choice: the last input before the confidence loss changes by more than `threshold`."""

    def losses(size: Size) -> list[float]:
        return [trial.loss(trial.find(picture, size)) for _, picture in trial.pictures(range(len(trial.blocks)))]

    curve = opt_resolution(losses, inputs, threshold)
    passes = len(trial.blocks) * sum(math.prod(point.size) for point in curve.points) / math.prod(inputs[0][1])
    why = f"scale {curve.chosen.scale:.2f}: the last before the confidence loss changes by {threshold:g}"
    return Search(curve.points, (), curve.chosen, why, passes)


def _look(trial: ScaleTrial, inputs: Inputs, chosen: Sequence[int], found: dict[int, dict[int, Detections]]) -> float:
    """Add what is found in the chosen pictures at every input; return what that cost, in passes at full size."""
    before = len(found[0])
    for at, picture in trial.pictures(chosen):
        for k, (_, size) in inputs.items():
            found[k][at] = trial.find(picture, size)
    full = math.prod(inputs[0][1])
    return (len(found[0]) - before) * sum(math.prod(size) / full for _, size in inputs.values())


def _curve_point(k: int, inputs: Inputs, trial: ScaleTrial, found: dict[int, dict[int, Detections]]) -> ScalePoint:
    at = sorted(found[k])
    full, small = (np.array([trial.loss(found[each][index]) for index in at]) for each in (0, k))
    return _point(k, *inputs[k], full, small) if len(at) else ScalePoint(k, *inputs[k], 0.0, 0.0, 0.0)


def opt_resolution(
    losses: Callable[[Size], Sequence[float]], inputs: Inputs, threshold: float, measure: Measure = "normalised"
) -> ScaleCurve:
    """Return the curve over the scales of `inputs` and the last one before `measure` passes `threshold`.

    `losses(size)` is the confidence loss of every culled frame at that input. Without frames, full size is chosen.
    """
    (_, size), *smaller = inputs.values()
    full = np.asarray(losses(size), np.float64)
    points = [ScalePoint(0, 1.0, size, 0.0, 0.0, 0.0)]
    for k, (scale, size) in zip(list(inputs)[1:], smaller if len(full) else (), strict=False):
        points.append(_point(k, scale, size, full, np.asarray(losses(size), np.float64)))
        if getattr(points[-1], measure) > threshold:
            return ScaleCurve(tuple(points), points[-2])
    return ScaleCurve(tuple(points), points[-1])


def _point(
    k: int, scale: float, size: tuple[int, int], full: NDArray[np.float64], small: NDArray[np.float64]
) -> ScalePoint:
    squares = (full - small) ** 2
    # A student that sees nothing has losses of 0; with this floor, any real difference then exceeds every threshold.
    power = max(float((full**2).mean()), 1e-6)
    return ScalePoint(k, scale, size, float(squares.sum()), float(squares.mean()), float(squares.mean()) / power)
