"""The scale stage (`resolution` in the index): optResolution, section 2.3 of the paper.

It finds the smallest input whose confidence loss stays close to that of the full one: a fixed camera's objects may be
larger than the student needs. Each step shrinks the input by 0.9 and compares the loss of every culled frame with its
loss at full size, until they drift apart by more than a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from culling.cloud.round.context import Context, Result, Results, frame_size
from culling.cloud.store.rounds import Round
from culling.common.graph import see
from culling.common.scaler import input_size
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.wire.codec import decode_jpeg

FACTOR = 0.9
"""The paper's step."""

Measure = Literal["mse", "mean", "normalised"]


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


def scale(context: Context, turn: Round, results: Results) -> Result:
    """Find the smallest scale at which the live student's losses on the culled set stay close to those at full size."""
    settings = context.settings.resolution
    frames = context.store.get(results["cull"]["kept"])
    graph = context.graph(context.incumbent(turn.camera).artefact.sha256)
    meter = LossMeter(POLICIES[settings.policy], len(graph.info.classes), context.settings.round.labels_of_interest)

    context.heart.expect(len(frames) * (settings.max_steps + 1))  # at most: the curve may end before

    def losses(size: tuple[int, int]) -> list[float]:
        return [meter.loss(see(graph, decode_jpeg(jpeg), size)) for _, jpeg in context.pictures(frames)]

    curve = opt_resolution(
        losses,
        lambda scale: input_size(*frame_size(frames), scale, context.settings.student.long_side),
        settings.threshold,
        max_steps=settings.max_steps,
        min_scale=settings.min_scale,
    )
    return {"scale": curve.chosen.scale, "size": curve.chosen.size, "curve": [asdict(point) for point in curve.points]}


def opt_resolution(
    losses: Callable[[tuple[int, int]], Sequence[float]],
    size: Callable[[float], tuple[int, int]],
    threshold: float,
    measure: Measure = "normalised",
    max_steps: int = 8,
    min_scale: float = 0.0,
) -> ScaleCurve:
    """Return the curve over scales 0.9^k and the last scale before `measure` passes `threshold`.

    `size(scale)` is the input `(height, width)` at a scale, already rounded to the student's stride, and
    `losses(size)` the confidence loss of every culled frame at that input. Steps that round to the size before are
    skipped. Without frames, full size is chosen.
    """
    full = np.asarray(losses(size(1.0)), np.float64)
    points = [ScalePoint(0, 1.0, size(1.0), 0.0, 0.0, 0.0)]
    for k in range(1, max_steps + 1 if len(full) else 0):
        scale = FACTOR**k
        if scale < min_scale:
            break
        if size(scale) == points[-1].size:
            continue
        points.append(_point(k, scale, size(scale), full, np.asarray(losses(size(scale)), np.float64)))
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
