"""Keys are changed while the service runs, by the rows of SECURITY.md's table; and a kit that is too old still sees."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.enroll import Enrollment, enroll
from culling.cloud.store.keys import load_keys
from culling.common.wire.messages import Ack, Heartbeat, Refused, Welcome
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, camera_state, hard_frame, hello
from support.narrow import install, narrow_base
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

pytestmark = pytest.mark.fault


@pytest.fixture
def cloud(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[CloudState]:
    narrow = narrow_base(request.config)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    student = {"weights": str(narrow / "student.safetensors")}
    state = CloudState(tmp_path, student=student, service={"endpoint": endpoint}, schedule={"hold": True})
    install(narrow, state.data_dir)
    yield state
    state.close()


def kit(cloud: CloudState, replace: bool = False, **publish: float) -> dict[str, Any]:
    """Enroll the edge; return its settings, for a file that lies elsewhere."""
    validity = cloud.settings.publish.model_copy(update=publish)
    settings = cloud.settings.model_copy(update={"publish": validity})
    who = Enrollment("edge-1", (CAMERA,), settings.service.endpoint, replace)
    folder = cloud.folder / "kit"
    written = tomllib.loads(enroll(settings, who, folder, cloud.clock).read_text())
    written["agent"]["state_dir"] = str(folder / "state")
    written["student"]["initial"] = str(folder / "student.onnx")
    return written


def test_a_replaced_key_ends_on_its_open_connection_and_the_new_one_goes_on(cloud: CloudState) -> None:
    first = kit(cloud)["cloud"]
    beat = Heartbeat("boot-1", [camera_state(model_id="gate-1")])
    frame, jpeg = hard_frame(1)
    with ServiceProcess(cloud) as service:
        old = Edge(service.endpoint, first["server_key"], first["secret_key"])
        old.ask(hello(camera_state(model_id="gate-1")), Welcome)
        second = kit(cloud, replace=True)["cloud"]
        # The service looks at its roster every second.
        wait_until(lambda: isinstance(old.ask(beat, Refused, Welcome), Refused))
        assert old.ask(frame, Refused, payload=jpeg).reason.startswith("revoked")
        new = Edge(service.endpoint, second["server_key"], second["secret_key"])
        new.ask(hello(camera_state(model_id="gate-1")), Welcome)
        assert new.ask(frame, Ack, payload=jpeg).seq == 1
        old.close()
        new.close()
        assert service.terminate() == 0
    assert cloud.frames.counts()[CAMERA].stored == 1


def test_an_old_kit_sees_and_takes_models_of_a_new_signing_key_and_then_trusts_that_alone(
    cloud: CloudState, new_site: Callable[..., Site]
) -> None:
    """Its installed manifest has expired; then a key is made, added, put in place and used, and the old one taken."""
    moving_clip(cloud.folder / "clip.mp4", 40)
    (cloud.folder / "new").mkdir()
    new_keys = load_keys(cloud.folder / "new")
    site = new_site(cloud.folder)

    def start(settings: dict[str, Any]) -> None:
        settings["camera"][0] |= {"url": str(cloud.folder / "clip.mp4"), "loop": True}
        settings["agent"] |= {"allow_cpu": True, "threads": 1, "drain_s": 2.0}
        settings["cloud"]["heartbeat_s"] = 0.5
        site.settings = {**settings, "metrics": {"port": 0}}
        site.start()

    def runs(model_id: str) -> bool:
        (row,) = cloud.roster.rows()
        return row.state is not None and row.state.model_id == model_id and row.state.inferred > 0

    settings = kit(cloud, valid_days=1e-9)
    settings["cloud"]["signing_keys"].append(new_keys.signing_public)
    secret = cloud.data_dir / "keys" / "signing.secret"
    secret.write_bytes((cloud.folder / "new" / "keys" / "signing.secret").read_bytes())
    with ServiceProcess(cloud):
        start(settings)
        wait_until(lambda: runs("gate-1"), 120)
        cloud.requests.ask("publish", CAMERA, time.time(), {"model_id": "gate-1"})
        wait_until(lambda: f"{CAMERA}/gate-2" in cloud.registry.swaps(), 120)
        assert cloud.registry.swaps()[f"{CAMERA}/gate-2"].outcome == "live"
        site.close()
        replaced = kit(cloud, replace=True)
        assert replaced["cloud"]["signing_keys"] == [new_keys.signing_public]
        heard = time.time()
        start(replaced)
        wait_until(lambda: runs("gate-2") and (cloud.roster.rows()[0].heard or 0) > heard + 1, 120)
    assert "initial_model_validity_waived" in site.log()
    assert "process_crashed" not in site.log()
