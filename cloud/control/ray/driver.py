"""Has a cluster of Ray run one round, and stands for it on this machine: the service sees a process like any other.

Its heartbeat is that of the process on the node, its exit code too, and when it ends Ray ends that process. Ray tries
nothing again: the service does, from the last finished stage on, under a new lease.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from culling.cloud.control.ray.cluster import joined
from culling.cloud.control.ray.work import work
from culling.cloud.round.progress import FILE, Progress, ProgressWriter, read_progress
from culling.cloud.settings import CloudSettings, load_settings, to_toml
from culling.cloud.store.index import Index
from culling.cloud.store.rounds import STOPPED, Rounds
from culling.common import logs
from culling.common.clock import Clock, SystemClock
from culling.common.errors import CullingError, StorageError
from culling.common.process.child import die_first, stop_when_told

log = structlog.get_logger(__name__)

LOST = 70
"""Exit code where Ray lost the worker: a crash like any other (EX_SOFTWARE)."""

LOOK_S = 1.0
WAITS = "waits for the cluster"


def run_round(
    ray: Any, settings: CloudSettings, round_id: int, lease: str, stopping: threading.Event, clock: Clock
) -> int:
    """Run a round in the cluster; return the exit code of its process, `STOPPED` when `stopping` was set first.

    While the cluster has no room, the heartbeat says so. Raises Ray's errors where it lost the worker.
    """
    folder, options = settings.data_dir / "rounds" / str(round_id), settings.executor
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--lease", lease, "--threads", str(max(1, int(options.num_cpus)))]
    if 0 < options.num_gpus < 1:
        arguments += ["--gpu-share", f"{options.num_gpus:.3f}"]
    task = ray.remote(num_cpus=options.num_cpus, num_gpus=options.num_gpus, max_retries=0)(work)
    stream = task.options(name=f"round-{round_id}", num_returns="streaming", scheduling_strategy="SPREAD").remote(
        to_toml(settings), str(settings.data_dir), round_id, arguments
    )
    begun = False
    while not stopping.is_set():
        if not ray.wait([stream], timeout=LOOK_S)[0]:
            if not begun:
                ProgressWriter(folder, clock.now).stage(WAITS)
            continue
        told, begun = ray.get(next(stream)), True
        if isinstance(told, int):
            return told
        _repeat(folder, told)
    return STOPPED


def _repeat(folder: Path, beat: bytes) -> None:
    """Write a heartbeat from another machine here; on this one its process has, and later ones by now."""
    try:
        told, here = msgspec.json.decode(beat, type=Progress), read_progress(folder)
    except msgspec.DecodeError:
        return
    if here is None or here.stage == WAITS or here.at < told.at:
        partial = folder / f"{FILE}.{os.getpid()}"
        partial.write_bytes(beat)
        partial.replace(folder / FILE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one round in the cluster; with `--check` only see whether that can be. The exit code is that of a round's
    process, or that of the error.
    """
    parser = argparse.ArgumentParser(prog="python -m culling.cloud.control.ray", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the service's settings file")
    parser.add_argument("--watch-stdin", action="store_true", help="stop when standard input closes")
    parser.add_argument("--check", action="store_true", help="see whether the cluster may be used, and end")
    parser.add_argument("--lease", default="", help="the lease to work under")
    parser.add_argument("round_id", type=int, nargs="?", help="the round's number in the index")
    arguments = parser.parse_args(argv)
    die_first()
    settings = load_settings(arguments.config, {})
    logs.setup(settings.service.log_level)
    try:
        with joined(settings) as ray:
            stopping = stop_when_told(arguments.watch_stdin)  # after Ray has set its own handlers
            code = 0 if arguments.check else _attempt(ray, settings, arguments.round_id, arguments.lease, stopping)
    except CullingError as error:
        if arguments.check:
            print(error)
            return error.exit_code
        log.error("ray_cluster_refused", error=str(error))
        return StorageError.exit_code  # no crash of the round's: it goes on once somebody has set the cluster right
    if code < 0:
        os.kill(os.getpid(), -code)  # as the process on the node was
    return code


def _attempt(ray: Any, settings: CloudSettings, round_id: int, lease: str, stopping: threading.Event) -> int:
    try:
        code = run_round(ray, settings, round_id, lease, stopping, SystemClock())
    except (ray.exceptions.RayError, StopIteration) as error:
        log.error("ray_worker_lost", round=round_id, error=str(error).strip().splitlines()[-1])
        return LOST
    if stopping.is_set():
        Rounds(Index(settings.store_url)).leave(round_id, lease)
        log.info("round_stopped", round=round_id)
    return code
