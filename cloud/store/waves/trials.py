"""Trials and rollouts in the index: what a student has shown at a camera, and how far one got that many cameras get.

    waiting ─ its wave began ─→ shadow ─ not worse ─→ live ─ its edge keeps it ─→ passed
       │                          └─ worse, or refused ─┴─ worse, or gone back from ─→ failed
       │  a person pinned or removed the camera, or another model was published for it ─→ left
       └─ a person took the rollout back ─→ back

A student without a shadow goes from waiting to live. A trial that was left says nothing for or against the student.
Every change is one transaction, so that a restart, or another control, goes on from where this one was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, rollouts, trials
from culling.cloud.store.people.deeds import Actor, Deed, write
from culling.cloud.store.registry import Artefact
from culling.common.errors import InputError

TrialState = Literal["waiting", "shadow", "live", "passed", "failed", "back", "left"]
RolloutState = Literal["running", "halted", "back", "done"]

UNDER_WAY = ("shadow", "live")
"""States of a trial whose student is at its edge, or on its way there, and has shown nothing yet."""
OPEN = ("waiting", *UNDER_WAY)
UNFINISHED = ("running", "halted", "back")


@dataclass(frozen=True)
class Trial:
    """One student at one camera; times are seconds since the epoch.

    `rollout` is None for one that is of this camera alone. It `began` when it was published, or made live; `before` is
    the model that was live, `measured` the lower end of its AP50 where no shadow compares both.
    """

    id: int
    camera: str
    rollout: int | None
    wave: int
    state: TrialState
    artefact: Artefact | None
    model_id: str | None
    before: str | None
    measured: float | None
    began: float | None
    ended: float | None
    why: str


@dataclass(frozen=True)
class Rollout:
    """A student for several cameras. `waves` are the shares of them up to each wave; `forgiven` counts the failures of
    before a person went on with it.
    """

    id: int
    name: str
    who: str
    started: float
    ended: float | None
    state: RolloutState
    waves: tuple[float, ...]
    max_failure_rate: float
    forgiven: int
    why: str


@dataclass(frozen=True)
class Plan:
    """A rollout to begin: which student each camera gets, by wave, counted from 0, in the order of the cameras."""

    name: str
    students: Mapping[str, Artefact]
    wave_of: Mapping[str, int]
    waves: tuple[float, ...]
    max_failure_rate: float


class Trials:
    """All of both in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def rollouts(self, states: Collection[str] = ()) -> list[Rollout]:
        """Return the rollouts, oldest first; those of `states` where any are given."""
        query = rollouts.select().order_by(rollouts.c.id)
        with self._index.read() as connection:
            rows = connection.execute(query.where(rollouts.c.state.in_(states)) if states else query).all()
        return [_rollout(row) for row in rows]

    def trials(self, states: Collection[str] = (), rollout: int | None = None, limit: int | None = None) -> list[Trial]:
        """Return the trials, oldest first; those of `states` and of one rollout where these are given, and the newest
        `limit`.
        """
        query = trials.select().order_by(trials.c.id.desc()).limit(limit)
        query = query.where(trials.c.state.in_(states)) if states else query
        query = query if rollout is None else query.where(trials.c.rollout == rollout)
        with self._index.read() as connection:
            return [_trial(row) for row in reversed(connection.execute(query).all())]

    def busy(self) -> set[str]:
        """Return the cameras whose student has yet to show what it can: no round of theirs starts meanwhile."""
        query = sa.select(trials.c.camera).where(trials.c.state.in_(UNDER_WAY))
        with self._index.read() as connection:
            return set(connection.execute(query).scalars())

    def begin(self, plan: Plan, actor: Actor, at: float) -> int:
        """Enter a rollout, for the service to carry out; return its number.

        Raises InputError where another one is not done with one of the cameras.
        """
        fixed = {"waves": msgspec.json.encode(plan.waves).decode(), "max_failure_rate": plan.max_failure_rate}
        row = {"name": plan.name, "who": actor.who, "started": at, "state": "running", "forgiven": 0, "why": ""}
        taken = trials.c.state.in_(OPEN) & trials.c.rollout.is_not(None)
        with self._index.write() as connection:
            mine = taken & trials.c.camera.in_(list(plan.students))
            if (other := connection.execute(trials.select().where(mine)).first()) is not None:
                raise InputError(f"camera {other.camera} is in wave {other.wave + 1} of rollout {other.rollout} still")
            done = connection.execute(rollouts.insert().values(**row, **fixed))
            assert done.inserted_primary_key is not None
            number = int(done.inserted_primary_key[0])
            rows = [
                {"camera": camera, "rollout": number, "wave": plan.wave_of[camera], "state": "waiting", "why": ""}
                | {"artefact": msgspec.json.encode(artefact).decode()}
                for camera, artefact in plan.students.items()
            ]
            connection.execute(trials.insert(), rows)
            told = {"rollout": number, "student": plan.name, "cameras": len(rows)}
            write(connection, Deed(actor, "push", None, "asked", told), at)
        return number

    def turn(
        self, number: int, states: Sequence[str], to: RolloutState, actor: Actor, at: float, why: str, action: str
    ) -> bool:
        """Bring a rollout that is in one of `states` into another one, with who did; return whether it was in one.

        Going on forgives what failed until then.
        """
        mine = (rollouts.c.id == number) & rollouts.c.state.in_(states)
        changes: dict[str, Any] = {"state": to, "why": why, "ended": at if to == "done" else None}
        failed = sa.select(sa.func.count()).where(trials.c.rollout == number, trials.c.state == "failed")
        with self._index.write() as connection:
            if to == "running":
                changes["forgiven"] = connection.execute(failed).scalar_one()
            if connection.execute(rollouts.update().where(mine).values(**changes)).rowcount == 0:
                return False
            write(connection, Deed(actor, action, what={"rollout": number, "why": why}), at)
        return True


