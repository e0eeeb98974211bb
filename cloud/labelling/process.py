"""The resident worker in a process of its own: `python -m culling.cloud.labelling --config FILE`.

It may be killed at any moment: the frames that it held go to the next one when their lease runs out. With
`--watch-stdin` it also stops when its standard input closes, as it does when the service that started it dies.

torch takes seconds to import; what can be told without it, as settings that cannot be read, is told before.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from culling.cloud.bill.rates import Rates
from culling.cloud.bill.timed import TimedTeacher
from culling.cloud.labelling.escalated import Escalated
from culling.cloud.labelling.keeping import Keeping
from culling.cloud.labelling.queue import LabelQueue
from culling.cloud.labelling.state import FOLDER, say_problem, worker_name
from culling.cloud.labelling.worker import Labeller, Worker
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.store.features.features import feature_store
from culling.cloud.store.folders import alone, make_folder
from culling.cloud.store.index import Index
from culling.cloud.store.objects.places import frame_store
from culling.cloud.store.registry import Registry
from culling.common import logs
from culling.common.clock import Clock, SystemClock
from culling.common.errors import CullingError, StorageError
from culling.common.process.child import die_first, stop_when_told
from culling.common.traces.settings import traces_or_none
from culling.common.wire.messages import plain

log = structlog.get_logger(__name__)

BEHIND = 5
"""So much nicer than a round, which gets three times as much of a core that both want. More would starve the worker
on a machine that has other things to do, and with it the rounds."""

NICEST = 19


def build(settings: CloudSettings, clock: Clock) -> Worker:
    """Return the worker that labels what is in the settings' data folder. Raises StorageError."""
    from culling.cloud.teacher.loading import Teachers, load_teachers

    index = Index(settings.store_url)
    store = frame_store(settings, index, clock)
    heart = ProgressWriter(settings.data_dir / FOLDER, clock.now)

    def load() -> Labeller:
        teachers = load_teachers(settings)
        log.info("teacher_loaded", kind=settings.teacher.kind, device=teachers.device)
        return Teachers(TimedTeacher(teachers.own, Rates(index)), settings)

    asked = settings.labelling.verdicts_per_minute > 0
    return Worker(
        LabelQueue(index, store, clock, settings.labelling.per_day, worker_name(settings.data_dir)),
        store,
        Registry(index),
        load,
        settings.teacher.batch if asked else 2 * settings.teacher.batch,
        settings.teacher.min_score,
        heart.advance,
        lambda: say_problem(settings.data_dir, ""),
        escalated=Escalated(index, clock) if asked else None,
        name=plain(settings.teacher.kind),
        keeping=Keeping(feature_store(settings, index), settings) if settings.round.distil else None,
    )


def share_cores(settings: CloudSettings) -> None:
    """Leave half of the cores, and whatever a round wants of the others, to a round that works at the same time."""
    import torch

    os.nice(min(NICEST, settings.round.nice + BEHIND))
    torch.set_num_threads(settings.labelling.threads or max(1, torch.get_num_threads() // 2))


def main(argv: Sequence[str] | None = None) -> int:
    """Label until told to stop. The exit code is 0 then, else that of the error."""
    parser = argparse.ArgumentParser(prog="python -m culling.cloud.labelling", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the service's settings file")
    parser.add_argument("--watch-stdin", action="store_true", help="stop when standard input closes")
    arguments = parser.parse_args(argv)
    die_first()
    stopping = stop_when_told(arguments.watch_stdin)
    try:
        settings = load_settings(arguments.config, {})
        logs.setup(settings.service.log_level)
        make_folder(settings.data_dir / FOLDER)
        with alone(settings.data_dir / FOLDER / "lock"):  # the worker of a service that died may still run
            share_cores(settings)
            return _label(settings, stopping)
    except (CullingError, OSError) as error:
        log.error("labelling_failed", error=str(error))
        return error.exit_code if isinstance(error, CullingError) else StorageError.exit_code


def _label(settings: CloudSettings, stopping: threading.Event) -> int:
    try:
        with traces_or_none(settings.traces, "cloud") as traces:
            replace(build(settings, SystemClock()), traces=traces).run(stopping)
    except CullingError as error:
        say_problem(settings.data_dir, str(error))
        raise
    log.info("labelling_stopped")
    return 0
