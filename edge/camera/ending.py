"""How cameras end: each on a thread of its own, since a source that answers nothing holds whoever stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from culling.edge.camera.camera import Camera


def stop_all(cameras: Sequence[Camera], patience: Callable[[], float]) -> None:
    """Stop cameras, and wait for each for as many seconds as `patience` says then.

    A mute source holds its thread for longer, but hands over no frame once it was told to stop.
    """
    stops = [threading.Thread(target=camera.stop, daemon=True) for camera in cameras]
    for stop in stops:
        stop.start()
    for stop in stops:
        stop.join(patience())


def replace_source(before: Camera, after: Camera | None) -> None:
    """End one source and then begin another, without waiting: one that answers nothing takes a second to end."""

    def replace() -> None:
        before.stop()
        if after is not None:
            after.start()

    threading.Thread(target=replace, name=f"replace-{before.name}", daemon=True).start()
