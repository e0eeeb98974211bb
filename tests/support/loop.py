"""A cloud service and an edge agent in one folder, as real processes; only the models are narrow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import tomli_w

from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry
from culling.cloud.store.rounds import Round, Rounds
from culling.common.cli import main
from support.clips import make_clip
from support.narrow import install
from support.site import free_port
from support.waiting import wait_until

CAMERA = "gate"
REST_S = 0.1
"""Between two looks at processes that work for a minute, each a query of the index."""
COMMAND = (sys.executable, "-m", "culling.common.cli")


class Loop:
    """A cloud service and an edge agent in one folder, started as an operator would start them."""

    def __init__(self, folder: Path, narrow: Path, clip: Path | None = None, **sections: dict[str, Any]) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        weights = str(narrow / "student.safetensors")
        self.cloud: dict[str, Any] = {
            "service": {
                "data_dir": str(folder / "data"), "endpoint": f"tcp://127.0.0.1:{free_port()}", "reserve_bytes": 0
            },
            "student": {"weights": weights, "long_side": 128},
            "teacher": {"file": weights, "short_side": 96, "min_score": 0.0, "true_score": 0.1},
            "schedule": {"first": 12, "min_new": 8, "least": 4},
            "store": {"held_out_block_s": 0.5, "guard_s": 0.0},
            # Random students have nothing to learn; trained in earnest they would see nothing, and be rolled back.
            "round": {
                "kept": 4, "scored": 12, "most_steps": 2, "patience": 2, "batch": 2, "held_out": 4, "warmup": 1,
                "lr": 1e-6, "threads": 1,
            },
            "resolution": {"choose": "loss", "max_steps": 2},
            "gate": {"margin": -1.0, "least": 1, "certainty": 0.5, "worse": 1.0, "found": 0.0},
            "publish": {"reoffer_s": 1.0},
            "metrics": {"port": 0},
            "page": {"port": 0},
        }  # fmt: skip
        self.cloud |= {name: {**self.cloud.get(name, {}), **section} for name, section in sections.items()}
        (folder / "cloud.toml").write_text(tomli_w.dumps(self.cloud))
        (folder / "data").mkdir(mode=0o700)
        install(narrow, folder / "data")
        self.culling("cloud", "enroll", "edge-1", CAMERA, "--out", str(folder / "kit"), "--config",
                     str(folder / "cloud.toml"))  # fmt: skip
        clip = clip or make_clip(folder / "clip.mp4", frames=30, width=128, height=96, fps=3)
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

    def culling(self, *arguments: str) -> str:
        """Run a command in this process, which has imported what it needs; return what it prints."""
        with redirect_stdout(StringIO()) as said:
            assert main(arguments) == 0
        return said.getvalue()

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(10)
        self.index.close()

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
            alive = self.processes.values()
            wait_until(lambda: condition() or any(p.poll() is not None for p in alive), within_s, REST_S)
            assert condition(), "a process ended by itself"
        except AssertionError:
            for side in self.processes:
                print(side, (self.folder / f"{side}.log").read_text()[-4000:])
            raise

    def rounds(self) -> list[Round]:
        return Rounds(self.index).all(CAMERA)

    def published(self) -> list[Round]:
        return [row for row in self.rounds() if row.state == "published"]

    def live_swaps(self) -> set[str]:
        return {swap.model_id for swap in Registry(self.index).swaps().values() if swap.outcome == "live"}

    def stored(self) -> int:
        with self.index.read() as connection:
            return int(connection.exec_driver_sql("SELECT COUNT(*) FROM frames").scalar_one())
