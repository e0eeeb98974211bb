"""Plays a cluster on one machine, kills its parts, and prints what was lost: `deploy/try-cluster.sh`.

PostgreSQL, an S3 server and Ray are real, and so are three ingests behind HAProxy, two controls, two pages and an edge
that plays the bundled clip to two cameras. A witness, an edge of the simulated fleet, sends frames all the while and
remembers which were acknowledged. PostgreSQL does not fsync here: only processes are killed, never the machine. What
was killed is started again at once, as a unit or a cluster's own supervisor does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import sqlalchemy as sa
import tomli_w
import zmq

from culling.cloud.store.index import frames, models, rounds
from culling.cloud.store.objects.objects import open_objects
from support.children import die_with_parent
from support.fleet import SimulatedEdge
from support.haproxy import HAPROXY, Haproxy
from support.postgres import Postgres, binaries
from support.s3 import S3
from support.scrape import Scrape
from support.site import free_port

CAMERAS = ("north", "south")
WITNESS = "witness"
ROLES = {"ingest": 3, "control": 2, "page": 2}
INGESTS, PAGES = ("ingest-1", "ingest-2", "ingest-3"), ("page-1", "page-2")
ACKED = "an acknowledgement"
START_S = 120.0
TEND_S = 1.0
FRAME_S = 1.0
"""The witness makes one so often while parts are killed, and none later: the teacher labels each, and is shared."""

QUICK: dict[str, dict[str, Any]] = {
    "store": {"held_out_block_s": 5.0, "guard_s": 0.5},
    "teacher": {"short_side": 256},
    "labelling": {"per_day": 100_000},
    "student": {"long_side": 320, "family": "yolox"},
    "schedule": {"min_new": 24, "first": 12, "least": 4, "max_age_s": 60.0},
    "round": {"kept": 12, "most_steps": 16, "patience": 16, "batch": 4, "held_out": 8},
    "gate": {"margin": -0.02, "least": 4, "certainty": 0.5, "worse": 0.3},
    "publish": {"reoffer_s": 5.0},
}
"""Settings of small rounds, as a demo's: what is tried is the cluster, not the students."""


class TrialError(Exception):
    """The trial cannot start or go on; its text is for people."""


@dataclass
class Seen:
    """What is asked about afterwards."""

    acked: set[int] = field(default_factory=set)
    stored: list[tuple[str, str, int]] = field(default_factory=list)
    published: list[tuple[str, int]] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    ended: list[tuple[str, str, float]] = field(default_factory=list)
    gaps: dict[str, float] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)


def lost(acked: Iterable[int], stored: Iterable[tuple[str, str, int]]) -> list[int]:
    """Return the numbers of frames that the witness was told are safe, and that are in no row."""
    return sorted(set(acked) - {seq for camera, _, seq in stored if camera == WITNESS})


def twice(seen: Iterable[Any]) -> list[Any]:
    """Return what occurs more than once."""
    return sorted(one for one, count in Counter(seen).items() if count > 1)


