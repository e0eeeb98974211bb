"""Echoes of audits, as an edge tells them."""

from __future__ import annotations

from collections.abc import Sequence

from culling.common.frame import Detections
from culling.common.wire.echo import AGES, Echo

STILL = (0,) * len(AGES)
"""Nothing had changed for two seconds."""

MOVING = (255,) * len(AGES)
"""Something changed between any two frames."""


def echo(
    found: Sequence[Detections], changes: Sequence[int] = MOVING, stood: Detections | None = None, rate: float = 25.0
) -> Echo:
    """Return an echo of the answers `found`, of each age; a single one is that of all ages."""
    answers = tuple(found) * (len(AGES) if len(found) == 1 else 1)
    return Echo(rate, tuple(changes), answers, stood)
