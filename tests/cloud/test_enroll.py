from __future__ import annotations

import stat
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.enroll import Enrollment, endpoint_for_edges, enroll
from culling.cloud.store.folders import only_one
from culling.common.clock import DAY_S
from culling.common.errors import ModelError, SettingsError
from culling.common.wire.manifest import Trust, key_id, verify, verify_model
from culling.common.wire.transport import public_key
from culling.edge.settings import load_settings as load_edge_settings
from support.clock import FakeClock
from support.cloud import CloudState
from support.narrow import install

ENDPOINT = "tcp://cloud.example:5577"


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, student={"weights": str(narrow / "student.safetensors")})
    install(narrow, state.data_dir)
    yield state
    state.close()


def enrolled(cloud: CloudState, *cameras: str, edge: str = "edge-1", replace: bool = False) -> dict[str, Any]:
    """Enroll an edge; return the settings that were written for it."""
    who = Enrollment(edge, cameras or ("gate",), ENDPOINT, replace)
    path = enroll(cloud.settings, who, cloud.folder / edge, cloud.clock)
    assert path == cloud.folder / edge / "edge.toml"
    return tomllib.loads(path.read_text())


def test_the_folder_is_all_that_an_edge_needs(cloud: CloudState) -> None:
    enrolled(cloud, "gate", "yard")
    settings = load_edge_settings(cloud.folder / "edge-1" / "edge.toml", {})
    assert settings.cloud.endpoint == ENDPOINT
    assert settings.cloud.server_key == cloud.keys.curve_public
    assert settings.cloud.signing_keys == (cloud.keys.signing_public,)
    assert [camera.name for camera in settings.camera] == ["gate", "yard"]
    assert settings.student.initial is not None
    public = cloud.keys.signing.public_key()
    for camera in ("gate", "yard"):
        manifest_path = settings.student.manifest(camera)
        assert manifest_path is not None
        trust = Trust({key_id(public): public}, camera)
        manifest = verify(manifest_path.read_bytes(), trust, time.time())
        verify_model(manifest, settings.student.initial.read_bytes())
        assert manifest.counter == 1


def test_the_folder_works_wherever_it_is_carried(cloud: CloudState) -> None:
    enrolled(cloud)
    carried = cloud.folder.joinpath("edge-1").rename(cloud.folder / "elsewhere")
    settings = load_edge_settings(carried / "edge.toml", {})
    assert settings.agent.state_dir == carried / "state"
    assert settings.student.initial == carried / "student.onnx"
    manifest = settings.student.manifest("gate")
    assert manifest is not None
    assert manifest.parent == carried


def test_the_settings_hold_a_secret_and_are_the_owners_alone(cloud: CloudState) -> None:
    enrolled(cloud)
    mode = stat.S_IMODE((cloud.folder / "edge-1" / "edge.toml").stat().st_mode)
    assert mode == 0o600


def test_the_edge_may_connect_and_owns_its_cameras(cloud: CloudState) -> None:
    key = public_key(enrolled(cloud, "gate", "yard")["cloud"]["secret_key"])
    assert cloud.roster.allowed(key)
    assert cloud.roster.members().cameras == {key: frozenset({"gate", "yard"})}


def test_every_camera_has_a_live_base_model_from_the_start(cloud: CloudState) -> None:
    enrolled(cloud, "gate", "yard")
    live = cloud.registry.live()
    assert {camera: (model.model_id, model.origin) for camera, model in live.items()} == {
        "gate": ("gate-1", "base"),
        "yard": ("yard-1", "base"),
    }
    weights = live["gate"].artefact.weights
    assert weights is not None
    assert cloud.files.read(weights, "safetensors")


def test_two_edges_get_keys_of_their_own_and_the_same_clouds(cloud: CloudState) -> None:
    first, second = enrolled(cloud)["cloud"], enrolled(cloud, "yard", edge="edge-2")["cloud"]
    assert first["secret_key"] != second["secret_key"]
    assert first["server_key"] == second["server_key"]


