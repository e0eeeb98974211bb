"""Upgrades a cluster process by process, and takes it back: `python tests/bench/roll.py [--before REV] [--seconds S]`.

The cluster of `try_cluster.py` starts with an earlier revision: PostgreSQL, an S3 server, three ingests behind HAProxy,
two controls and two pages. Each process in turn is told to end, as a supervisor does, and started with this revision;
then back, and forth again. An agent of each revision plays the clip to a camera of its own and is never restarted, and
a witness remembers which of its frames were acknowledged. Rounds run when they are due.

The index is migrated first, under the services of the revision before. Where that took steps, there is no way back but
the copy, and the trial ends with the upgrade.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).parent))

import sqlalchemy as sa
from try_cluster import CAMERAS, ROLES, START_S, WITNESS, Process, Trial, TrialError, is_ready, passed, play_in, report
from upgrade import ROOT, SIDES, Side, UpgradeError, unpack_revision

from culling.cloud.store.index import frames

BEFORE = "8d84fe2"
"""The revision to come from by default: it knows roles apart, and the same steps."""
STEPS = "from culling.cloud.store.migrations.steps import STEPS; print(*(step.name for step in STEPS), sep='\\n')"


@dataclass
class Rolled:
    """What was seen while processes were replaced, in the order of the steps."""

    stored: dict[str, dict[str, int]] = field(default_factory=dict)
    gaps: dict[str, float] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    restarted: list[str] = field(default_factory=list)


def order(controls: Mapping[str, bool]) -> list[str]:
    """Return the names of a cluster's processes in the order of their replacement.

    A control that stands by goes before the elected one, which so gives its place away once.

    Args:
        controls: of each control's name whether it is elected.
    """
    names = [f"{role}-{number}" for role in ("ingest", "page") for number in range(1, ROLES[role] + 1)]
    return names + sorted(controls, key=lambda name: controls[name])


def whole(rolled: Rolled) -> bool:
    """Whether no edge was restarted, and frames of each came in at every step."""
    return not rolled.restarted and all(all(counts.values()) for counts in rolled.stored.values())


def table(rolled: Rolled) -> str:
    """Return what was seen at each step, a line each."""
    lines = [
        f"{step}: {rolled.took[step]:.0f} s to change, {rolled.gaps[step]:.1f} s at most without an acknowledgement, "
        f"stored {', '.join(f'{count} of {camera}' for camera, count in counts.items())}"
        for step, counts in rolled.stored.items()
    ]
    return "\n".join((*lines, f"edges that ended or started anew: {', '.join(rolled.restarted) or 'none'}"))


class Roll(Trial):
    """A cluster whose processes change their revision."""

    agents: ClassVar[dict[str, tuple[str, ...]]] = {"before": CAMERAS[:1], "after": CAMERAS[1:]}

    def __init__(self, folder: Path, revision: str, seconds: float) -> None:
        super().__init__(folder, ray=False)
        try:
            code = {"before": unpack_revision(revision, folder / "code"), "after": ROOT}
        except UpgradeError as error:
            raise TrialError(str(error)) from None
        self._paths = {side: Side(side, code[side], folder).environment["PYTHONPATH"] for side in SIDES}
        self.rolled, self._seconds = Rolled(), seconds
        self._acks, self._acked_at, self._gap = 0, time.monotonic(), 0.0
        self._use("before")

    def play(self) -> None:
        """Start all, then replace it up, down and up again; or only up, where the index took steps on the way."""
        self.start()
        pids = {name: edge.pid for name, edge in self.edges.items()}
        self._step("N-1", lambda: None)
        self._step("N", self._upgrade)
        if self._steps_of("before") == self._steps_of("after"):
            self._step("N-1 again", lambda: self._replace_all("before"))
            self._step("N again", self._upgrade)
        else:
            print("the index took steps: no way back is played", flush=True)
        self.rolled.restarted = [name for name, edge in self.edges.items() if edge.pid != pids[name] or not edge.runs]

    def turn(self) -> None:
        """Let the witness go on, and note how long it had no acknowledgement."""
        super().turn()
        if len(self.witness.acked) != self._acks:
            now, self._acks = time.monotonic(), len(self.witness.acked)
            self._gap, self._acked_at = max(self._gap, now - self._acked_at), now

    def _use(self, side: str) -> None:
        """Let whatever starts from now on be of `side`."""
        self._environment = self._as(side)

    def _as(self, side: str) -> dict[str, str]:
        return {**self._environment, "PYTHONPATH": self._paths[side]}

    def _own(self, name: str, arguments: Sequence[str]) -> Process:
        process = super()._own(name, arguments)
        if name == "edge-after":  # each edge is of its own side from the first
            process.stop()
            process.environment = self._as("after")
            process.start()
        return process

    def _steps_of(self, side: str) -> str:
        command = [sys.executable, "-c", STEPS]
        return subprocess.run(command, env=self._as(side), capture_output=True, text=True, check=True).stdout

    def _step(self, name: str, change: Callable[[], None]) -> None:
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        before, begun = self._stored(), time.monotonic()
        self._gap, self._acked_at = 0.0, begun
        change()
        self.rolled.took[name] = time.monotonic() - begun
        until = time.monotonic() + self._seconds
        self._wait("its traffic", lambda: time.monotonic() > until, self._seconds + START_S)
        self._wait("a frame of each edge", lambda: all(self._since(before).values()), START_S)
        self.rolled.stored[name], self.rolled.gaps[name] = self._since(before), self._gap

    def _stored(self) -> dict[str, int]:
        asked = sa.select(frames.c.camera, sa.func.count()).group_by(frames.c.camera)
        with self.index.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(asked)}

    def _since(self, before: Mapping[str, int]) -> dict[str, int]:
        now = self._stored()
        return {name: now.get(name, 0) - before.get(name, 0) for name in (*CAMERAS, WITNESS)}

    def _upgrade(self) -> None:
        self._use("after")
        self._culling("cloud", "migrate", "--config", str(self.folder / "home" / "cloud.toml"))
        self._replace_all("after")

    def _replace_all(self, side: str) -> None:
        self._use(side)
        elected = self.elected()
        for name in order({name: name in elected for name in self.services if name.startswith("control")}):
            self._replace(name)

    def _replace(self, name: str) -> None:
        """End a service and start it as what is used now; whoever tends to services may be quicker in starting it."""
        service, was = self.services[name], self.services[name].pid
        service.environment = dict(self._environment)
        service.terminate()
        self._wait(f"{name} ends", lambda: not service.runs or service.pid != was, START_S)
        service.start()
        self._wait(f"{name} again", lambda: is_ready(self._metrics[name]), START_S)


def main() -> int:
    """Run a trial; return 0 where nothing that was promised was broken."""
    parser = argparse.ArgumentParser(description="Upgrades a cluster process by process under traffic, and goes back.")
    parser.add_argument("--before", default=BEFORE, help=f"git revision to come from; default: {BEFORE}")
    parser.add_argument("--seconds", type=float, default=20.0, help="least time of traffic after each step")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to wait for a round of each camera")
    parser.add_argument("--folder", type=Path, help="an empty folder for all of it, kept; default: a temporary one")
    told = parser.parse_args()

    def play(folder: Path) -> bool:
        with Roll(folder, told.before, told.seconds) as roll:
            roll.play()
            print("waiting for a round of each camera", flush=True)
            roll.finish(told.minutes)
            print(table(roll.rolled), report(roll.seen), sep="\n\n")
            return whole(roll.rolled) and passed(roll.seen)

    return play_in(told.folder, "roll-", play)


if __name__ == "__main__":
    sys.exit(main())
