"""What is measured periodically rather than counted as it happens: the spool, its evictions, the disk, GPU memory."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pynvml

from culling.common.metrics import Metrics
from culling.edge.spool.spool import Spool


class Gauges:
    """Exports the state of `spool` and of the disk under `state_dir`."""

    def __init__(self, metrics: Metrics, spool: Spool, state_dir: Path, cameras: Iterable[str]) -> None:
        self._metrics = metrics
        self._spool = spool
        self._state_dir = state_dir
        self._evicted: dict[str, Counter[str]] = {camera: Counter() for camera in cameras}
        self._moved_aside = 0
        self._gpus = gpus()

    def watch(self, cameras: Iterable[str]) -> None:
        """Export what these cameras give up, too; a camera that is gone may still have frames in the spool."""
        self._evicted |= {camera: self._spool.evicted(camera) for camera in cameras if camera not in self._evicted}

    def export(self) -> None:
        """Bring the metrics up to date."""
        counts = self._spool.counts()
        self._metrics.set("spool_bytes", counts.bytes)
        self._metrics.set("spool_frames", counts.ready + counts.held)
        for device, gpu in enumerate(self._gpus):
            self._metrics.set("gpu_memory_bytes", memory_in_use(gpu), device=str(device))
        self._metrics.set("disk_free_bytes", free_bytes(self._state_dir))
        self._metrics.count("spools_moved_aside", counts.moved_aside - self._moved_aside)
        self._moved_aside = counts.moved_aside
        for camera, before in self._evicted.items():
            now = self._spool.evicted(camera)
            for reason, more in (now - before).items():
                self._metrics.count("frames_evicted", more, camera=camera, reason=reason)
            self._evicted[camera] = now


def free_bytes(folder: Path) -> float:
    """Return the bytes free on a folder's disk; NaN if it cannot be asked, which must not stop the cameras."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return math.nan


def gpus() -> list[Any]:
    """Return NVML's handles of the machine's GPUs; empty without a driver."""
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def memory_in_use(gpu: Any) -> float:
    """Return the bytes in use on a GPU; NaN if it cannot be asked."""
    try:
        return float(pynvml.nvmlDeviceGetMemoryInfo(gpu).used)
    except pynvml.NVMLError:
        return math.nan
