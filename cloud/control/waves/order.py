"""Which camera of a rollout gets its student when, and when it stops; free of I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from culling.cloud.store.waves.trials import OPEN, UNDER_WAY, Rollout, Trial
from culling.common.process.console import counted


@dataclass(frozen=True)
class Launch:
    """The trials that are to begin now: of one wave, counted from 0. There may be none, while others are under way."""

    wave: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Halt:
    """No further camera gets the student, until a person says so."""

    why: str


@dataclass(frozen=True)
class Done:
    """Every camera has had its trial."""

    why: str


def wave_of(cameras: Sequence[str], waves: Sequence[float]) -> dict[str, int]:
    """Return the wave of each camera, counted from 0, in their order; `waves` are the shares up to each one."""
    reached = [math.ceil(share * len(cameras) - 1e-9) for share in waves]
    return {camera: sum(place >= count for count in reached) for place, camera in enumerate(cameras)}


def next_step(rollout: Rollout, trials: Sequence[Trial]) -> Launch | Halt | Done:
    """Return what is to be done of a rollout that is running."""
    reached = [trial for trial in trials if trial.state not in ("waiting", "left")]
    failed = sum(trial.state == "failed" for trial in trials)
    if (lately := failed - rollout.forgiven) > rollout.max_failure_rate * len(reached):
        of = f"{lately} of {counted(len(reached), 'camera')} failed"
        return Halt(f"{of}, more than {rollout.max_failure_rate:.0%}")
    open_ = [trial for trial in trials if trial.state in OPEN]
    if not open_:
        left = sum(trial.state == "left" for trial in trials)
        passed = f"{len(trials) - failed - left} of {counted(len(trials), 'camera')} passed"
        return Done(f"{passed}, {left} left" if left else passed)
    wave = min(trial.wave for trial in open_)
    waiting = [trial for trial in open_ if trial.wave == wave and trial.state == "waiting"]
    return Launch(wave, tuple(waiting[: _most(trials, reached)]))


def _most(trials: Sequence[Trial], reached: Sequence[Trial]) -> int:
    """Return how many more may begin: as many at once as in the first wave, until one has shown anything."""
    if any(trial.state not in UNDER_WAY for trial in reached):
        return len(trials)
    return max(0, max(1, sum(trial.wave == 0 for trial in trials)) - len(reached))
