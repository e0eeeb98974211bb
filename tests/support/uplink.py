"""An edge's real spool and forwarder in the test's own process, with no camera in front and no models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from culling.common.clock import Clock, SystemClock
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.codec import encode_jpeg
from culling.edge.model.updater import Updater
from culling.edge.settings import LinkSettings
from culling.edge.spool.forwarder import Forwarder
from culling.edge.spool.spool import Spool, SpoolCounts
from culling.edge.watchdog import Watchdog
from support import tiny
from support.cloud import CAMERA, CloudState, camera_state
from support.scores import score


@dataclass(frozen=True)
class Shot:
    """A frame as the spool needs it."""

    camera: str
    seq: int
    captured: float
    pts: float = 0.0
    width: int = 160
    height: int = 128


class Uplink:
    """Sends what `spool_frames` puts into its spool to the service of `state`, reached at `endpoint`."""

    def __init__(
        self,
        folder: Path,
        state: CloudState,
        endpoint: str,
        camera: str = CAMERA,
        secret: str | None = None,
        max_bytes: int = 64 << 20,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.camera = camera
        self.clock = clock or SystemClock()
        self.spool = Spool(folder / f"{camera}.spool", max_bytes, "boot-1")
        self.metrics = Metrics(CollectorRegistry(), "edge")
        self._jpegs = [encode_jpeg(tiny.picture(160, 128, 100 + shade)) for shade in range(0, 150, 10)]
        cloud = LinkSettings(
            endpoint=endpoint,
            server_key=state.keys.curve_public,
            secret_key=SecretStr(secret or state.enroll(camera, edge=f"edge-of-{camera}")),
            signing_keys=(state.keys.signing_public,),
            **{"heartbeat_s": 0.5, **settings},
        )
        self.forwarder = Forwarder(
            cloud,
            "boot-1",
            self.spool,
            Updater({}, {}, self.clock, lambda reason: None),
            lambda: [camera_state(camera)],
            self.metrics,
            self.clock,
            Watchdog(),
        )

    def start(self) -> None:
        self.forwarder.start()

    def spool_frames(self, count: int, loss: Callable[[int], float] = float, padding: int = 0) -> None:
        """Put frames into the spool, each `padding` bytes larger than its picture."""
        made = self.spool.counts().made
        for seq in range(made + 1, made + count + 1):
            jpeg = self._jpegs[seq % len(self._jpegs)]
            if padding:
                jpeg += b"\xff\xfe" + bytes(padding)  # after the end of the image: decoders stop before it
            self.spool.add(
                Shot(self.camera, seq, self.clock.now()),
                found=Detections.empty(),
                score=score(loss(seq)),
                reason="hard",
                model_id="gate-1",
                jpeg=jpeg,
                held=False,
            )

    def counts(self) -> SpoolCounts:
        return self.spool.counts()

    def adds_up(self) -> bool:
        """Whether every frame made is acked, evicted or still here."""
        counts = self.spool.counts()
        return counts.made == counts.acked + counts.evicted + counts.ready + counts.held

    def close(self) -> None:
        assert self.forwarder.finish(0)
        self.spool.close()
        assert self.forwarder.failure is None, self.forwarder.failure
