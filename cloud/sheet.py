"""Rows as CSV, and plots as PNG: the files that a report and a study write."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Draw = Callable[[Any], None]
"""Draws on matplotlib axes, which get a legend if anything drawn has a label."""


def to_csv(rows: Sequence[Row]) -> bytes:
    """Return `rows`, which share their keys, as CSV; the keys are the first line."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["nothing"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def to_png(*panels: Draw) -> bytes:
    """Return one PNG with all panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 if len(panels) == 1 else 6.5 * len(panels), 4.5), layout="constrained")
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        if not axes.has_data():
            axes.text(0.5, 0.5, "nothing yet", ha="center", transform=axes.transAxes, color="grey")
        elif axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # beside the plot, never on it
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