def test_a_name_is_enrolled_once(cloud: CloudState) -> None:
    key = public_key(enrolled(cloud)["cloud"]["secret_key"])
    with pytest.raises(SettingsError, match="--replace"):
        enrolled(cloud, "yard")
    assert cloud.roster.members().cameras == {key: frozenset({"gate"})}
    assert "yard" not in cloud.registry.live()


def test_replacing_ends_the_old_key_and_keeps_the_cameras_models(cloud: CloudState) -> None:
    old = public_key(enrolled(cloud)["cloud"]["secret_key"])
    cloud.publisher.publish("gate", cloud.artefact(), "round")
    new = public_key(enrolled(cloud, replace=True)["cloud"]["secret_key"])
    assert not cloud.roster.allowed(old)
    assert cloud.roster.allowed(new)
    assert cloud.registry.live_ids() == {"gate": "gate-2"}
    public = cloud.keys.signing.public_key()
    blob = (cloud.folder / "edge-1" / "student.gate.manifest").read_bytes()
    assert verify(blob, Trust({key_id(public): public}, "gate"), time.time()).counter == 1


def test_an_edge_that_is_enrolled_again_keeps_its_first_model_whatever_the_settings_say_by_now(
    cloud: CloudState,
) -> None:
    enrolled(cloud)
    before = (cloud.folder / "edge-1" / "student.onnx").read_bytes()
    student = cloud.settings.student.model_copy(update={"weights": cloud.folder / "another.safetensors"})
    cloud.settings = cloud.settings.model_copy(update={"student": student})
    enrolled(cloud, "gate", "yard", replace=True)
    assert (cloud.folder / "edge-1" / "student.onnx").read_bytes() == before
    live = cloud.registry.live()
    assert live["yard"].artefact.sha256 == live["gate"].artefact.sha256


@pytest.mark.parametrize(("edge", "camera"), [("edge-1", "gate"), ("edge-2", "gate")])
def test_a_refused_enrollment_writes_nothing(cloud: CloudState, edge: str, camera: str) -> None:
    enrolled(cloud)
    before = {path: path.read_bytes() for path in cloud.folder.joinpath("edge-1").iterdir()}
    with pytest.raises(SettingsError):
        enrolled(cloud, camera, edge=edge)
    assert {path: path.read_bytes() for path in cloud.folder.joinpath("edge-1").iterdir()} == before
    assert not (cloud.folder / "edge-2").exists()


def test_a_camera_may_be_added_below_what_was_written(cloud: CloudState) -> None:
    enrolled(cloud)
    path = cloud.folder / "edge-1" / "edge.toml"
    path.write_text(path.read_text() + '\n[[camera]]\nname = "yard"\nurl = "yard.mp4"\n')
    assert [camera.name for camera in load_edge_settings(path, {}).camera] == ["gate", "yard"]


def test_replacing_brings_a_first_model_that_was_signed_today(cloud: CloudState) -> None:
    enrolled(cloud)
    cloud.clock = FakeClock(time.time() + 400 * DAY_S)  # the first manifest has expired by now
    enrolled(cloud, replace=True)
    public = cloud.keys.signing.public_key()
    blob = (cloud.folder / "edge-1" / "student.gate.manifest").read_bytes()
    first = cloud.registry.models("gate")[-1].artefact.sha256
    known = Trust({key_id(public): public}, "gate", counter=1, sha256=first)
    assert verify(blob, known, cloud.clock.now()).counter == 1, "an edge that has it accepts it again"


def test_a_camera_cannot_be_taken_from_another_edge(cloud: CloudState) -> None:
    enrolled(cloud)
    with pytest.raises(SettingsError, match="belongs to edge edge-1"):
        enrolled(cloud, "gate", edge="edge-2")
    assert len(cloud.registry.models("gate")) == 1


