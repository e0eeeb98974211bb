"""The whole loop, from camera to hot swap: real processes, CURVE, SQLite and files; only the models are narrow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from culling.cloud.demo.figures import lost, read_trace
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry
from culling.cloud.store.rounds import Round, Rounds
from support.clips import make_clip
from support.narrow import install, narrow_base
from support.site import free_port, wait_until

CAMERA = "gate"
ROUNDS = 3


class Loop:
    """A cloud service and an edge agent in one folder, started as an operator would start them."""

    def __init__(self, folder: Path, narrow: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        weights = str(narrow / "student.safetensors")
        self.cloud: dict[str, Any] = {
            "service": {
                "data_dir": str(folder / "data"), "endpoint": f"tcp://127.0.0.1:{free_port()}", "reserve_bytes": 0
            },
            "student": {"weights": weights, "long_side": 128},
            "teacher": {"file": weights, "short_side": 96, "min_score": 0.0, "true_score": 0.1},
            "schedule": {"min_new": 8, "least": 4},
            "store": {"held_out_block_s": 0.5, "guard_s": 0.0},
            # Random students have nothing to learn; trained in earnest they would see nothing, and be rolled back.
            "round": {
                "kept": 4, "most_steps": 2, "patience": 2, "batch": 2, "held_out": 4, "warmup": 1,
                "lr": 1e-6, "threads": 1,
            },
            "resolution": {"choose": "loss", "max_steps": 2},
            "gate": {"margin": -1.0, "least": 1, "certainty": 0.5, "worse": 1.0},
            "publish": {"reoffer_s": 1.0},
            "metrics": {"port": 0},
            "page": {"port": 0},
        }  # fmt: skip
        (folder / "cloud.toml").write_text(tomli_w.dumps(self.cloud))
        (folder / "data").mkdir(mode=0o700)
        install(narrow, folder / "data")
        self.culling("cloud", "enroll", "edge-1", CAMERA, "--out", str(folder / "kit"), "--config",
                     str(folder / "cloud.toml"))  # fmt: skip
        clip = make_clip(folder / "clip.mp4", frames=120, width=128, height=96, fps=15)
        self.edge_toml = folder / "kit" / "edge.toml"
        edge = tomllib.loads(self.edge_toml.read_text())
        edge["agent"] |= {"state_dir": str(folder / "edge"), "allow_cpu": True, "threads": 1}
        edge["agent"]["trace"] = str(folder / "trace.jsonl")
        edge["cloud"]["heartbeat_s"] = 0.5
        edge["camera"] = [{"name": CAMERA, "url": str(clip), "loop": True}]
        edge["selector"] = {"frames_per_window": 8, "window_s": 4.0, "spacing_s": 0.1, "bootstrap": 4}
        edge["selector"]["duplicate_change"] = 0.0
        edge["metrics"] = {"port": 0}
        self.edge_toml.write_text(tomli_w.dumps(edge))
        self.index = Index(f"sqlite:///{folder / 'data' / 'index.sqlite'}")

    def culling(self, *arguments: str) -> None:
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def start(self, side: str) -> None:
        command = {"cloud": ("cloud", "serve", self.folder / "cloud.toml"), "edge": ("edge", "run", self.edge_toml)}
        name, verb, config = command[side]
        with (self.folder / f"{side}.log").open("ab") as log:
            self.processes[side] = subprocess.Popen(
                [*COMMAND, name, verb, "--config", str(config)],
                stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def end(self, side: str, number: signal.Signals = signal.SIGTERM) -> int:
        self.processes[side].send_signal(number)
        return self.processes[side].wait(40)

    def wait(self, condition: Callable[[], bool], within_s: float) -> None:
        """Wait while both processes live; what they logged is shown when it takes too long."""
        try:
            wait_until(lambda: condition() or any(p.poll() is not None for p in self.processes.values()), within_s)
            assert condition(), "a process ended by itself"
        except AssertionError:
            for side in self.processes:
                print(side, (self.folder / f"{side}.log").read_text()[-4000:])
            raise

    def published(self) -> list[Round]:
        return [row for row in Rounds(self.index).all(CAMERA) if row.state == "published"]

    def live_swaps(self) -> set[str]:
        return {swap.model_id for swap in Registry(self.index).swaps().values() if swap.outcome == "live"}

    def stored(self) -> int:
        with self.index.read() as connection:
            return int(connection.exec_driver_sql("SELECT COUNT(*) FROM frames").scalar_one())


pytestmark = pytest.mark.timeout(360)  # a minute on free cores, several on busy ones
COMMAND = (sys.executable, "-m", "culling.common.cli")


@pytest.fixture
def loop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop = Loop(tmp_path, narrow_base(request.config))
    yield loop
    for process in loop.processes.values():
        if process.poll() is None:
            process.kill()
        process.wait(10)
    loop.index.close()


def test_three_rounds_and_three_hot_swaps_lose_nothing(loop: Loop) -> None:
    loop.start("cloud")
    loop.start("edge")
    loop.wait(lambda: len(loop.published()) >= ROUNDS and len(loop.live_swaps()) >= ROUNDS, within_s=270)
    assert loop.end("edge") == 0
    assert loop.end("cloud") == 0
    assert lost(loop.folder / "edge" / "spool.sqlite", loop.stored(), {}) == 0
    first_results = read_trace(loop.folder / "trace.jsonl")
    rounds = sorted(loop.published(), key=lambda row: row.id)
    for before, after in pairwise(rounds):
        assert after.report["parent"] == before.model_id, "a round starts from the model of the one before"
    assert {row.model_id for row in rounds[:ROUNDS]} <= first_results.keys(), "every student saw the camera"


def test_a_cloud_killed_in_the_middle_of_a_round_goes_on_and_stores_nothing_twice(loop: Loop) -> None:
    loop.start("cloud")
    loop.start("edge")
    loop.wait(lambda: any(row.stages for row in Rounds(loop.index).all(CAMERA)), within_s=120)
    (began,) = Rounds(loop.index).all(CAMERA)
    loop.end("cloud", signal.SIGKILL)
    stored = loop.stored()
    del loop.processes["cloud"]
    time.sleep(1)  # the edge goes on without a cloud for a while
    loop.start("cloud")
    loop.wait(lambda: bool(loop.published()) and loop.stored() > stored, within_s=200)
    assert loop.published()[-1].id == began.id, "the very round that was cut short is the one that ends"
    assert loop.end("edge") == 0
    assert loop.end("cloud") == 0
    assert lost(loop.folder / "edge" / "spool.sqlite", loop.stored(), {}) == 0
