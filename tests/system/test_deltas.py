"""Models that travel as what changed, with a real service and a real agent."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.common.wire.delta import make
from culling.common.wire.messages import ModelChunk, ModelOffer, ModelRequest, SwapReport
from support import tiny
from support.cloud import CAMERA, CloudState, ServiceProcess
from support.site import Site, moving_clip
from support.waiting import LONG_S, wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    moving_clip(tmp_path / "clip.mp4", frames=50)
    made = Site(tmp_path)
    made.settings["camera"][0]["loop"] = True
    made.settings["selector"] = {"policy": "edge-only"}
    yield made
    made.close()


def told(site: Site, event: str, field: str) -> list[str]:
    """Return a field of every such event in the agent's log."""
    lines = [line for line in site.log().splitlines() if event in line]
    return [line.partition(f'"{field}": "')[2].partition('"')[0] for line in lines]


def test_a_student_comes_as_what_changed_since_the_one_in_use(site: Site, tmp_path: Path) -> None:
    cloud = CloudState(tmp_path, schedule={"hold": True})
    secret = cloud.enroll()
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    with ServiceProcess(cloud) as service:
        site.signing = cloud.keys.signing
        site.settings["cloud"] |= {
            "endpoint": service.endpoint,
            "server_key": cloud.keys.curve_public,
            "secret_key": secret,
            "signing_keys": [base64.b64encode(site.signing.public_key().public_bytes_raw()).decode()],
        }
        site.install_student()
        site.start()
        cloud.publisher.publish(CAMERA, cloud.artefact(tag="new"), "round")
        wait_until(lambda: "gate-2" in {swap.model_id for swap in cloud.registry.swaps().values()}, LONG_S)
        assert told(site, "model_fetched", "how") == ["delta"]
        cloud.publisher.rollback(CAMERA)
        wait_until(lambda: "gate-3" in {swap.model_id for swap in cloud.registry.swaps().values()}, LONG_S)
        assert told(site, "model_fetched", "how") == ["delta", "here"]
    assert [swap.outcome for swap in cloud.registry.swaps().values()] == ["live", "live"]
    cloud.close()


def test_where_the_model_that_it_starts_from_is_gone_the_student_comes_whole(site: Site) -> None:
    cloud, shipped = site.cloud(), site.ship(tiny.student(tag="new"), counter=2)
    site.install_student()
    changes = make(tiny.student(), shipped.model)
    site.start()
    wait_until(lambda: any(cloud.turn()), LONG_S)
    cloud.send(ModelOffer(CAMERA, shipped.signed))
    request, _ = cloud.receive(ModelRequest)
    (base,) = request.bases
    (site.folder / "initial.onnx").unlink()
    cloud.send(ModelChunk(CAMERA, "gate-2", 0, len(changes), base), changes)
    request, _ = cloud.receive(ModelRequest)
    assert (request.offset, request.bases) == (0, ())
    cloud.send(ModelChunk(CAMERA, "gate-2", 0, len(shipped.model)), shipped.model)
    report, _ = cloud.receive(SwapReport)
    assert report.outcome == "live"
    assert told(site, "model_fetched", "how") == ["whole"]
    assert told(site, "model_refused", "reason") == ["base-missing"]
    cloud.close()
