"""Classes that the settings name and no student here finds: such a place, output or interest is about nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from culling.edge.settings import EdgeSettings


def strange(settings: EdgeSettings, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each key that names classes which are not `known`, and what is wrong; nothing while none are known."""
    for key, named in _named(settings) if known else ():
        if missing := sorted(set(named) - set(known)):
            yield key, f"no student here finds {', '.join(missing)}; known are {', '.join(sorted(known))}"


def _named(settings: EdgeSettings) -> Iterator[tuple[str, Collection[str]]]:
    for number, camera in enumerate(settings.camera):
        for at, ignored in enumerate(camera.ignore):
            yield f"camera.{number}.ignore.{at}.classes", ignored.classes
        for at, zone in enumerate(camera.zone):
            yield f"camera.{number}.zone.{at}.classes", zone.classes
    for number, output in enumerate(settings.output):
        yield f"output.{number}.classes", output.classes
    yield "confidence.interest", settings.confidence.interest
