"""What an upgrade and the way back cost: `python tests/bench/upgrade.py [--before REV] [--seconds S]`.

A real service of an earlier revision is stopped under traffic, this one is started on its data folder, then the earlier
one again, then this one. Four edges with keys of their own go on all the while and are never restarted: of each
revision an agent that plays the bundled clip, and a witness, an edge of its simulated fleet that remembers which frames
were acknowledged to it. At the end acknowledged frames are looked for in index and folder. SQLite, all roles in one.

The way down is the runbook's. 0.2.0 works on, after `culling cloud downgrade`. Any other revision refuses an index that
took steps which it does not know: then the copy from before the upgrade is restored, and into it the pictures that came
since, which that revision indexes by their own records.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

# What runs as a witness of the earlier revision imports that one's code: nothing of ours is imported up here.

ROOT = Path(__file__).resolve().parents[2]
RELEASE = "5079998"
"""The commit that was numbered 0.2.0."""
FRAME_S = 0.2
START_S = 120.0
DRAIN_S = 60.0
SIDES = ("before", "after")


class UpgradeError(Exception):
    """It cannot go on; the text is for people."""


@dataclass
class Seen:
    """What is asked about afterwards: by camera, and in the order of the steps."""

    acked: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    twice: int = 0
    unseen: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    gaps: dict[str, float] = field(default_factory=dict)
    by_step: dict[str, dict[str, int]] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)


def lost(acked: Iterable[int], stored: Iterable[int]) -> list[int]:
    """Return the frames that an edge was told are safe, and that are in no row."""
    return sorted(set(acked) - set(stored))


def gap(times: Sequence[float], stopped: float, until: float) -> float:
    """Return the longest time between two acknowledgements, from the last before `stopped` to the last before `until`.

    Without one in between it is infinite.
    """
    after = [at for at in times if stopped <= at < until]
    if not after:
        return float("inf")
    seen = [max((at for at in times if at < stopped), default=stopped), *after]
    return max(later - earlier for earlier, later in pairwise(seen))


def passed(seen: Seen) -> bool:
    """Whether no frame is lost or there twice, no edge was restarted, and each was acknowledged some at every step."""
    whole = not (any(seen.lost.values()) or seen.twice or seen.unseen or seen.restarted)
    return whole and all(all(counts.values()) for counts in seen.by_step.values())


def report(seen: Seen) -> str:
    """Return the tables."""
    head = ["edge", "acked", "stored", "lost", *seen.by_step]
    rows = [
        [
            name,
            *(str(one[name]) for one in (seen.acked, seen.stored, seen.lost)),
            *(str(counts[name]) for counts in seen.by_step.values()),
        ]
        for name in seen.acked
    ]
    facts = [
        ("stored twice", str(seen.twice)),
        ("rows without their picture", str(len(seen.unseen))),
        ("edges that ended or started anew", ", ".join(seen.restarted) or "none"),
        *((f"seconds without an acknowledgement, {step}", f"{value:.1f}") for step, value in seen.gaps.items()),
        *seen.said.items(),
    ]
    return "\n".join((*_columns([head, *rows]), "", *_columns(facts)))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# Code of both revisions


def unpack_revision(revision: str, folder: Path) -> Path:
    """Write the tree of a git revision below `folder`; return where it is."""
    done = subprocess.run(["git", "-C", str(ROOT), "archive", revision], capture_output=True, check=False)
    if done.returncode:
        raise UpgradeError(f"--before {revision}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def import_root(code: Path, root: Path) -> Path:
    """Lay out an import root of `code`, as an installation has it, with its entry points."""
    told = tomllib.loads((code / "pyproject.toml").read_text())["project"]
    (root / "culling").mkdir(parents=True)
    (root / "culling" / "__init__.py").touch()
    for side in ("common", "edge", "cloud"):
        (root / "culling" / side).symlink_to(code / side)
    info = root / f"culling-{told['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: culling\nVersion: {told['version']}\n")
    groups = {"console_scripts": told.get("scripts", {}), **told.get("entry-points", {})}
    lines = [f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in one.items()) for group, one in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return root


class Side:
    """One revision: its commands, and what it starts."""

    def __init__(self, name: str, code: Path, folder: Path) -> None:
        self.name, self.code, self._folder = name, code, folder
        path = f"{import_root(code, folder / f'{name}.root')}:{code / 'tests'}"
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        if (code / "cloud" / "labelling").is_dir():  # what is tried is the store: no teacher runs
            self.environment["CULLING_LABELLING__PER_DAY"] = "0"

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=self.environment)

    def culling(self, *arguments: str) -> tuple[int, str]:
        """Run a command of this revision; return its exit code and what it printed."""
        command = [sys.executable, "-m", "culling.common.cli", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()

    def must(self, *arguments: str) -> str:
        code, said = self.culling(*arguments)
        if code:
            raise UpgradeError(f"{self.name}: culling {' '.join(arguments)}: {said[-2000:]}")
        return said


# A witness, in a process of its own


def witness(toml: Path, camera: str, out: Path) -> None:
    """Send frames until SIGTERM, then until none waits; write the number and time of each that is acknowledged."""
    import zmq

    from support.fleet import SimulatedEdge  # of the revision whose root comes first on the path

    told = tomllib.loads(toml.read_text())["cloud"]
    ending: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(time.monotonic()))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    edge = SimulatedEdge(told["endpoint"], told["server_key"], told["secret_key"], camera, context, 1.0)
    due, known = 0.0, 0
    with out.open("w") as acks:
        while not ending or (edge.left and time.monotonic() < ending[0] + DRAIN_S):
            if not ending and time.monotonic() >= due:
                due = time.monotonic() + FRAME_S
                edge.make()
            edge.turn()
            for seq in edge.acked[known:]:
                acks.write(f"{seq} {time.time()}\n")
            known = len(edge.acked)
            acks.flush()
            time.sleep(0.01)
        print(json.dumps({"left": edge.left, "given_up": edge.given_up, "refused": edge.refused}), flush=True)
    edge.close()
    context.term()


# The trial


class Upgrade:
    """All of it, in the order of its life."""

    def __init__(self, folder: Path, revision: str, seconds: float) -> None:
        self.folder, self.seconds, self.seen = folder, seconds, Seen()
        before = unpack_revision(revision, folder / "code")
        self.before, self.after = Side("before", before, folder), Side("after", ROOT, folder)
        self.data, self.copy = folder / "data", folder / "copy"
        self.toml = folder / "cloud.toml"
        self._edges: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._service: subprocess.Popen[bytes] | None = None
        self._steps: list[tuple[str, float]] = []

    def run(self) -> Seen:
        """Play every step; return what was seen."""
        try:
            self._play()
        finally:
            for process in (*self._edges.values(), *([self._service] if self._service else [])):
                if process.poll() is None:
                    process.kill()
                    process.wait()
        return self.seen

    def _play(self) -> None:
        self._write_settings()
        kits = {name: self._enroll(name) for side in SIDES for name in (f"agent-{side}", f"witness-{side}")}
        self._begin("N-1", time.time())
        self._serve(self.before)
        for side in (self.before, self.after):
            self._start_edges(side, kits)
        self._traffic()
        self._upgrade()
        self._go_back()
        self._begin("N again", time.time())
        self._stop()
        self._serve(self.after)
        self._traffic()
        self._end()
        self.seen.restarted = [name for name, process in self._edges.items() if process.poll() is not None]
        self._stop()
        self._look(kits)

    def _write_settings(self) -> None:
        from support.site import free_port

        ports = [free_port() for _ in range(3)]
        quoted = [
            f'[service]\ndata_dir = "{self.data}"\nendpoint = "tcp://127.0.0.1:{ports[0]}"\nreserve_bytes = 0',
            f"[metrics]\nport = {ports[1]}",
            f"[page]\nport = {ports[2]}",
            "[student]\nlong_side = 320",
            "[schedule]\nhold = true",
        ]
        self.toml.write_text("\n".join(quoted))

    def _enroll(self, name: str) -> Path:
        out = self.folder / name
        rest = ("--out", str(out), "--config", str(self.toml))
        if self.before.culling("cloud", "enroll", name, name, *rest)[0]:
            self.before.must("cloud", "enroll", name, "--camera", name, *rest)  # as 0.2.0 has it
        return out / "edge.toml"

    def _start_edges(self, side: Side, kits: dict[str, Path]) -> None:
        from support.site import free_port

        name = f"agent-{side.name}"
        self._ports[name] = free_port()
        self._edges[name] = side.start(
            name, "-m", "culling.common.cli", "edge", "run", "--config", str(self._agent(name, kits[name]))
        )
        name = f"witness-{side.name}"
        self._edges[name] = side.start(
            name, str(Path(__file__)), "--witness", str(kits[name]), name, str(self._acks_of(name))
        )

    def _agent(self, name: str, kit: Path) -> Path:
        import tomli_w

        told = tomllib.loads(kit.read_text())
        told["agent"] |= {"allow_cpu": True, "threads": 1, "drain_s": DRAIN_S}
        clip = str(ROOT / "common" / "clip" / "campus.mp4")
        told["camera"] = [{"name": name, "url": clip, "loop": True, "max_fps": 1.0}]
        told["selector"] = {"frames_per_window": 20, "window_s": 20.0, "spacing_s": 0.0, "audit_share": 0.25}
        told["metrics"] = {"port": self._ports[name]}
        kit.write_text(tomli_w.dumps(told))
        kit.chmod(0o600)
        return kit

    # Steps

    def _upgrade(self) -> None:
        self._take_copy()
        self._begin("N", time.time())
        self._stop()
        if not self.copy.exists():
            shutil.copytree(self.data, self.copy)  # 0.2.0 has no command for it
        self._serve(self.after)
        self._traffic()

    def _take_copy(self) -> None:
        if (self.before.code / "cloud" / "store" / "backup.py").exists():
            self.before.must("cloud", "backup", str(self.copy), "--config", str(self.toml))

    def _go_back(self) -> None:
        self._begin("N-1 again", time.time())
        self._stop()
        if not (self.before.code / "cloud" / "store" / "picture.py").exists():
            self.seen.said["downgrade"] = self.after.must("cloud", "downgrade", "0.2.0", "--config", str(self.toml))
        code, said = self.before.culling("cloud", "fsck", "--config", str(self.toml))
        self.seen.said["fsck of N-1 on what N left"] = f"exit {code}: {said.splitlines()[-1]}"
        if refusal := self._try_serve(self.before):
            self.seen.said["N-1 on the index of N"] = refusal
            self._restore()
            self._serve(self.before)
        else:
            self.seen.said["N-1 on the index of N"] = "works on it"
        self._traffic()

    def _restore(self) -> None:
        """Go down as the runbook says."""
        newer = self.data.with_name("data.newer")
        self.data.rename(newer)
        self.before.must("cloud", "restore", str(self.copy), "--config", str(self.toml))
        subprocess.run(["cp", "-an", f"{newer}/frames", str(self.data)], check=True)

    def _serve(self, side: Side) -> None:
        if refusal := self._try_serve(side):
            raise UpgradeError(f"{side.name}: the service does not start: {refusal}")

    def _try_serve(self, side: Side) -> str:
        """Start the service; return "" once it listens, or its last words where it ends."""
        (self.data / "endpoint").unlink(missing_ok=True)
        log = self.folder / "service.log"
        begun = log.stat().st_size if log.exists() else 0
        self._service = side.start("service", "-m", "culling.common.cli", "cloud", "serve", "--config", str(self.toml))
        deadline = time.monotonic() + START_S
        while self._service.poll() is None and not (self.data / "endpoint").exists():
            if time.monotonic() > deadline:
                raise UpgradeError(f"{side.name}: the service does not listen within {START_S:.0f} s; see {log}")
            time.sleep(0.05)
        if self._service.poll() is None:
            return ""
        return log.read_bytes()[begun:].decode().strip().splitlines()[-1]

    def _stop(self) -> None:
        if self._service is not None and self._service.poll() is None:
            self._service.terminate()
            self._service.wait(60)

    def _begin(self, name: str, at: float) -> None:
        self._steps.append((name, at))
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)

    def _traffic(self) -> None:
        """Let edges go on, until each was acknowledged something since the service came; `seconds` at least."""
        begun, before = time.monotonic(), {name: self._acked(name) for name in self._edges}
        while True:
            time.sleep(0.5)
            for name, process in self._edges.items():
                if process.poll() is not None:
                    raise UpgradeError(f"{name} ended; see {self.folder / name}.log")
            now = {name: self._acked(name) for name in self._edges}
            if time.monotonic() >= begun + self.seconds and all(now[name] > before[name] for name in now):
                break
            if time.monotonic() > begun + self.seconds + START_S:
                raise UpgradeError(f"not every edge is acknowledged: {before}, {now}; the logs are in {self.folder}")
        counted = {name: sum(one.get(name, 0) for one in self.seen.by_step.values()) for name in now}
        self.seen.by_step[self._steps[-1][0]] = {name: now[name] - counted[name] for name in now}

    def _acks_of(self, name: str) -> Path:
        return self.folder / f"{name}.acks"

    def _acked(self, name: str) -> int:
        """Return how many frames of an edge were acknowledged to it."""
        if name.startswith("witness"):
            return self._acks_of(name).read_text().count("\n") if self._acks_of(name).exists() else 0
        from support.scrape import Scrape

        try:
            return int(Scrape(f"http://127.0.0.1:{self._ports[name]}").sum("frames_acked_total"))
        except OSError:  # it has not started yet
            return 0

    def _end(self) -> None:
        """End the edges, witnesses once nothing of theirs waits, and note what each was acknowledged."""
        self.seen.acked = {name: self._acked(name) for name in self._edges}
        for process in self._edges.values():
            process.terminate()
        for name, process in self._edges.items():
            if process.wait(2 * DRAIN_S):
                raise UpgradeError(f"{name} ended with {process.returncode}; see its log in {self.folder}")
            if name.startswith("witness"):
                last = json.loads((self.folder / f"{name}.log").read_text().splitlines()[-1])
                self.seen.said[f"{name} at its end"] = ", ".join(f"{key} {value or 0}" for key, value in last.items())
                self.seen.acked[name] = self._acked(name)

    def _look(self, kits: dict[str, Path]) -> None:
        """Compare what was acknowledged with index and folder, which nothing writes any more."""
        from culling.cloud.store.picture import unseal

        with closing(sqlite3.connect(self.data / "index.sqlite")) as index:
            rows = index.execute("SELECT camera, boot, seq, state, id, sha256 FROM frames").fetchall()
        self.seen.twice = sum(count - 1 for count in Counter(row[:3] for row in rows).values())
        for camera, _, seq, state, name, sha256 in rows:
            path = self.data / "frames" / camera / f"{name}.jpg"
            whole = path.exists() and hashlib.sha256(unseal(path.read_bytes())[0]).hexdigest() == sha256
            if state != "stored" or not whole:
                self.seen.unseen.append(f"{camera} {seq} {state}")
        for name in kits:
            seqs = [row[2] for row in rows if row[0] == name]
            self.seen.stored[name] = len(set(seqs))
            if name.startswith("witness"):
                told = [int(line.split()[0]) for line in self._acks_of(name).read_text().splitlines()]
                self.seen.lost[name] = len(lost(told, seqs))
            else:  # an agent says how many, not which
                self.seen.lost[name] = max(0, self.seen.acked[name] - len(set(seqs)))
                if len({row[1] for row in rows if row[0] == name}) != 1:
                    self.seen.restarted.append(name)
        ends = [at for _, at in self._steps[2:]] + [float("inf")]
        self.seen.gaps = {step: self._gap(at, end) for (step, at), end in zip(self._steps[1:], ends, strict=True)}
        code, said = self.after.culling("cloud", "fsck", "--config", str(self.toml))
        self.seen.said["fsck of N at the end"] = f"exit {code}: {said.splitlines()[-1]}"

    def _gap(self, stopped: float, until: float) -> float:
        """Return the longer gap of both witnesses."""
        said = [self._acks_of(f"witness-{side}").read_text().splitlines() for side in SIDES]
        return max(gap([float(line.split()[1]) for line in lines], stopped, until) for lines in said)


def main() -> int:
    """Run a trial; return 0 where nothing was lost."""
    parser = argparse.ArgumentParser(description="Upgrades a service under traffic, and goes back.")
    parser.add_argument("--before", default=RELEASE, help=f"git revision to come from; default: 0.2.0, {RELEASE}")
    parser.add_argument("--seconds", type=float, default=20.0, help="least time of traffic at each step")
    parser.add_argument("--folder", type=Path, help="an empty folder for all of it, kept; default: a temporary one")
    parser.add_argument("--witness", nargs=3, metavar=("KIT", "CAMERA", "ACKS"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.witness:
        witness(Path(told.witness[0]), told.witness[1], Path(told.witness[2]))
        return 0
    sys.path.insert(0, str(ROOT / "tests"))
    folder = told.folder or Path(tempfile.mkdtemp(prefix="upgrade-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        seen = Upgrade(folder.resolve(), told.before, told.seconds).run()
    except UpgradeError as error:
        print(error, file=sys.stderr)
        return 1
    print(report(seen))
    if told.folder is None and passed(seen):
        shutil.rmtree(folder)
    return 0 if passed(seen) else 1


if __name__ == "__main__":
    sys.exit(main())
