from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.selection.selector import Released
from culling.edge.gauges import Gauges, gpus
from culling.edge.spool.spool import Spool
from support.scores import score


@dataclass(frozen=True)
class Shot:
    seq: int
    camera: str = "gate"
    pts: float = 0.0
    captured: float = 1_800_000_000.0
    width: int = 64
    height: int = 48


def fill(spool: Spool, count: int) -> None:
    for seq in range(count):
        spool.add(
            Shot(seq),
            found=Detections.empty(),
            score=score(seq),
            reason="hard",
            model_id="gate-1",
            jpeg=b"jpeg",
            held=True,
        )


def test_the_spool_and_the_disk_are_measured(tmp_path: Path) -> None:
    metrics, spool = Metrics(CollectorRegistry(), "edge"), Spool(tmp_path / "spool.sqlite", 1 << 20, "boot")
    fill(spool, 3)

    Gauges(metrics, spool, tmp_path, ["gate"]).export()

    assert metrics.total("spool_frames") == 3
    assert metrics.total("spool_bytes") > 0
    assert metrics.total("disk_free_bytes") > 0
    spool.close()


def test_a_disk_that_is_gone_is_no_number_and_no_error(tmp_path: Path) -> None:
    metrics, spool = Metrics(CollectorRegistry(), "edge"), Spool(tmp_path / "spool.sqlite", 1 << 20, "boot")

    Gauges(metrics, spool, tmp_path / "gone", ["gate"]).export()

    assert math.isnan(metrics.total("disk_free_bytes"))
    spool.close()


def test_what_was_evicted_before_this_start_is_no_news_however_late_the_spool_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    before = Spool(path, 1 << 20, "boot")
    fill(before, 3)
    before.release("gate", Released(1), 0.0)
    before.close()
    path.rename(tmp_path / "away")
    path.mkdir()  # in the way: the disk cannot be used yet
    metrics, spool = Metrics(CollectorRegistry(), "edge"), Spool(path, 1 << 20, "boot")
    gauges = Gauges(metrics, spool, tmp_path, ["gate"])
    gauges.export()
    path.rmdir()
    (tmp_path / "away").rename(path)

    fill(spool, 2)
    spool.release("gate", Released(1), 0.0)
    gauges.export()

    assert spool.counts("gate").reasons == {"window": 3}
    assert metrics.by("reason", "frames_evicted", camera="gate") == {"window": 1}
    spool.close()


def test_a_spool_that_was_broken_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite").write_bytes(b"no database" * 100)
    metrics, spool = Metrics(CollectorRegistry(), "edge"), Spool(tmp_path / "spool.sqlite", 1 << 20, "boot")
    gauges = Gauges(metrics, spool, tmp_path, ["gate"])

    gauges.export()
    gauges.export()

    assert metrics.total("spools_moved_aside") == 1
    spool.close()


def test_what_the_spool_gave_up_is_counted_once_from_this_start_on(tmp_path: Path) -> None:
    before = Spool(tmp_path / "spool.sqlite", 1 << 20, "boot")
    fill(before, 3)
    before.release("gate", Released(1), 0.0)
    before.close()
    metrics, spool = Metrics(CollectorRegistry(), "edge"), Spool(tmp_path / "spool.sqlite", 1 << 20, "boot-2")
    gauges = Gauges(metrics, spool, tmp_path, ["gate"])
    fill(spool, 4)
    spool.release("gate", Released(1), 0.0)

    gauges.export()
    gauges.export()

    assert metrics.by("reason", "frames_evicted", camera="gate") == {"window": 3}
    spool.close()


def test_the_memory_of_each_gpu_is_told_and_none_where_there_is_none(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 1 << 20, "boot-1")
    registry = CollectorRegistry()
    Gauges(Metrics(registry, "edge"), spool, tmp_path, ["gate"]).export()
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("culling_gpu_memory")]
    assert len(lines) == len(gpus())
    assert all(float(line.rpartition(" ")[2]) > 0 for line in lines)
    spool.close()
