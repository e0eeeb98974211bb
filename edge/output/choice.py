"""Which frames an output tells of, and what of them: cameras, classes, score and zones, and how often.

No I/O and no clock: a frame brings its own time. One `Choice` belongs to one output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from culling.common.detections import Record, ZoneCounts
from culling.edge.output.seen import Seen, records
from culling.edge.output.settings import OutputSettings

SECOND_S = 1.0


class Choice:
    """`takes` decides, on the camera path, frame by frame in order; `records` may be called later, on any thread.

    Where records wait, `takes` falls into two: `due` for each frame as it comes, `tells` for those that are, in order.
    """

    def __init__(self, settings: OutputSettings) -> None:
        self._settings = settings
        self._last: dict[str, object] = {}
        self._due: dict[str, float] = {}

    def takes(self, seen: Seen) -> bool:
        """Return whether there is to be a record of this frame."""
        return self.due(seen.camera, seen.captured) and self.tells(seen)

    def due(self, camera: str, captured: float) -> bool:
        """Return whether a frame of that time may have a record, whatever is found in it."""
        settings = self._settings
        if settings.cameras and camera not in settings.cameras:
            return False
        return settings.every != "1s" or self._second_is_over(camera, captured)

    def tells(self, seen: Seen) -> bool:
        """Return whether a frame that is due is told of, by what was found in it."""
        return self._settings.every != "change" or self._changed(seen)

    def records(self, frames: Sequence[Seen]) -> list[Record]:
        """Return the records of frames, at least one."""
        if self._settings.classes or self._settings.zones:
            wanted = np.concatenate([self._wanted(seen) for seen in frames])
        else:
            wanted = np.concatenate([seen.found.scores for seen in frames]) >= self._settings.score
        return records(frames, wanted, [self._zones(seen) for seen in frames])

    def _second_is_over(self, camera: str, captured: float) -> bool:
        due = self._due.get(camera, captured)
        if captured < due <= captured + SECOND_S:  # a wall clock that was set back does not silence it
            return False
        # The next one is due a second after this one was, so that the rate is one a second at any frame rate.
        late = captured - due
        self._due[camera] = (due if 0 <= late < SECOND_S else captured) + SECOND_S
        return True

    def _changed(self, seen: Seen) -> bool:
        labels = Counter(seen.found.labels[self._wanted(seen)].tolist())
        now = seen.model, labels, {name: zone.present for name, zone in self._zones(seen).items()}
        if self._last.get(seen.camera) == now:
            return False
        self._last[seen.camera] = now
        return True

    def _wanted(self, seen: Seen) -> NDArray[np.bool_]:
        settings = self._settings
        wanted: NDArray[np.bool_] = seen.found.scores >= settings.score
        if settings.classes:
            labels = [number for number, name in enumerate(seen.classes) if name in settings.classes]
            wanted &= np.isin(seen.found.labels, labels)
        if settings.zones:
            rows = [row for row, name in enumerate(seen.zones) if name in settings.zones]
            wanted &= np.zeros(len(wanted), bool) if seen.inside is None else seen.inside[rows].any(axis=0)
        return wanted

    def _zones(self, seen: Seen) -> Mapping[str, ZoneCounts]:
        zones, classes = self._settings.zones, self._settings.classes
        named = {name: counts for name, counts in seen.zones.items() if not zones or name in zones}
        return {name: _of(classes, counts) for name, counts in named.items()} if classes else named


def _of(classes: tuple[str, ...], counts: ZoneCounts) -> ZoneCounts:
    def only(all_of_them: dict[str, int]) -> dict[str, int]:
        return {name: count for name, count in all_of_them.items() if name in classes}

    return ZoneCounts(only(counts.present), only(counts.entered), only(counts.left))
