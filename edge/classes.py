"""Classes that the settings name and no student here finds: such a place, output or interest is about nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from culling.edge.settings import EdgeSettings

Asking = tuple[str, Collection[str]]
"""A key of the settings, and the classes that it names."""


@dataclass(frozen=True)
class Unfound:
    """A key that names `classes` which are not among those `known`; as text, what is wrong with it."""

    key: str
    classes: tuple[str, ...]
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"no student here finds {', '.join(self.classes)}; known are {', '.join(sorted(self.known))}"


def unfound(asking: Iterable[Asking], known: Collection[str]) -> Iterator[Unfound]:
    """Yield each key that names classes which are not `known`; nothing while none are known."""
    for key, named in asking if known else ():
        if missing := sorted(set(named) - set(known)):
            yield Unfound(key, tuple(missing), tuple(known))


def asking_for(settings: EdgeSettings) -> Iterator[Asking]:
    """Yield every key of the settings that names classes, with them."""
    for number, camera in enumerate(settings.camera):
        for at, ignored in enumerate(camera.ignore):
            yield f"camera.{number}.ignore.{at}.classes", ignored.classes
        for at, zone in enumerate(camera.zone):
            yield f"camera.{number}.zone.{at}.classes", zone.classes
    for number, output in enumerate(settings.output):
        yield f"output.{number}.classes", output.classes
    yield "confidence.interest", settings.confidence.interest
