"""Cameras that come, move between edges and go, while a real service and two real agents run."""

from __future__ import annotations

import json
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import tomli_w

from culling.cloud.store.index import edges, frames
from culling.common.cli import main
from support.cloud import CloudState, ServiceProcess
from support.narrow import install, narrow_base
from support.nursery import start
from support.site import moving_clip
from support.waiting import wait_until

SELECTOR = {
    "frames_per_window": 400, "window_s": 2.0, "spacing_s": 0.0, "duplicate_change": 0.0, "bootstrap": 400,
}  # fmt: skip


class Agent:
    """A real agent on the kit that `culling cloud enroll` wrote for an edge with one camera."""

    def __init__(self, fleet: Fleet, edge: str, camera: str) -> None:
        self.kit = fleet.folder / edge
        fleet.culling("enroll", edge, camera, "--endpoint", fleet.service.endpoint, "--out", str(self.kit))
        told = tomllib.loads(self.toml.read_text())
        told["agent"] |= {"allow_cpu": True, "threads": 1, "drain_s": 1.0}
        told["cloud"]["heartbeat_s"] = 0.5
        told["camera"][0] |= {"url": fleet.clip, "loop": True}
        self.toml.write_text(tomli_w.dumps({**told, "selector": SELECTOR, "metrics": {"port": 0}}))
        self.process = start(["edge", "run"], self.kit / "agent.log", self.kit)  # as the last line of `enroll` says

    @property
    def toml(self) -> Path:
        return self.kit / "edge.toml"

    def take(self, out: Path) -> None:
        """Do what `camera add` and `camera move` say: the manifest beside the model, the table into the settings."""
        for manifest in out.glob("student.*.manifest"):
            (self.kit / manifest.name).write_bytes(manifest.read_bytes())
        table = (out / "camera.toml").read_text()
        self.toml.write_text(f"{self.toml.read_text()}\n{table}loop = true\n")
        assert main(["edge", "reload", "--config", str(self.toml)]) == 0

    def drop(self, camera: str) -> None:
        told = tomllib.loads(self.toml.read_text())
        told["camera"] = [one for one in told["camera"] if one["name"] != camera]
        self.toml.write_text(tomli_w.dumps(told))
        assert main(["edge", "reload", "--config", str(self.toml)]) == 0

    def log(self) -> str:
        return (self.kit / "agent.log").read_text()

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


class Fleet:
    """A service and two edges: `yard` with the camera `gate`, `dock-house` with the camera `dock`."""

    def __init__(self, folder: Path, narrow: Path) -> None:
        self.folder = folder
        self.clip = str(folder / "clip.mp4")
        moving_clip(folder / "clip.mp4")
        student = {"weights": str(narrow / "student.safetensors"), "long_side": 128}
        self.cloud = CloudState(folder, student=student, schedule={"hold": True})
        install(narrow, self.cloud.data_dir)
        self.service = ServiceProcess(self.cloud)
        self.yard = Agent(self, "yard", "gate")
        self.dock = Agent(self, "dock-house", "dock")

    def culling(self, *arguments: str) -> None:
        assert main(["cloud", *arguments, "--config", str(self.cloud.toml)]) == 0

    def stored(self, camera: str, edge: str | None = None) -> int:
        """Return how many frames of a camera are stored, of an edge alone if one is named."""
        query = sa.select(sa.func.count()).select_from(frames).where(frames.c.camera == camera)
        query = query.where(frames.c.state == "stored")
        with self.cloud.index.read() as connection:
            if edge is not None:
                key = sa.select(edges.c.public_key).where(edges.c.name == edge).scalar_subquery()
                query = query.where(frames.c.edge_key == key)
            return int(connection.execute(query).scalar_one())

    def more(self, camera: str, edge: str) -> None:
        """Wait until frames of a camera have come from an edge, more than there were."""
        before = self.stored(camera, edge)
        wait_until(lambda: self.stored(camera, edge) > before)

    def close(self) -> None:
        self.yard.close()
        self.dock.close()
        self.service.kill()
        self.cloud.close()


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, narrow_base(request.config))
    yield fleet
    fleet.close()


def test_a_camera_comes_moves_and_goes_with_all_it_recorded_and_nothing_is_restarted(fleet: Fleet) -> None:
    fleet.more("gate", "yard")
    added, moved = fleet.folder / "added", fleet.folder / "moved"

    fleet.culling("camera", "add", "ramp", "--edge", "yard", "--url", fleet.clip, "--out", str(added))
    fleet.yard.take(added)
    fleet.more("ramp", "yard")

    fleet.yard.drop("ramp")
    fleet.culling("camera", "move", "ramp", "--edge", "dock-house", "--url", fleet.clip, "--out", str(moved))
    fleet.dock.take(moved)
    fleet.more("ramp", "dock-house")

    fleet.culling("camera", "remove", "ramp", "--purge")  # while its edge still sends
    wait_until(lambda: '"reason": "camera-removed"' in fleet.service.log())
    assert fleet.stored("ramp") == 0
    # What its edge still sends is written before it is refused, and goes again.
    wait_until(lambda: not any((fleet.cloud.data_dir / "frames" / "ramp").iterdir()))
    fleet.dock.drop("ramp")

    fleet.more("gate", "yard")
    fleet.more("dock", "dock-house")
    assert [agent.process.poll() for agent in (fleet.yard, fleet.dock)] == [None, None]
    audit = [json.loads(line) for line in (fleet.cloud.data_dir / "audit.log").read_text().splitlines()]
    assert [line["event"] for line in audit] == [
        "camera_added", "camera_moved", "camera_removed", "camera_purge_began", "camera_purged",
    ]  # fmt: skip
    assert audit[-1]["rows"] > 0
    refused = next(line for line in fleet.service.log().splitlines() if '"reason": "camera-removed"' in line)
    assert '"edge": "dock-house"' in refused, "an edge is named by its name, not by its key"
    assert "settings: " in fleet.yard.log(), "the agent found its settings, and said which"