def report(seen: Seen) -> str:
    """Return the table of a trial."""
    rows = [
        *((f"killed: {kind}", f"{count}") for kind, count in seen.kills.items()),
        ("acknowledged frames of the witness", f"{len(seen.acked)}"),
        ("of those lost", f"{len(lost(seen.acked, seen.stored))}"),
        ("rows whose picture is not in the bucket", f"{len(seen.unseen)}"),
        ("frames stored twice", f"{len(twice(seen.stored))}"),
        ("rounds published twice", f"{len(twice(seen.published))}"),
        *((f"most seconds without {what}", f"{gap:.1f}") for what, gap in seen.gaps.items()),
        *((f"round of {camera}", f"{state}, {took:.0f} s") for camera, state, took in seen.ended),
        *(
            (f"round of {camera}", "none in time")
            for camera in CAMERAS
            if camera not in {one for one, *_ in seen.ended}
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def passed(seen: Seen) -> bool:
    """Whether nothing that was promised was broken, and each camera had a round."""
    whole = not (lost(seen.acked, seen.stored) or seen.unseen or twice(seen.stored) or twice(seen.published))
    return whole and {camera for camera, *_ in seen.ended} >= set(CAMERAS)


def settings_of(role: str, folder: Path, keys: Path, url: str, bucket: str, ray: bool) -> dict[str, Any]:
    """Return the settings file of one process, with a data folder and ports of its own."""
    service = {"data_dir": str(folder / "data"), "endpoint": f"tcp://127.0.0.1:{free_port()}", "reserve_bytes": 0}
    if role in ("ingest", "control"):
        service["curve_key_file"] = str(keys / "curve.secret")
    if role == "control":
        service["signing_key_file"] = str(keys / "signing.secret")
    executor = {"executor": {"kind": "ray", "parallel": 2}} if ray else {}
    return {
        **QUICK,
        **executor,
        "service": service,
        "store": {**QUICK["store"], "url": url, "objects": bucket},
        "metrics": {"port": free_port()},
        "page": {"port": free_port()},
    }


class Process:
    """One process of ours, which can be killed and started again with the same settings."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.name, self._arguments, self._folder, self.environment = name, list(arguments), folder, environment
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        if self.runs:
            return
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments],
                stdout=log, stderr=log, env=self.environment, preexec_fn=die_with_parent, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """End it as a power cut would, with all that it started; some of that has a process group of its own."""
        assert self._process is not None
        started = psutil.Process(self._process.pid).children(recursive=True) if self.runs else []
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for one in started:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self._process.wait()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def terminate(self) -> None:
        """Tell it to end, without waiting for it."""
        assert self._process is not None
        self._process.terminate()

    def stop(self) -> None:
        if self._process is not None and self.runs:
            self._process.terminate()
            try:
                self._process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()


class Trial:
    """All of it, in the order of its life."""

    agents: ClassVar[dict[str, tuple[str, ...]]] = {"yard": CAMERAS}
    """Edges that play the clip, with their cameras."""

    def __init__(self, folder: Path, ray: bool) -> None:
        self.folder, self.ray, self.seen = folder, ray, Seen()
        self._held = ExitStack()
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.services: dict[str, Process] = {}
        self.edges: dict[str, Process] = {}
        self._metrics: dict[str, Scrape] = {}
        self._nodes: dict[str, Process] = {}
        self._due = self._tended = 0.0

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def start(self) -> None:
        """Start everything, until every service says that it is ready."""
        programs = binaries()
        if programs is None or HAPROXY is None:
            raise TrialError("PostgreSQL and HAProxy are needed: apt-get install postgresql haproxy")
        self.postgres = self._held.enter_context(closing(Postgres(programs)))
        self.url = self.postgres.empty()
        self._s3 = self._held.enter_context(closing(S3(self.folder, free_port())))
        self._environment |= self._s3.environment
        os.environ.update(self._s3.environment)
        self.bucket = f"{self._s3.make('culling')}/trial"
        home = self._write("home", "control", self.folder / "home" / "data" / "keys", shared=False)
        self._culling("cloud", "migrate", "--config", str(home))
        self._culling("cloud", "keys", "--config", str(home))
        if self.ray:
            self._start_ray()
        for role, count in ROLES.items():
            for number in range(1, count + 1):
                self._start_service(f"{role}-{number}", role)
        self._wait("services ready", lambda: all(is_ready(one) for one in self._metrics.values()), START_S)
        self.index = sa.create_engine(self.url)  # not ours: it may be of another version
        self._held.callback(self.index.dispose)
        self.link = self._held.enter_context(closing(Haproxy(self.folder, self._backends())))
        self._start_edges(home)

    def _start_ray(self) -> None:
        """Start a head that runs nothing, and two workers of one core each."""
        port = free_port()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(16).hex(), "RAY_ADDRESS": f"127.0.0.1:{port}"}
        self._environment |= token
        head = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
        for name, what in (("head", head), *((f"worker-{at}", ["--num-cpus=1"]) for at in (1, 2))):
            where = [] if name == "head" else [f"--address=127.0.0.1:{port}"]
            arguments = ["ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *what, *where]
            self._nodes[name] = self._own(f"ray-{name}", arguments)

    def _start_service(self, name: str, role: str) -> None:
        toml = self._write(name, role, self.folder / "home" / "data" / "keys")
        told = tomllib.loads(toml.read_text())
        self._metrics[name] = Scrape(f"http://127.0.0.1:{told['metrics']['port']}")
        arguments = ["culling.common.cli", "cloud", "serve", "--role", role, "--config", str(toml)]
        self.services[name] = self._own(name, arguments)

    def _start_edges(self, home: Path) -> None:
        kits = {}
        for edge, cameras in (*self.agents.items(), (WITNESS, (WITNESS,))):
            out = self.folder / edge
            endpoint = ["--endpoint", self.link.endpoint, "--out", str(out), "--config", str(home)]
            self._culling("cloud", "enroll", edge, *cameras, *endpoint)
            kits[edge] = tomllib.loads((out / "edge.toml").read_text())
        witness = kits[WITNESS]["cloud"]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        keys = witness["server_key"], witness["secret_key"]
        self.witness = SimulatedEdge(witness["endpoint"], *keys, WITNESS, context, 1.0)
        self._held.callback(context.term)
        self._held.callback(self.witness.close)
        for edge, cameras in self.agents.items():
            toml = self._edge_settings(edge, cameras, kits[edge])
            self.edges[edge] = self._own(f"edge-{edge}", ["culling.common.cli", "edge", "run", "--config", str(toml)])

    def _edge_settings(self, edge: str, cameras: Sequence[str], kit: dict[str, Any]) -> Path:
        clip = Path(__file__).parents[2] / "common" / "clip" / "campus.mp4"
        kit["agent"] |= {"allow_cpu": True, "threads": 1}
        kit["camera"] = [{"name": name, "url": str(clip), "loop": True, "max_fps": 1.0} for name in cameras]
        kit["selector"] = {"frames_per_window": 12, "window_s": 20.0, "audit_share": 0.25, "duplicate_change": 0.0}
        kit["metrics"] = {"port": free_port()}
        toml = self.folder / edge / "edge.toml"
        toml.write_text(tomli_w.dumps(kit))
        return toml

    # While it runs

    def turn(self) -> None:
        """Let the witness go on; never waits long."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + FRAME_S
            self.witness.make()
        self.witness.turn()
        self._tend()
        time.sleep(0.02)

    def elected(self) -> list[str]:
        """Return the controls that say that they are the one."""
        names = [name for name in self.services if name.startswith("control")]
        return [name for name in names if _gauge(self._metrics[name], "control_elected") == 1]

    def kills(self, count: int | None = None) -> None:
        """Kill `count` parts, by default one of each kind, in turn, each under load; note how long what each did was
        missing.
        """
        ways = self._ways()
        for kind, way in itertools.islice(itertools.cycle(ways.items()), len(ways) if count is None else count):
            print(f"kills {kind}", flush=True)
            way()
            self.seen.kills[kind] += 1
        self._due = float("inf")

    def _ways(self) -> dict[str, Callable[[], None]]:
        """How a part of each kind is killed, and started again."""
        ingests, pages, workers = (itertools.cycle(names) for names in (INGESTS, PAGES, ("worker-1", "worker-2")))
        ways: dict[str, Callable[[], None]] = {
            "ingest": lambda: self._kill_service("ingest", next(ingests), ACKED, self._acks_again()),
            "elected control": self._kill_control,
            "standby control": self._kill_standby,
            "page": lambda: self._kill_page(next(pages)),
            "PostgreSQL": lambda: self._kill_store("PostgreSQL", self.postgres),
            "object store": lambda: self._kill_store("object store", self._s3),
        }
        if self.ray:
            ways["Ray worker"] = lambda: self._kill_node(next(workers))
            ways["Ray head"] = lambda: self._kill_node("head")
        return ways

    def _active(self) -> str:
        """Return the elected control, once there is one."""
        self._wait("an elected control", lambda: len(self.elected()) == 1, START_S)
        [active] = self.elected()
        return active

    def _kill_control(self) -> None:
        active = self._active()
        self._kill_service("control", active, "an elected control", lambda: bool(set(self.elected()) - {active}))

    def _kill_standby(self) -> None:
        active = self._active()
        [standby] = {name for name in self.services if name.startswith("control")} - {active}
        self._kill_service("standby", standby, "an elected control", lambda: self.elected() == [active])
        if self.elected() != [active]:
            raise TrialError(f"{active} was control before {standby} was killed, and is it no more")

    def _kill_page(self, name: str) -> None:
        [other] = set(PAGES) - {name}
        self._kill_service("page", name, "a page", lambda: is_ready(self._metrics[other]))

    def _kill_store(self, kind: str, store: Postgres | S3) -> None:
        store.kill()
        self._missing(f"{ACKED}, {kind} killed", self._acks_again(), store.start)

    def _kill_node(self, name: str) -> None:
        self._nodes[name].kill()
        self._nodes[name].start()

    def _tend(self) -> None:
        """Start again what ended by itself: workers of Ray some time after their head, and services that were just
        starting when PostgreSQL went.
        """
        if time.monotonic() < self._tended + TEND_S:
            return
        self._tended = time.monotonic()
        for process in (*self.services.values(), *self._nodes.values()):
            process.start()

    def finish(self, minutes: float) -> None:
        """Wait until each camera had a round, `minutes` at most, and until the witness has all answers; then look."""
        until = time.monotonic() + 60 * minutes
        whole = bool(self._nodes)
        while time.monotonic() < until and not {camera for camera, *_ in self._ended()} >= set(CAMERAS):
            self.turn()
            if whole and self._training():  # one of both rounds, or its start, was there: its stages stay
                self._kill_node("worker-1")
                self.seen.kills["Ray worker, while a round runs"] += 1
                whole = False
        self._wait("the last acknowledgements", lambda: not self.witness.left, 60)
        with self.index.connect() as connection:
            row = sa.select(frames.c.camera, frames.c.boot, frames.c.seq)
            self.seen.stored = [tuple(found) for found in connection.execute(row)]
            origin = sa.select(models.c.camera, models.c.round).where(models.c.round.is_not(None))
            self.seen.published = [tuple(found) for found in connection.execute(origin)]
            names = set(connection.execute(sa.select(frames.c.id).where(frames.c.state == "stored")).scalars())
        held = {item.name for item in open_objects(self.bucket, self.folder / "home" / "data").list("frames")}
        self.seen.unseen = sorted(name for name in names if not any(name in one for one in held))
        self.seen.acked, self.seen.ended = set(self.witness.acked), self._ended()

    def _training(self) -> bool:
        """Whether a round runs."""
        with self.index.connect() as connection:
            asked = sa.select(rounds.c.id).where(rounds.c.finished.is_(None), rounds.c.camera.in_(CAMERAS))
            return connection.execute(asked).first() is not None

    def _ended(self) -> list[tuple[str, str, float]]:
        asked = sa.select(rounds.c.camera, rounds.c.state, rounds.c.started, rounds.c.finished)
        with self.index.connect() as connection:
            found = list(connection.execute(asked.where(rounds.c.camera.in_(CAMERAS), rounds.c.finished.is_not(None))))
        return [(row.camera, row.state, row.finished - row.started) for row in found]

    def _kill_service(self, kind: str, name: str, what: str, back: Callable[[], bool]) -> None:
        self.services[name].kill()
        self._missing(f"{what}, {kind} killed", back)
        self.services[name].start()
        self._wait(f"{name} again", lambda: is_ready(self._metrics[name]), START_S)

    def _acks_again(self) -> Callable[[], bool]:
        before = len(self.witness.acked)
        return lambda: len(self.witness.acked) > before

    def _missing(self, what: str, back: Callable[[], bool], mend: Callable[[], object] = lambda: None) -> None:
        begun = time.monotonic()
        mend()
        self._wait(what, back, START_S)
        self.seen.gaps[what] = max(self.seen.gaps.get(what, 0.0), time.monotonic() - begun)

    # Processes

    def _backends(self) -> list[tuple[str, int]]:
        """Each ingest's address, and the port of its health."""
        told = [tomllib.loads((self.folder / f"ingest-{at}" / "cloud.toml").read_text()) for at in (1, 2, 3)]
        return [(one["service"]["endpoint"].removeprefix("tcp://"), one["metrics"]["port"]) for one in told]

    def _write(self, name: str, role: str, keys: Path, shared: bool = True) -> Path:
        folder = self.folder / name
        folder.mkdir()
        told = settings_of(role if shared else "page", folder, keys, self.url, self.bucket, self.ray)
        (folder / "cloud.toml").write_text(tomli_w.dumps(told))
        return folder / "cloud.toml"

    def _own(self, name: str, arguments: Sequence[str]) -> Process:
        process = Process(name, arguments, self.folder, self._environment)
        self._held.callback(process.stop)
        return process

    def _culling(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "culling.common.cli", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TrialError(f"culling {' '.join(arguments)}: {done.stderr.strip()}")

    def _wait(self, what: str, condition: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                raise TrialError(f"{what}: not within {within_s:.0f} s; the logs are in {self.folder}")
            if hasattr(self, "witness"):
                self.turn()
            else:
                time.sleep(0.1)


def is_ready(metrics: Scrape) -> bool:
    """Whether a process answers that it is ready."""
    try:
        return metrics.ready()[0]
    except OSError:
        return False


def _gauge(metrics: Scrape, name: str) -> float:
    try:
        return metrics.sum(name)
    except OSError:
        return 0.0


def play_in(named: Path | None, prefix: str, play: Callable[[Path], bool]) -> int:
    """Play a trial in a folder, which is removed where it was good and nobody named it; return the exit code."""
    # A shell that starts this in its background ignores SIGINT, and what is started here would inherit it and stay.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before its time"))
    folder = named or Path(tempfile.mkdtemp(prefix=prefix))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        good = play(folder.resolve())
    except TrialError as error:
        print(error, file=sys.stderr)
        return 1
    if named is None and good:
        shutil.rmtree(folder)
    return 0 if good else 1


def main() -> int:
    """Run a trial; return 0 where nothing that was promised was broken."""
    parser = argparse.ArgumentParser(description="Plays a cluster on this machine, and kills its parts.")
    parser.add_argument("--no-ray", action="store_true", help="let control run rounds itself")
    parser.add_argument("--kills", type=int, help="how many parts to kill, in turn of each kind; default: one of each")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long to wait for a round of each camera")
    parser.add_argument("--folder", type=Path, help="an empty folder for all of it, kept; default: a temporary one")
    told = parser.parse_args()

    def play(folder: Path) -> bool:
        with Trial(folder, not told.no_ray) as trial:
            trial.start()
            print("everything runs; killing parts", flush=True)
            trial.kills(told.kills)
            print("waiting for a round of each camera", flush=True)
            trial.finish(told.minutes)
            print(report(trial.seen))
            (folder / "seen.json").write_text(json.dumps(trial.seen.gaps))
            return passed(trial.seen)

    return play_in(told.folder, "cluster-", play)


if __name__ == "__main__":
    sys.exit(main())
