"""All outputs of an agent: `offer` is what the camera path calls, and it neither waits nor fails."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from culling.common.metrics import Metrics
from culling.common.process.survival import note_failed
from culling.common.wire.messages import MAX_OUTPUTS, plain
from culling.edge.output.outlet import Outlet
from culling.edge.output.seen import Seen
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, Sink, build

DRAIN_S = 2.0
"""How long an output that is taken out may go on sending what it has."""


@dataclass(frozen=True)
class Others:
    """Outputs to come in place of those of the same names, which go with the `gone` ones."""

    new: Mapping[str, Sink]
    gone: frozenset[str]


class Outlets:
    """Owns an outlet for each `[[output]]`. Raises SettingsError for one that cannot be made."""

    def __init__(self, settings: Sequence[OutputSettings], around: Around, metrics: Metrics) -> None:
        self._around = around
        self._metrics = metrics
        self._outlets: dict[str, Outlet] = {one.name: self._make(build(one, around)) for one in settings}

    def __len__(self) -> int:
        return len(self._outlets)

    @property
    def troubles(self) -> dict[str, str]:
        """What is wrong with those that are down or drop records, by name; as many as a heartbeat may tell of."""
        found = {name: plain(trouble) for name, one in self._outlets.items() if (trouble := one.trouble)}
        return dict(list(found.items())[:MAX_OUTPUTS])

    def start(self) -> None:
        """Start the threads."""
        for outlet in self._outlets.values():
            outlet.start()

    def asking(self, camera: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the keys of the outputs of a camera that ask for some classes alone, with the classes."""
        for name, outlet in self._outlets.items():
            if not outlet.cameras or camera in outlet.cameras:
                yield f"output.{name}.classes", outlet.classes

    def offer(self, seen: Seen) -> None:
        """Hand a frame to every output; what one of them throws costs it that frame."""
        for name, outlet in self._outlets.items():
            try:
                outlet.offer(seen)
            except Exception as error:
                note_failed("outputs", self._metrics, error, output=name)

    def due(self, camera: str, captured: float) -> frozenset[str]:
        """Return the names of the outputs that may tell of a frame of that time, whatever is found in it.

        Each frame of a camera is asked about once, in order; what it holds is said to `offer_due`.
        """
        return frozenset(name for name, outlet in self._outlets.items() if outlet.due(camera, captured))

    def offer_due(self, seen: Seen, to: Collection[str]) -> None:
        """As `offer`, to those of the outputs `to` that there still are."""
        for name, outlet in self._outlets.items():
            if name in to:
                try:
                    outlet.offer_due(seen)
                except Exception as error:
                    note_failed("outputs", self._metrics, error, output=name)

    def prepare(self, settings: Sequence[OutputSettings], gone: Sequence[str]) -> Others:
        """Make the sinks of new or other settings, without connecting. Raises SettingsError; then nothing changes."""
        return Others({one.name: build(one, self._around) for one in settings}, frozenset(gone))

    def take(self, others: Others) -> None:
        """Go on with other outputs; those before them send what they have, for a moment, on threads of their own."""
        now = dict(self._outlets)
        for name in others.gone:
            _end(now.pop(name))
        for name, sink in others.new.items():
            before, now[name] = now.get(name), self._make(sink)
            if before is None:
                now[name].start()
            else:
                _replace(before, now[name])
        self._outlets = now

    def close(self, within_s: float) -> None:
        """End all outputs side by side."""
        ends = [threading.Thread(target=one.close, args=(within_s,), daemon=True) for one in self._outlets.values()]
        for end in ends:
            end.start()
        for end in ends:
            end.join(within_s + 1.0)

    def _make(self, sink: Sink) -> Outlet:
        return Outlet(sink.settings, sink, self._metrics, self._around.clock)


def _end(outlet: Outlet) -> None:
    threading.Thread(target=outlet.close, args=(DRAIN_S,), name=f"end-{outlet.name}", daemon=True).start()


def _replace(before: Outlet, after: Outlet) -> None:
    """End one and then begin another, which has the same series, and may want the same port or file."""

    def replace() -> None:
        before.close(DRAIN_S)
        after.start()

    threading.Thread(target=replace, name=f"replace-{before.name}", daemon=True).start()
