"""`culling bench rounds`: rounds/hour of several cameras, at once and one after the other, on this machine and in Ray.

    culling bench rounds --cameras 4
    RAY_AUTH_MODE=token culling bench rounds --ray 127.0.0.1:6379

Rounds are real and small: few frames at a small input, few steps, a gate that lets everything pass. So what a round
costs beside its work, a process and the cluster's part in it, weighs more than in rounds of a service: the overhead of
Ray in percent is one of a small round, and in seconds that of any. The cluster needs as many cores as this machine has.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from culling.cloud.bench.material import Video, choose_provider, read_pictures
from culling.cloud.control.executor import Executor, check_executor
from culling.cloud.control.publish import Publisher
from culling.cloud.control.runner import Runner
from culling.cloud.model.base import base_artefact
from culling.cloud.settings import CloudSettings, load_settings, to_toml
from culling.cloud.store.frames import Arrival
from culling.cloud.store.index import Index
from culling.cloud.store.keys import load_keys
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.roster import add_edge
from culling.cloud.store.rounds import Rounds
from culling.cloud.weights.index import REFERENCE
from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, RoundCount, Stated, at_least
from culling.common.clock import SystemClock
from culling.common.errors import TrainingError
from culling.common.frame import Detections
from culling.common.video import BUNDLED_CLIP
from culling.common.wire.codec import decode_jpeg, encode_jpeg
from culling.common.wire.messages import HardFrame, to_wire
from culling.common.wire.transport import new_keypair, public_key

SMALL: dict[str, Any] = {
    "service.reserve_bytes": 0,
    "store.held_out_block_s": 1.0,
    "store.guard_s": 0.0,
    "student.long_side": 192,
    "resolution.choose": "loss",
    "resolution.max_steps": 2,
    "gate.margin": -1.0,
    "gate.least": 1,
    "gate.certainty": 0.5,
    "gate.worse": 1.0,
    "gate.found": 0.0,
    "round.kept": 8,
    "round.batch": 2,
    "round.held_out": 8,
}
_NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
CAPTURED = 1_800_000_000.0
LONGEST_S = 1800.0
WAIT_S = 0.05


@dataclass(frozen=True)
class Way:
    """One way of running rounds."""

    kind: str
    parallel: int

    @property
    def told(self) -> str:
        """It in words."""
        where = "this machine" if self.kind == "local" else "Ray"
        return f"{where}, {'one at a time' if self.parallel == 1 else f'{self.parallel} at once'}"


def rounds_command(
    video: Video = BUNDLED_CLIP,
    cameras: Annotated[int, typer.Option(min=1, help="cameras, each with a round a way")] = 2,
    frames: Annotated[int, typer.Option(min=24, help="labelled frames of each camera")] = 24,
    steps: Annotated[int, typer.Option(min=1, help="training steps of a round")] = 40,
    parallel: Annotated[int, typer.Option(min=2, help="rounds at once")] = 2,
    family: Annotated[str, typer.Option(help="the students' family")] = REFERENCE,
    ray: Annotated[str, typer.Option(help="a cluster of Ray, `HOST:PORT`; without one it is left out")] = "",
    rounds: RoundCount = 1,
    as_json: Json = False,
) -> None:
    """Rounds/hour, several at once and in a cluster of Ray, against one after the other on this machine."""
    one, many = Way("local", 1), Way("local", parallel)
    ways = [one, many, *([Way("ray", 1), Way("ray", parallel)] if ray else [])]
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        made = Path(folder) / "made"
        prepare(made, video, cameras, frames, family)
        sides = [lambda way=way: rounds_an_hour(made, way, ray, steps, family) for way in ways]
        found = [
            Measured(way.told, "rounds/hour", v) for way, v in zip(ways, bench.in_turn(rounds, *sides), strict=True)
        ]
    comparisons = [Comparison("rounds at once", found[1], found[0], None)]
    stated: tuple[Stated, ...] = ()
    if ray:
        comparisons += [
            Comparison("a round in Ray", found[2], found[0], at_least(1 / 1.05)),
            Comparison("rounds at once in Ray", found[3], found[0], None),
        ]
        alone, there = (3600 / bench.spread(one.values).median for one in (found[0], found[2]))
        stated = (Stated(Measured("what Ray adds to a round", "s", (there - alone,))),)
    report = Report("rounds", tuple(comparisons), stated, machine=bench.machine(choose_provider()))
    bench.print_report(report, as_json)


def rounds_an_hour(made: Path, way: Way, address: str, steps: int, family: str = REFERENCE) -> float:
    """Return how many rounds an hour a copy of the prepared cameras has in one way."""
    with TemporaryDirectory(prefix="culling-bench-") as folder:
        data_dir = Path(folder) / "data"
        shutil.copytree(made, data_dir)
        cores = max(1.0, (os.cpu_count() or 1) / way.parallel)
        options = {"kind": way.kind, "parallel": way.parallel, "address": address or "auto", "num_cpus": cores}
        given = {f"executor.{name}": value for name, value in options.items()} | {"student.family": family}
        settings = settings_of(data_dir, **given, **{"round.most_steps": steps, "round.patience": steps})
        path = data_dir / "round.toml"
        path.write_bytes(to_toml(settings))
        check_executor(path, settings)
        with index_of(settings) as index:
            return _run_all(Runner(Executor(path, settings, SystemClock()), Rounds(index), SystemClock(), 900.0), index)


def _run_all(runner: Runner, index: Index) -> float:
    turns = Rounds(index).unfinished()
    started = time.monotonic()
    while running := [turn for turn in Rounds(index).unfinished() if turn.state == "running"]:
        if time.monotonic() - started > LONGEST_S:
            runner.stop()
            raise TrainingError(f"rounds have not ended within {LONGEST_S:.0f} s: lower --cameras or --steps")
        for turn in running:
            runner.start(turn)
        time.sleep(WAIT_S)
        list(runner.collect())
    seconds = time.monotonic() - started
    runner.stop()
    ended = Rounds(index).all()
    if wrong := [turn for turn in ended if turn.state != "ready"]:
        raise TrainingError(f"a round of {wrong[0].camera} is {wrong[0].state}: {wrong[0].reason}")
    return 3600 * len(turns) / seconds


def prepare(data_dir: Path, video: Path, cameras: int, frames: int, family: str = REFERENCE) -> None:
    """Make a data folder with cameras for each of which a round was entered."""
    settings, clock = settings_of(data_dir, **{"student.family": family}), SystemClock()
    with index_of(settings) as index:
        files, store = model_files(settings), frame_store(settings, index, clock)
        publisher = Publisher(index, files, load_keys(data_dir).signing, 1.0, clock)
        base = base_artefact(settings, files)
        _, secret = new_keypair()
        names = [f"camera-{number}" for number in range(cameras)]
        with index.write() as connection:
            add_edge(connection, "edge", public_key(secret), tuple(names), clock.now())
        pictures = [encode_jpeg(picture) for picture in read_pictures(video, frames)]
        for camera in names:
            publisher.publish(camera, base, "base")
            arrivals = [_arrival(camera, public_key(secret), seq, jpeg) for seq, jpeg in enumerate(pictures)]
            store.add_all(arrivals)
            FrameLifecycle(index, store, clock).label({one.name: _made_up(one.frame) for one in arrivals})
            Rounds(index).start(camera, "manual", clock.now())


def settings_of(data_dir: Path, **more: Any) -> CloudSettings:
    """Return the settings of small rounds in a data folder, whatever file of settings lies about."""
    empty = data_dir.parent / "empty.toml"
    empty.write_text("")
    return load_settings(empty, {"service.data_dir": str(data_dir), **SMALL, **more})


@contextmanager
def index_of(settings: CloudSettings) -> Iterator[Index]:
    """Open the index, and close it at the end of the block."""
    index = Index(settings.store_url)
    try:
        yield index
    finally:
        index.close()


def _made_up(frame: HardFrame) -> Detections:
    """Return a label that wanders through the picture: there is something to learn, and no teacher is needed."""
    side, left = frame.height / 4, frame.seq * 7 % (frame.width * 3 // 4)
    box = np.array([[left, side, left + side, 3 * side]], np.float32)
    return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64))


def _arrival(camera: str, key: str, seq: int, jpeg: bytes) -> Arrival:
    height, width = decode_jpeg(jpeg).shape[:2]
    frame = HardFrame(
        camera=camera,
        boot=camera,
        seq=seq,
        frame=seq,
        pts=float(seq),
        captured=CAPTURED + seq,
        reason="hard",
        loss=float(seq),
        model_id=f"{camera}-1",
        width=width,
        height=height,
        sha256=sha256(jpeg).hexdigest(),
        detections=to_wire(_NOTHING),
    )
    return Arrival(key, frame, jpeg)
