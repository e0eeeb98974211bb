"""optResolution (paper, section 2.3): the smallest input whose confidence loss stays close to that of the full one.

A fixed camera's objects may be larger than the student needs. Each step shrinks the input by 0.9 and compares the loss
of every culled frame with its loss at full size, until they drift apart by more than a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FACTOR = 0.9

Measure = Literal["mse", "mean", "normalised"]


@dataclass(frozen=True)
class ScalePoint:
    """One step of the curve: the input `size` `(height, width)` at `scale` and how far its losses are from full size.

    `mse` is the paper's sum over frames of squared differences, `mean` that by the frame, and `normalised` that by the
    mean square of the full-size losses too: 0.01 says that losses are off by a tenth of what they are. Why it is not
    their variance: `docs/adr/0005`.
    """

    k: int
    scale: float
    size: tuple[int, int]
    mse: float
    mean: float
    normalised: float


@dataclass(frozen=True)
class ScaleCurve:
    """Every scale that was tried, full size first, the last one perhaps too small; and the one to use."""

    points: tuple[ScalePoint, ...]
    chosen: ScalePoint


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
    left out, as they would measure the same again. Without frames there is nothing to go by: full size is chosen.
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
    # Frames in which nothing is seen have losses of 0; any real difference then passes every threshold.
    power = max(float((full**2).mean()), 1e-6)
    return ScalePoint(k, scale, size, float(squares.sum()), float(squares.mean()), float(squares.mean()) / power)
