"""Which earlier students of a camera stay in its zoo, to be tried again when what they know comes back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from culling.cloud.archive.day import hour_of
from culling.common.clock import DAY_S

EARLIER = ("previous", "retired")
"""States of models that others took the place of, and that nobody turned down."""

OLDEST_S = 30 * DAY_S
"""A camera has a student of every hour within two weeks; beyond a month the scene and the labels have moved on."""


@dataclass(frozen=True)
class Student:
    """A model of a camera that went live at `created`, seconds since the epoch, and the hashes of its files.

    `base` is whether it is what the camera began with.
    """

    name: str
    state: str
    created: float
    sha256: str
    weights: str | None
    base: bool


def members(known: Sequence[Student], most: int) -> list[Student]:
    """Return at most `most` of a camera's models, `known`, newest first: the last that went live in each hour (UTC).

    What has the same bytes as the base, the student in use, or one that an edge or a person turned down, is left out;
    so is one without weights, from which nothing could be trained.
    """
    taken = {one.sha256 for one in known if one.base or one.state not in EARLIER}
    found: dict[int, Student] = {}
    for one in known:
        hour = hour_of(one.created)
        if one.sha256 not in taken and one.weights is not None and hour not in found:
            found[hour] = one
            taken.add(one.sha256)
    return list(found.values())[:most]
