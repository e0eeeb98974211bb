"""A camera that costs something: passes of its student, labels, and what they are worth."""

from __future__ import annotations

from pathlib import Path

import msgspec

from culling.cloud.bill.account import statements
from culling.cloud.bill.cost import PassCost, StudentCost
from culling.cloud.bill.rates import Rates
from culling.cloud.bill.statement import Statement
from culling.cloud.store.history import History
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state, detections
from support.stored import add, everything

LOOK, LEARN, LABEL = PassCost(1.0, 1e-4), PassCost(2.0, 3e-4), 4.5


class Billed:
    """A cloud with a camera whose student is priced, which has looked at frames, and a minute that is over."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.cloud = CloudState(folder, self.clock)
        self.cloud.enroll(CAMERA, "yard")
        artefact = msgspec.structs.replace(self.cloud.artefact(), cost=StudentCost(LOOK, LEARN))
        self.model = self.cloud.publisher.publish(CAMERA, artefact, "base").model_id
        self.past = History(self.cloud.index, {CAMERA: camera_state(seen=0, inferred=0)})
        self.looked = self.came = 0

    def look(self, inferred: int, missed: int = 0, model: str | None = None) -> None:
        """Let the camera look at so many more frames in this minute, miss some, and the minute pass."""
        self.looked, self.came = self.looked + inferred, self.came + inferred + missed
        state = camera_state(
            model_id=model or self.model,
            seen=2 * self.came,
            inferred=self.looked,
            dropped={"newer": self.came - self.looked, "max-fps": self.came},
        )
        self.past.record({CAMERA: state}, int(self.clock.now() // 60))
        self.clock.advance(60)

    def label(self, *seqs: int) -> None:
        """Store frames, and have the teacher label them."""
        add(self.cloud, *seqs)
        frames = {frame.id: detections() for frame in everything(self.cloud) if frame.labels is None}
        self.cloud.lifecycle.label(frames)

    def price_labels(self) -> None:
        """Note that a label of this camera's frames costs `LABEL`, and half a second for each of these."""
        frame = everything(self.cloud)[0]
        Rates(self.cloud.index).note("label", 10.0, 5.0, {(frame.height, frame.width): LABEL})

    def statement(self, since: float = 1_800_000_000.0) -> Statement:
        found = statements(self.cloud.index, self.cloud.settings, since, self.clock.now() + 60)
        assert found.keys() == {CAMERA, "yard"}
        return found[CAMERA]