@pytest.mark.parametrize("name", ["", "../gate", "a/b", "gate\n", "a..b", "x" * 65, "tür", "-gate"])
def test_a_name_that_is_a_path_or_worse_is_refused(cloud: CloudState, name: str) -> None:
    for who in (Enrollment("edge-1", (name,), ENDPOINT), Enrollment(name, ("gate",), ENDPOINT)):
        with pytest.raises(SettingsError, match="not a valid name"):
            enroll(cloud.settings, who, cloud.folder / "out", cloud.clock)
    assert not (cloud.folder / "out").exists()


@pytest.mark.parametrize("cameras", [(), ("gate", "gate"), tuple(f"camera-{n}" for n in range(65))])
def test_an_edge_has_some_cameras_each_once(cloud: CloudState, cameras: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="1 to 64 cameras"):
        enroll(cloud.settings, Enrollment("edge-1", cameras, ENDPOINT), cloud.folder / "out", cloud.clock)


def test_weights_that_cannot_be_used_enroll_no_edge(tmp_path: Path) -> None:
    state = CloudState(tmp_path, student={"weights": str(tmp_path / "none.safetensors")})
    with pytest.raises(ModelError):
        enrolled(state)
    assert state.roster.rows() == []
    state.close()


@pytest.mark.parametrize(
    ("service", "given", "expected"),
    [
        ("tcp://10.0.0.5:5577", None, "tcp://10.0.0.5:5577"),
        ("tcp://0.0.0.0:5577", "tcp://cloud.example:5577", "tcp://cloud.example:5577"),
        ("tcp://0.0.0.0:5577", None, None),
        ("tcp://*:5577", None, None),
        ("tcp://[::1]:5577", None, "tcp://[::1]:5577"),
        ("tcp://[::]:5577", None, None),
        ("tcp://10.0.0.5:5577", "tcp://fd00::7:5577", None),
        ("tcp://127.0.0.1:0", None, None),
        ("tcp://10.0.0.5:5577", "http://cloud.example", None),
        ("tcp://10.0.0.5:5577", "tcp://cloud.example", None),
    ],
)
def test_edges_are_told_an_address_they_can_use(
    tmp_path: Path, service: str, given: str | None, expected: str | None
) -> None:
    state = CloudState(tmp_path, service={"endpoint": service})
    if expected is None:
        with pytest.raises(SettingsError, match="--endpoint"):
            endpoint_for_edges(state.settings, given)
    else:
        assert endpoint_for_edges(state.settings, given) == expected
    state.close()


def test_a_port_that_was_free_to_choose_is_asked_of_the_running_service(tmp_path: Path) -> None:
    state = CloudState(tmp_path)
    (state.data_dir / "endpoint").write_text("tcp://127.0.0.1:40123\n")
    with pytest.raises(SettingsError, match="start the service first"):  # what wrote it was killed
        endpoint_for_edges(state.settings, None)
    with only_one(state.data_dir):
        assert endpoint_for_edges(state.settings, None) == "tcp://127.0.0.1:40123"
    state.close()


def test_no_kit_is_written_over_that_of_another_edge(cloud: CloudState, tmp_path: Path) -> None:
    out = tmp_path / "kit"
    first = enroll(cloud.settings, Enrollment("yard", ("door",), ENDPOINT), out, cloud.clock)
    kept = first.read_bytes()
    with pytest.raises(SettingsError, match="holds a kit already: name another folder with --out"):
        enroll(cloud.settings, Enrollment("dock", ("ramp",), ENDPOINT), out, cloud.clock)
    enroll(cloud.settings, Enrollment("dock", ("ramp",), ENDPOINT), tmp_path / "dock", cloud.clock)
    with pytest.raises(SettingsError, match="holds the kit of edge yard"):
        enroll(cloud.settings, Enrollment("dock", ("ramp",), ENDPOINT, True), out, cloud.clock)
    assert first.read_bytes() == kept
    enroll(cloud.settings, Enrollment("yard", ("door",), ENDPOINT, True), out, cloud.clock)
    assert (out / "edge.toml.old").read_bytes() == kept
