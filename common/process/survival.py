"""One rule for every loop that must not end: what a single item throws costs that item, not the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from culling.common.errors import CullingError
from culling.common.metrics import Metrics

log = structlog.get_logger(__name__)


@contextmanager
def surviving(loop: str, metrics: Metrics, **item: Any) -> Iterator[None]:
    """Count and log an unexpected error of the block, and go on behind it; `item` names what was worked on.

    A CullingError passes: it is raised on purpose, for the caller to deal with.
    """
    try:
        yield
    except CullingError:
        raise
    except Exception as error:
        note_failed(loop, metrics, error, **item)


def note_failed(loop: str, metrics: Metrics, error: Exception, **item: Any) -> None:
    """Count and log an unexpected error, for a loop that has more to do about the item than to leave it out."""
    metrics.count("items_failed", loop=loop)
    log.error("item_failed", loop=loop, exc_info=error, **item)
