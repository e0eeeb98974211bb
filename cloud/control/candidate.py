"""One of the processes that may be control: it stands by until it is elected, and steps down once it is not any more.

It asks in every turn whether it still has the seat (`store/database/seat.py`), so that it acts for no longer than a
turn after it lost it; what it changes meanwhile is refused, since the index that control works on is fenced.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from culling.cloud.control.control import Control
from culling.cloud.store.database.errors import DeposedError
from culling.cloud.store.index import Index
from culling.common.errors import StorageError
from culling.common.metrics import Metrics

log = structlog.get_logger(__name__)


class Candidate:
    """`build` makes what acts, on an index for whoever is elected. Used by one thread; `problem` and `told` by any."""

    def __init__(self, index: Index, build: Callable[[Index], Control], metrics: Metrics) -> None:
        self._index = index
        self._build = build
        self._metrics = metrics
        self._seat = index.seat()
        self._control: Control | None = None
        self._standby = False
        self._problem = ""

    @property
    def elected(self) -> bool:
        """Whether this process is control now, as far as it knows."""
        return self._control is not None

    @property
    def problem(self) -> str:
        """What keeps it from its work, "" where all is well, or another process is control."""
        return self._problem or (self._control.problem if self._control is not None else "")

    @property
    def told(self) -> str:
        """What it does, in words."""
        return "rounds run" if self.elected else "control is standby: another one is elected"

    def turn(self) -> None:
        """Stand, and act if elected."""
        if not self.stand():
            return
        assert self._control is not None
        try:
            self._control.take_turn()
        except DeposedError as error:
            self._step_down(str(error))

    def stand(self) -> bool:
        """Return whether this process is control from here to the end of its turn, having begun to be if it is new."""
        try:
            won = self._seat.take()
            if won and self._control is None:
                self._control = self._build(self._index.fenced(self._seat))
                self._standby = False
                log.info("control_elected")
        except StorageError as error:
            self._step_down(str(error))
            self._problem = str(error)
            return False
        self._problem = ""
        if not won:
            self._step_down("another process is control")
            if not self._standby:
                self._standby = True
                log.info("control_standby")
        self._metrics.set("control_elected", float(won))
        return won

    def stop(self) -> None:
        """End what runs, and let another one act."""
        if self._control is not None:
            self._control.stop()
        self._control = None
        self._seat.leave()

    def _step_down(self, why: str) -> None:
        self._metrics.set("control_elected", 0.0)
        if self._control is None:
            return
        log.error("control_deposed", error=why)
        control, self._control = self._control, None
        control.stop()
