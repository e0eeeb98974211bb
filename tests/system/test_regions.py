"""Regions of a real agent: what is masked reaches nobody, what is ignored is not there, zones are in the records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from culling.common.detections import follow
from culling.common.wire.codec import decode_jpeg
from culling.common.wire.messages import HardFrame, from_wire
from culling.edge.reload import ask
from support.site import CloudEnd, Site, moving_clip
from support.waiting import wait_until

LEFT = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
BELOW = [[0.5, 0.6], [1.0, 0.6], [1.0, 1.0], [0.5, 1.0]]
ABOVE = [[0.5, 0.0], [1.0, 0.0], [1.0, 0.6], [0.5, 0.6]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    moving_clip(tmp_path / "clip.mp4", frames=60)
    site.install_student(floor=0.1)
    site.settings["camera"][0] |= {"pace": "max", "loop": True, "max_fps": 50.0}
    site.settings["selector"] = {"policy": "cloud-only"}
    site.settings["output"] = [{"kind": "jsonl", "path": str(tmp_path / "d.jsonl"), "score": 0.0}]
    yield site
    site.close()


@pytest.fixture
def cloud(site: Site) -> Iterator[CloudEnd]:
    cloud = site.cloud()
    yield cloud
    cloud.close()


def test_masked_pixels_leave_by_no_way_and_ignored_objects_are_in_nothing(site: Site, cloud: CloudEnd) -> None:
    site.settings["camera"][0] |= {
        "mask": [LEFT],
        "ignore": [{"polygon": BELOW}],
        "zone": [{"name": "top", "polygon": ABOVE, "score": 0.0}],
    }
    site.start()

    for _ in range(20):
        frame, jpeg = cloud.receive(HardFrame)
        assert jpeg is not None
        picture = decode_jpeg(jpeg)
        assert picture[:, :72].max() <= 8, "black, but for what JPEG makes of it"
        assert picture[:, 96:].max() > 100
        boxes = from_wire(frame.detections, 6).boxes
        assert (boxes[:, 0] >= 79).all(), "a student sees no more than the JPEG shows"
        assert (boxes[:, 3] <= 64).all(), "nor is there what is ignored"
    records = list(follow(site.folder / "d.jsonl", timeout_s=0))
    assert any(record.detections for record in records)
    for record in records:
        assert record.counts() == record.zones["top"].present
        assert all(one.zones == ("top",) for one in record.detections)
    entered = [sum(record.zones["top"].entered.values()) for record in records]
    assert entered == sorted(entered)
    assert entered[-1] > 0


def test_a_mask_comes_with_a_reload(site: Site, cloud: CloudEnd) -> None:
    site.start()
    _, jpeg = cloud.receive(HardFrame)
    assert jpeg is not None
    assert decode_jpeg(jpeg)[:, :72].max() > 100
    site.settings["camera"][0]["mask"] = [LEFT]
    site.write()
    assert ask(site.folder / "state") == "changed gate"

    def masked() -> bool:
        _, jpeg = cloud.receive(HardFrame)
        return jpeg is not None and int(np.max(decode_jpeg(jpeg)[:, :72])) <= 8

    wait_until(masked)


def test_objects_have_numbers_where_a_camera_asks_for_them(site: Site, cloud: CloudEnd) -> None:
    pytest.importorskip("trackers", exc_type=ImportError, reason="trackers is not installed: 'culling[tracks]'")
    site.settings["camera"][0] |= {"track": True, "zone": [{"name": "all", "polygon": [*LEFT[:1], *BELOW[1:]]}]}
    site.start()

    def tracked() -> bool:
        path = site.folder / "d.jsonl"
        records = list(follow(path, timeout_s=0)) if path.exists() else []
        numbers = [one.track for record in records for one in record.detections if one.track is not None]
        return len(numbers) > 50 and len(set(numbers)) < len(numbers) / 2

    wait_until(tracked)
    assert "item_failed" not in site.log()
