"""Which versions of the protocol a side speaks, and which one two sides use; free of I/O.

Each side says its range, in Hello and in Welcome; the lower of the two newest is used. Hello, Welcome and Refused are
written in version 1 for ever, so that two sides that have no version in common can still tell each other so.

A side that says no range is of 0.2 or before: it speaks version 1, and refuses fields that it does not know. Whoever
says one passes over such fields, so a new field needs no new version as long as it changes nothing that others mean.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from culling.common.errors import ProtocolError

PROTOCOL_VERSION = 1
"""The first byte of every header: the version that the message is written in."""

Version = Annotated[int, Meta(ge=1, le=255)]


class Speaks(msgspec.Struct, frozen=True):
    """Every version from the oldest to the newest."""

    oldest: Version
    newest: Version

    def __str__(self) -> str:
        return f"{self.oldest}" if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


SPEAKS = Speaks(PROTOCOL_VERSION, PROTOCOL_VERSION)
"""What this side speaks."""

FIRST = Speaks(1, 1)
"""What a side speaks that does not say so."""


def agreed(edge: Speaks | None, cloud: Speaks | None) -> int:
    """Return the version that an edge and a cloud use. Raises ProtocolError("version") where they have none in common.

    The error names both ranges and which side is to be upgraded.
    """
    ours, theirs = edge or FIRST, cloud or FIRST
    version = min(ours.newest, theirs.newest)
    if version < max(ours.oldest, theirs.oldest):
        behind = "edge" if ours.newest < theirs.newest else "cloud"
        raise ProtocolError(
            "version",
            f"the edge speaks protocol version {ours}, the cloud {theirs}: upgrade culling at the {behind}",
        )
    return version
