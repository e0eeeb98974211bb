"""The view of one agent: where `[view]` is on, its frames and the server before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from culling.common.clock import Clock
from culling.common.metrics import Metrics
from culling.common.page.access import make_token
from culling.edge.output.sink import CameraNow
from culling.edge.settings import EdgeSettings
from culling.edge.view.abroad import Abroad
from culling.edge.view.desk import Desk
from culling.edge.view.frames import LiveFrames
from culling.edge.view.server import ViewServer

log = structlog.get_logger(__name__)

TOKEN = "view.token"
"""In the state folder, readable by its owner alone."""


class View:
    """What the camera path shows is offered to all of `live`, that of `abroad` too: none where nobody may look.

    Raises SettingsError where the address cannot be listened on, StorageError where the token cannot be kept: without
    one nothing is served.
    """

    def __init__(
        self,
        settings: Callable[[], EdgeSettings],
        file: Path | None,
        cameras: Callable[[], Sequence[CameraNow]],
        abroad: Abroad,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        view, folder = settings().view, settings().agent.state_dir
        self.live: tuple[LiveFrames, ...] = () if abroad.live is None else (abroad.live,)
        self._server: ViewServer | None = None
        if view.enabled:
            live = LiveFrames(view, metrics, clock)
            self.live += (live,)
            token, desk = make_token(folder / TOKEN), Desk(settings, file)
            self._server = ViewServer(view, token, live, desk, cameras, metrics, clock)
            log.info("view_served", url=self._server.url, token_file=str(folder / TOKEN), actions=view.actions)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
