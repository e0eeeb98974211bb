from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.fleet import Fleet
from support.forms import tell
from support.site import Site

__all__ = ["tell"]

NewSite = Callable[..., Site]


@pytest.fixture
def new_site() -> Iterator[NewSite]:
    """Makes sites whose agents do not outlive the test, however it ends."""
    with ExitStack() as stack:

        def make(*arguments: object) -> Site:
            site = Site(*arguments)  # type: ignore[arg-type]
            stack.callback(site.close)
            return site

        yield make


@pytest.fixture
def new_fleet() -> Iterator[Callable[..., Fleet]]:
    """Makes fleets whose sockets are closed after the test, however it ends."""
    with ExitStack() as stack:

        def make(*arguments: object) -> Fleet:
            fleet = Fleet(*arguments)  # type: ignore[arg-type]
            stack.callback(fleet.close)
            return fleet

        yield make
