"""The systemd units start from what their owner has: the kit as it was written, a settings file in /etc/culling."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.enroll import URL_TO_FILL_IN, Enrollment, enroll
from culling.common.wire.messages import CameraState
from support.cloud import CAMERA, CloudState
from support.site import moving_clip
from support.units import UNITS, Manager, require_namespaces, start, unit, unit_text
from support.waiting import wait_until

ROLES = tuple(f"culling-cloud@{role}" for role in ("ingest", "control", "page"))
NAMES = ("culling-edge", "culling-cloud", *ROLES)


class Started:
    """One unit's process, and what its manager hears of it."""

    def __init__(self, name: str, state: Path, etc: Path, folder: Path, **environment: str) -> None:
        self.manager = Manager(name)
        self.log = folder / f"{name}.log"
        told = {"NOTIFY_SOCKET": self.manager.address, "OMP_NUM_THREADS": "1", **environment}
        self.process = start(name, state, etc, self.log, told)

    def ends(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.manager.close()


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    require_namespaces()
    (tmp_path / "etc" / "culling").mkdir(parents=True)
    return tmp_path / "etc"


@pytest.fixture
def cloud(tmp_path: Path, etc: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path, schedule={"hold": True})
    told = state.toml.read_text().replace(str(state.data_dir), "/var/lib/culling")
    (etc / "culling" / "cloud.toml").write_text(told)
    yield state
    state.close()


def kit(cloud: CloudState, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a kit as `culling cloud enroll` writes it, with the camera's address filled in."""
    monkeypatch.setattr("culling.cloud.enroll.base_artefact", lambda *_: cloud.artefact())
    toml = enroll(cloud.settings, Enrollment("edge-1", (CAMERA,), endpoint), cloud.folder / "kit", cloud.clock)
    clip = toml.parent / "clip.mp4"
    moving_clip(clip, frames=50)
    toml.write_text(toml.read_text().replace(URL_TO_FILL_IN, f"/var/lib/culling-edge/{clip.name}") + "loop = true\n")
    return toml.parent


def test_both_units_start_in_their_sandbox_and_tell_their_manager(
    cloud: CloudState, etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Started("culling-cloud", cloud.data_dir, etc, tmp_path)
    try:
        service.manager.hears("READY=1")
        folder = kit(cloud, (cloud.data_dir / "endpoint").read_text().strip(), monkeypatch)
        agent = Started(
            "culling-edge", folder, etc, tmp_path, CULLING_AGENT__ALLOW_CPU="true", CULLING_METRICS__PORT="0"
        )
        try:
            agent.manager.hears("READY=1")
            agent.manager.hears("WATCHDOG=1")
            assert (folder / "state" / "spool.sqlite").exists(), "its state lies in the kit's folder"

            def state() -> CameraState | None:
                return cloud.roster.rows()[0].state

            wait_until(lambda: (heard := state()) is not None and heard.acked > 0)
            assert agent.ends() == 0
            agent.manager.hears("STOPPING=1")
        finally:
            agent.close()
        service.manager.hears("WATCHDOG=1")
        assert service.ends() == 0
    finally:
        service.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_can_write_to_its_state_and_nowhere_else(name: str, etc: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    tried = ["/etc/culling", "/usr", "/opt", "/var/lib", f"/var/lib/{unit(name)['StateDirectory']}", "/tmp"]
    command = f"sh -c 'for at in {' '.join(tried)}; do touch $at/written && echo $at; done; true'"

    start(name, state, etc, tmp_path / "log", {}, command).wait(30)

    written = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("/")]
    assert set(written) <= {tried[4], "/tmp"}
    assert tried[4] in written
    assert (state / "written").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["culling-cloud", *ROLES])
def test_a_round_that_the_kernel_ends_does_not_stop_the_cloud_unit(name: str) -> None:
    assert "OOMPolicy=continue" in unit_text(name).splitlines()


@pytest.mark.parametrize("name", ROLES)
def test_a_role_keeps_its_state_in_the_folder_that_its_unit_makes(name: str) -> None:
    service, role = unit(name), name.partition("@")[2]
    assert service["Environment"] == f"CULLING_SERVICE__DATA_DIR=/var/lib/{service['StateDirectory']}"
    assert service["StateDirectory"] == f"culling-{role}"
    whole, own = unit("culling-cloud")["ExecStart"], service["ExecStart"]
    assert own == whole.replace("cloud serve", f"cloud serve --role {role}")
    differs = {"ExecStart", "StateDirectory", "Environment", "EnvironmentFile"}
    assert {key for key in service if service[key] != unit("culling-cloud").get(key)} == differs


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_understands_a_unit(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.service"
    template = file.with_name(f"{name.partition('@')[0]}@.service") if "@" in name else file
    template.write_text((UNITS / template.name).read_text().replace("/opt/culling/bin/culling", "/bin/true"))

    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)

    assert [line for line in done.stderr.splitlines() if name in line] == []
    assert done.returncode == 0
