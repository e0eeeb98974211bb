"""What a demo is doing, read from the service's index: the rounds that ended, what runs now, and the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from rich.console import Console
from rich.live import Live

from culling.cloud.demo.plan import Plan, left_s
from culling.cloud.store.desired import DesiredState, DesiredStates
from culling.cloud.store.index import Index, escalations, frames
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import Roster
from culling.cloud.store.rounds import UNFINISHED, Round, Rounds
from culling.common.process.console import counted
from culling.common.wire.messages import CameraState

PLAIN_S = 10.0
"""Where there is no terminal, one line in so many seconds."""

STILL_S = 900.0
"""A busy machine takes minutes for its first frame; one that takes longer than this has stopped."""

DOING = {
    "label": "reading what the teacher labelled",
    "score": "trying the student in use on the pool",
    "cull": "keeping the frames that teach most",
    "learn": "learning which frames are hard",
    "resolution": "finding the smallest input",
    "train": "training",
    "export": "exporting to ONNX",
    "gate": "comparing with the student in use",
}
"""What a stage does, for people who don't know its name."""


@dataclass(frozen=True)
class DemoState:
    """The state of a demo at one moment, `now` in seconds since the epoch; `labelled` frames were labelled by then.

    Of the `asked` questions of a cascade `answered` have the teacher's answer; `pace` is that of the camera. After
    `limit_s` seconds the demo ends in any case.
    """

    plan: Plan
    camera: CameraState | None
    rounds: Sequence[Round]
    outcomes: Mapping[str, str]
    stages: Sequence[str]
    began: float
    now: float
    labelled: int = 0
    asked: int = 0
    answered: int = 0
    pace: float = 1.0
    limit_s: float = math.inf

    @property
    def ended(self) -> list[Round]:
        """The rounds that are over, however they ended."""
        return [row for row in self.rounds if row.state not in UNFINISHED]

    @property
    def all_started(self) -> bool:
        """Whether no further round is wanted."""
        return len(self.rounds) >= self.plan.rounds

    @property
    def unjudged(self) -> str | None:
        """The newest student that a round published and of which the edge has not said what became."""
        made = [row.model_id for row in self.rounds if row.state == "published" and row.model_id]
        return made[-1] if made and made[-1] not in self.outcomes else None

    @property
    def done(self) -> bool:
        """Whether every round is over, and the edge has judged the last student that it was sent."""
        return len(self.ended) >= self.plan.rounds and self.unjudged is None

    def line(self) -> str:
        """Return one line for people."""
        minutes, seconds = divmod(int(self.now - self.began), 60)
        return f"{minutes}:{seconds:02d}  {self._doing()}  ·  {_about(self.left_s())} left  ·  {self._frames()}"

    def left_s(self) -> float:
        """Return the seconds that are left, by plan, by how long the rounds so far have taken, and by the limit."""
        return max(0.0, min(self._planned_s(), self.began + self.limit_s - self.now))

    def _planned_s(self) -> float:
        took = [(row.finished or self.now) - row.started for row in self.ended]
        if (row := self._running) is not None:
            return left_s(self.plan, took, self._todo(row), self._since_s(row))
        last = max((row.finished or self.now for row in self.ended), default=self.began)
        return left_s(self.plan, took, None, self.now - last)

    @property
    def _running(self) -> Round | None:
        return next((row for row in self.rounds if row.state in UNFINISHED), None)

    def _todo(self, row: Round) -> list[str]:
        return [name for name in self.stages if name not in row.stages]

    def _since_s(self, row: Round) -> float:
        """Return how long a round's present stage has lasted."""
        done_s: float = sum(result.get("seconds", 0.0) for result in row.stages.values())
        return self.now - row.started - done_s

    def _doing(self) -> str:
        if (row := self._running) is not None:
            return f"round {len(self.ended) + 1} of {self.plan.rounds}: {self._stage(row)}"
        if len(self.ended) < self.plan.rounds:
            return f"collecting and labelling frames for round {len(self.ended) + 1} of {self.plan.rounds}"
        return "the edge tries the new student" if self.unjudged else "all rounds are over"

    def _stage(self, row: Round) -> str:
        """Return what a round does now: the first stage that has left no result, how long it has run, and will run."""
        if not (todo := self._todo(row)):
            return "publishing"
        name, since_s = todo[0], self._since_s(row)
        expected_s = self.plan.stages.get(name, 0.0)
        of = f" of about {expected_s:.0f}" if expected_s > since_s else ""
        return f"{DOING.get(name, name)}, {since_s:.0f}{of} s"

    def _frames(self) -> str:
        if self.camera is None:
            return "the camera connects"
        state, sent = self.camera, sum(self.camera.forwarded.values())
        word = "" if state.state == "live" else f"camera {state.state}: "
        known = f"{state.seen} frames seen, {state.inferred} scored, {sent} forwarded"
        answers = f", {self.answered} of {counted(self.asked, 'question')} answered" if self.asked else ""
        pace = f", pace {self.pace:g}" if self.pace != 1.0 else ""
        return f"{word}{known}, {state.acked} stored, {self.labelled} labelled{answers}{pace}"


@dataclass
class Alive:
    """Knows since when nothing has moved, in monotonic seconds: a demo that waits for nothing is ended, not watched."""

    since: float
    seen: tuple[object, ...] = ()

    def problem(self, progress: DemoState, now: float) -> str | None:
        """Return what is wrong with the camera, or that nothing moved for `STILL_S` seconds; None if all is well."""
        state = progress.camera
        if state is not None and state.state in ("ended", "failed"):
            return f"camera {state.camera} has {state.state}"
        moved = (
            state.inferred if state else 0,
            progress.labelled,
            [(row.id, row.state, len(row.stages)) for row in progress.rounds],
        )
        if moved != self.seen:
            self.since, self.seen = now, moved
        still = now - self.since
        return (
            f"no frame was scored or labelled and no stage has ended for {still / 60:.0f} minutes"
            if still > STILL_S
            else None
        )


def read_progress(
    index: Index,
    camera: str,
    plan: Plan,
    stages: Sequence[str],
    began: float,
    clock: Callable[[], float] = time.time,
    limit_s: float = math.inf,
) -> DemoState:
    """Return the state of the demo of `camera`, whose rounds do `stages`, in that order."""
    rows = sorted(Rounds(index).all(camera), key=lambda row: row.id)
    states = [row.state for row in Roster(index).rows() if row.name == camera]
    swaps = Registry(index).swaps().items()
    outcomes = {name.removeprefix(f"{camera}/"): swap.outcome for name, swap in swaps if name.startswith(f"{camera}/")}
    with index.read() as connection:
        labelled = connection.execute(sa.select(sa.func.count(frames.c.labelled))).scalar_one()
        both = sa.select(sa.func.count(), sa.func.count(escalations.c.teacher)).where(escalations.c.camera == camera)
        asked, answered = connection.execute(both).one()
    pace = DesiredStates(index).all().get(camera, DesiredState()).pace
    state = states[0] if states else None
    return DemoState(plan, state, rows, outcomes, stages, began, clock(), labelled, asked, answered, pace, limit_s)


@contextmanager
def shown(console: Console) -> Iterator[Callable[[str], None]]:
    """Show the newest line: in place on a terminal, else a plain line now and then."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield live.update
        return
    last = -PLAIN_S

    def plain(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_S:
            last = time.monotonic()
            print(line, flush=True)

    yield plain


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {max(5, 5 * round(seconds / 5))} s"
