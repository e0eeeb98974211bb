"""What the cloud is told of a spooled frame."""

from __future__ import annotations

import msgspec

from culling.common.wire import ignored
from culling.common.wire.messages import Beside, HardFrame, WireDetections, WireFeatures
from culling.edge.spool.rows import Spooled


def hard_frame(spooled: Spooled) -> HardFrame:
    """Return the message of a frame. Raises a MsgspecError where its row holds what this version cannot read."""
    return HardFrame(
        camera=spooled.camera,
        boot=spooled.boot,
        seq=spooled.seq,
        frame=spooled.frame,
        pts=spooled.pts,
        captured=spooled.captured,
        reason=spooled.reason,  # type: ignore[arg-type]
        loss=spooled.loss,
        model_id=spooled.model_id,
        width=spooled.width,
        height=spooled.height,
        sha256=spooled.sha256,
        detections=msgspec.msgpack.decode(spooled.detections, type=WireDetections),
        features=msgspec.msgpack.decode(spooled.features, type=WireFeatures),
        probability=spooled.probability,
        ignored=ignored.decode(spooled.ignored),
        echo=(spooled.echo or b"") if spooled.reason == "audit" else b"",
        shadow=None if spooled.shadow is None else msgspec.msgpack.decode(spooled.shadow, type=Beside),
    )
