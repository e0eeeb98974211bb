"""A profile: which frames of a camera its student looks at, as the cloud orders it (after Chameleon, SIGCOMM 2018)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

LONGEST_S = 2.0
"""An answer stands no longer than so many seconds, whatever a profile says."""


class Profile(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most `rate` frames a second are looked at, 0 for all; and none of which no cell of the thumbnail differed, it
    and those before it, by `difference` grey levels or more from the one that was looked at last, 0 for all.

    With `echo`, audits tell what would have stood by other profiles (`echo.py`).
    """

    rate: Annotated[float, Meta(ge=0, le=240)] = 0.0
    difference: Annotated[int, Meta(ge=0, le=255)] = 0
    echo: bool = False

    def __str__(self) -> str:
        if not (self.rate or self.difference):
            return "every frame"
        rate = f"{self.rate:g} frames/s" if self.rate else "every frame"
        return f"{rate}{f' that differs by {self.difference}' if self.difference else ''}"


NONE = Profile()
"""What an edge follows that was told none: every frame is looked at, and nothing is kept for echoes."""
