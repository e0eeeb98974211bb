"""A contact sheet: frames with the boxes that a teacher is sure of, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from culling.cloud.check.trial import Shown
from culling.cloud.weights.classes import CLASSES

COLUMNS = 2
WIDE = 6.0
"""Inches of one frame, at 100 dots each: small objects must be seen."""

COLOURS = ("#e6194b", "#f58231", "#3cb44b", "#911eb4", "#4363d8", "#ffe119")


def contact_sheet(shown: Sequence[Shown], classes: tuple[str, ...] = CLASSES) -> bytes:
    """Return the frames of `shown` in rows of two, each box with its class and score."""
    from matplotlib.figure import Figure

    rows = -(-len(shown) // COLUMNS)
    height, width = shown[0].picture.shape[:2]
    tall = WIDE * height / width + 0.3
    figure = Figure(figsize=(WIDE * COLUMNS, tall * rows), dpi=100, layout="constrained")
    for axes, one in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, shown, strict=False):
        axes.imshow(one.picture)
        axes.set_title(f"frame {one.number}", fontsize=8)
        _draw(axes, one, classes)
    for axes in figure.axes:
        axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Any, one: Shown, classes: tuple[str, ...]) -> None:
    from matplotlib.patches import Rectangle

    for (x1, y1, x2, y2), score, label in zip(one.found.boxes, one.found.scores, one.found.labels, strict=True):
        colour = COLOURS[label % len(COLOURS)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, linewidth=1))
        axes.text(x1, y1, f"{classes[label]} {score:.2f}", fontsize=5, color=colour, va="bottom", clip_on=True)
