"""A real agent with its view on, as a browser or a script meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.common.wire.codec import decode_jpeg
from culling.edge.view.cameras import LENGTH, Live
from culling.edge.view.view import TOKEN
from support.http import Answer, fetch
from support.site import CAMERA, Site, free_port, moving_clip
from support.waiting import wait_until

LEFT = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
RIGHT = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]
CROSSED = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]


def unpacked(answer: Answer) -> tuple[Live, NDArray[np.uint8] | None]:
    """Return what a viewer was told, and the picture `(H, W, 3)`."""
    assert answer.status == 200, answer.body
    (size,) = LENGTH.unpack_from(answer.body)
    head, jpeg = answer.body[LENGTH.size : LENGTH.size + size], answer.body[LENGTH.size + size :]
    return msgspec.json.decode(head, type=Live), decode_jpeg(jpeg) if jpeg else None


class Viewing:
    """A site whose agent plays a clip in a loop and serves its view; `view` are more of its settings."""

    def __init__(self, folder: Path, camera: dict[str, Any] | None = None, **view: Any) -> None:
        self.site = Site(folder)
        self.site.settings["agent"]["drain_s"] = 1.0
        self.site.settings["view"] = {"enabled": True, "port": free_port(), **view}
        self.site.settings["camera"][0] |= {"loop": True, **(camera or {})}
        self.site.settings["metrics"]["port"] = free_port()
        self.url = f"http://127.0.0.1:{self.site.settings['view']['port']}"
        moving_clip(folder / "clip.mp4")

    def start(self) -> None:
        """Start the agent, and wait until it serves."""
        self.site.start()
        wait_until(lambda: '"agent_started"' in self.site.log() or self._ended())
        assert not self._ended(), self.site.log()

    def _ended(self) -> bool:
        return self.site.processes[-1].poll() is not None

    @property
    def token(self) -> str:
        return (self.site.folder / "state" / TOKEN).read_text().strip()

    def get(self, path: str, **headers: str) -> Answer:
        return fetch(f"{self.url}/{path}", **{"X_Culling_Token": self.token, **headers})

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return fetch(f"{self.url}/{path}", "POST", body, **{"X_Culling_Token": self.token, **headers})

    def look(self, last: int = 0, camera: str = CAMERA) -> tuple[Live, NDArray[np.uint8] | None]:
        return unpacked(self.get(f"api/cameras/{camera}/live?last={last}&viewer=test"))

    def regions(self, camera: str = CAMERA) -> Any:
        """Return the regions that are in force."""
        return next(one["regions"] for one in self.get("api/cameras").json()["cameras"] if one["name"] == camera)

    def apply(self, regions: Any, before: Any = None) -> Answer:
        body = {"regions": regions, "before": self.regions() if before is None else before}
        return self.post(f"api/cameras/{CAMERA}/regions", body)

    def close(self) -> None:
        self.site.close()
