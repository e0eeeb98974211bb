"""Which frames the student of one camera looks at by its profile, and the echoes of its audits. No I/O.

    looks.follow(profile)
    why = looks.skips(thumbnail, at, wanted)    "thinned" or "unchanged": the last answer stands; None: look at it
    looks.found(detections)                     what the student found in the frame that was not skipped
    looks.echo()                                what stood, and would have stood, for that frame

A look that the profile would have spared (`wanted` by somebody else) leaves what stands by the profile as it is: so an
audit, before which every frame is looked at, still tells what was told of frames like it. What is due once something
changed stays due until it is looked at, even where the change has gone again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from culling.common.frame import Detections
from culling.common.profile.thinner import Thinner
from culling.common.wire.echo import AGES, Echo
from culling.common.wire.profile import LONGEST_S, NONE, Profile

Skipped = Literal["thinned", "unchanged"]

SPAN_S = LONGEST_S + 0.25
"""How long before an audit every frame is looked at: a little more than the oldest answer that its echo tells of."""


@dataclass(frozen=True)
class _Look:
    """The thumbnail of a frame at a time, in seconds, and what was found in it, None before that is known."""

    at: float
    shown: NDArray[np.int16]
    found: Detections | None = None


class Looks:
    """What was looked at last, and for echoes the unbroken row of looks before it."""

    def __init__(self) -> None:
        self.profile = NONE
        self._row: deque[_Look] = deque()
        self._times: deque[float] = deque()
        self.forget()

    def follow(self, profile: Profile) -> None:
        """Go by a profile from the next frame on."""
        if profile != self.profile:
            self.profile = profile
            self.forget()

    def forget(self) -> None:
        """Have the next frame looked at, since nothing stands for it; times may begin anew."""
        self._thinner = Thinner(self.profile.rate)
        self._standing: _Look | None = None
        self._now: _Look | None = None
        self._due = self._changed = False
        self._row.clear()
        self._times.clear()

    @property
    def ahead(self) -> int:
        """In how many frames an audit has to be known to come, for every frame before it to be looked at in time."""
        return len(self._times) + 1

    def skips(self, thumbnail: NDArray[np.uint8], at: float, wanted: bool = False) -> Skipped | None:
        """Return why the frame at `at`, seconds that never run backwards, is skipped; None where it is looked at.

        It is where the profile says so, or it is `wanted`. Then pass the result to `found`.
        """
        self._times.append(at)
        while self._times[0] < at - SPAN_S:
            self._times.popleft()
        self._now = _Look(at, thumbnail.astype(np.int16))
        why = self._why(self._now)
        self._due = why is None
        if self._due:
            self._thinner.take(at)
            self._standing, self._changed = self._now, False
        if why is not None and not wanted:
            self._row.clear()
            return why
        return None

    def found(self, found: Detections) -> None:
        """Take what the student found in the frame that was not skipped; where the profile wanted it, it stands."""
        if self._now is None:
            return
        self._now = replace(self._now, found=found)
        if self._due:
            self._standing = self._now
        if self.profile.echo:
            self._row.append(self._now)
            while len(self._row) > 1 and self._row[1].at <= self._now.at - SPAN_S:
                self._row.popleft()

    def echo(self) -> Echo | None:
        """Return the echo of the frame that was looked at last; None where not every frame before it was."""
        if len(self._row) < 2 or self._now is not self._row[-1]:
            return None
        now, times = self._now.at, np.array([one.at for one in self._row])
        if times[0] > now - AGES[-1] + 1e-6:
            return None
        at = [int(np.searchsorted(times, now - age + 1e-6, side="right")) - 1 for age in AGES]
        shown = np.stack([one.shown for one in self._row])
        changes = tuple(int(np.abs(shown[place + 1 :] - shown[place]).max()) for place in at)
        found = tuple(one.found if (one := self._row[place]).found is not None else Detections.empty() for place in at)
        stood = None if self._due or self._standing is None else self._standing.found
        return Echo(float((len(times) - 1) / (now - times[0])), changes, found, stood)

    def _why(self, now: _Look) -> Skipped | None:
        standing, profile = self._standing, self.profile
        if standing is None or now.at - standing.at >= LONGEST_S:
            return None
        if not self._changed and profile.difference:
            self._changed = int(np.abs(now.shown - standing.shown).max()) >= profile.difference
        if not self._thinner.due(now.at):
            return "thinned"
        return "unchanged" if profile.difference and not self._changed else None
