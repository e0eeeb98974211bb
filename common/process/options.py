"""What options of several commands have in common."""

from __future__ import annotations

import math

import typer


def finite(value: float) -> float:
    """Return the value of an option. Raises BadParameter for NaN, which lies outside no bounds."""
    if math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value
