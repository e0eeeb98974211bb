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
    except Exception:
        metrics.count("items_failed", loop=loop)
        log.exception("item_failed", loop=loop, **item)
