"""The two forms of a fault test: a fast one for every run of the tests, and a full one for `make soak`.

`SOAK_SHARE=0.1 make soak` runs a tenth of the repetitions of every full form. What a form found is printed by `tell`.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

import pytest


def forms(name: str, fast: int, full: int) -> Any:
    """Parametrise a test by how often it repeats its fault: `fast`, or, marked `soak`, `full`."""
    wanted = max(fast, int(full * float(os.environ.get("SOAK_SHARE", "1"))))
    return pytest.mark.parametrize(
        name, [pytest.param(fast, id="fast"), pytest.param(wanted, id="full", marks=pytest.mark.soak)]
    )


class Tell(Protocol):
    """Prints what was measured, past pytest's capture: `F10 kills=200 lost=0 twice=0`."""

    def __call__(self, fault: str, **figures: object) -> None: ...


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Print figures of full forms; fast ones are silent."""
    full = request.node.get_closest_marker("soak") is not None
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(fault: str, **figures: object) -> None:
        if full:
            values = (
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in figures.items()
            )
            with capture.global_and_fixture_disabled():
                print(f"\n{fault}", *values, file=sys.stderr, flush=True)

    return say
