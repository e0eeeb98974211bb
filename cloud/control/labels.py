"""What a process does that only labels: it has a worker with a teacher, beside that of control and those of others.

Workers meet in the index: each takes batches under a lease, so that any number of them label every frame once. Beyond
a camera's `labelling.per_day` may go what all of them hold at one moment.
"""

from __future__ import annotations

import structlog

from culling.cloud.control.executor import write_settings
from culling.cloud.control.labeller import LabellerProcess
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.labelling.state import worker_name
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index
from culling.common.clock import Clock
from culling.common.errors import StorageError
from culling.common.metrics import Metrics
from culling.common.process.survival import surviving

log = structlog.get_logger(__name__)


class Labels:
    """Keeps a worker running. Used by one thread; `problem` by any. Making it raises StorageError."""

    def __init__(
        self, settings: CloudSettings, index: Index, frames: FrameStore, metrics: Metrics, clock: Clock
    ) -> None:
        queue = LabelQueue(index, frames, clock, settings.labelling.per_day, worker_name(settings.data_dir))
        standing = settings.labelling.verdicts_per_minute > 0
        self._worker = LabellerProcess(write_settings(settings), queue, clock, settings.round.stall_s, standing)
        self._metrics = metrics
        self._problem = ""

    @property
    def problem(self) -> str:
        """What keeps the worker from its work, "" where all is well."""
        return self._problem or self._worker.problem

    def turn(self) -> None:
        """Start the worker where it is needed, and again where it died."""
        problem = ""
        try:
            with surviving("service", self._metrics, step="labels"):
                if self._worker.tend():
                    self._metrics.count("labelling_deaths")
        except StorageError as error:  # the database may be back at the next turn
            problem = str(error)
        if problem and not self._problem:
            log.error("service_hindered", error=problem)
        self._problem = problem
        self._metrics.set("labelling_failing", float(bool(self.problem)))

    def stop(self) -> None:
        """End the worker. What it held is as if it had never had it."""
        self._worker.terminate()
        self._worker.stop()