def goes_on(connection: sa.Connection, trial: Trial) -> bool:
    """Return whether nobody halted the rollout of a trial, if it is of one."""
    if trial.rollout is None:
        return True
    state = sa.select(rollouts.c.state).where(rollouts.c.id == trial.rollout)
    return connection.execute(state).scalar() == "running"


def enter(connection: sa.Connection, camera: str, model_id: str, before: str, at: float) -> None:
    """Enter the trial of a student that was published for its camera alone, to run beside the live one."""
    row = {"camera": camera, "wave": 0, "state": "shadow", "model_id": model_id, "before": before, "began": at}
    connection.execute(trials.insert().values(**row, why=""))


def go_on(connection: sa.Connection, camera: str, model_id: str, renewed: str, before: str | None = None) -> None:
    """Go on with the trial of a student that runs beside the live one, after it has a new id; and that one `before`."""
    mine = (trials.c.camera == camera) & (trials.c.model_id == model_id) & (trials.c.state == "shadow")
    changes = {"model_id": renewed} if before is None else {"model_id": renewed, "before": before}
    connection.execute(trials.update().where(mine).values(**changes))


def move(connection: sa.Connection, trial: Trial, state: TrialState, at: float, why: str = "", **changes: Any) -> bool:
    """Bring a trial into another state; return whether it was still as it is known, and so was moved."""
    ended = None if state in OPEN else at
    values = {"state": state, "why": why, "ended": ended, "artefact": None, **changes}
    mine = (trials.c.id == trial.id) & (trials.c.state == trial.state) & (trials.c.model_id == trial.model_id)
    return connection.execute(trials.update().where(mine).values(**values)).rowcount > 0


def _rollout(row: Any) -> Rollout:
    fields = dict(row._mapping)
    return Rollout(**{**fields, "waves": tuple(msgspec.json.decode(row.waves, type=list[float]))})


def _trial(row: Any) -> Trial:
    artefact = None if row.artefact is None else msgspec.json.decode(row.artefact, type=Artefact)
    return Trial(**{**row._mapping, "artefact": artefact})
