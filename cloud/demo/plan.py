"""What a demo can afford on this machine. No I/O: seconds of single steps go in, sizes and a duration come out.

    choose      the richest rung of the ladder whose rounds fit into the time that a viewer has
    Plan        how large frames are, how many of them a round takes, and how long each part takes
    left_s      the time that is left, corrected by the rounds that have ended

The numbers of seconds below are those of two quiet cores (AMD EPYC, no GPU); a machine's own are measured (`speed.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from culling.cloud.settings import CULLED
from culling.common.scaler import LONG_SIDE, input_size

TEACHER_SIDE = 384
"""Short side, in pixels, at which `Speed` has the teacher measured."""

BATCH = 4
"""Images of a training step, as in `[round]`: few enough for a laptop's memory."""

WANTED_S, WANTED_ROUND_S = 240.0, 120.0
"""What viewers are glad to spend: three rounds within ten minutes. Only the least rung may take longer."""

MARGIN = 0.9
"""Of a limit that was asked for, so much is planned with: a machine may get busier meanwhile."""

EDGE_SHARE = 0.25
"""The share of all cores that the camera's student may take, at most: a round beside it needs the rest."""

MOST_FPS = 1.5
"""More frames a second than these would only show the same people twice."""

FORWARDED = 0.4
"""Of the frames that are scored, so many may leave: culling can leave some behind, and a round does not wait long."""

WINDOW_S = 20.0
HELD_OUT = 0.2
"""The share of all frames that the store holds out, to judge by."""

PROBATION = 50
"""Results by which the edge judges a new student before it counts as live (`edge/model/probation.py`)."""

LOOKED = 1.05
"""What training takes, of its steps alone: it looks at the frames kept aside now and then."""

SCALES = 2.5
"""Students' passes over the kept frames, in passes at full size, until the smallest input is found."""


BESIDE = 1.15
"""What a round takes beside a camera, of what the cores that are left would need: caches and memory are shared too."""

MEANWHILE = 0.25
"""Of what the teacher labels in a second, so much while a round runs: it steps back, but no round is always busy."""

SMALLER = 0.85
"""A training step's mean pixels, of those at full size: two of the three sizes trained at are smaller."""

FIXED = 0.2
"""Of a frame's time, so much does not shrink with its pixels: proposals and boxes are as many."""

INT8 = 0.5
"""The time of a student in 8 bits, of that in floats, on a CPU."""


@dataclass(frozen=True)
class Speed:
    """Seconds of single steps on this machine as busy as it is, for frames of `frame` `(width, height)` pixels.

    `student_s` is a frame on one thread at full size; on `threads` threads `teacher_s` is a frame at `TEACHER_SIDE` and
    `step_s` a training step of `BATCH` full-size images; `export_s` is the export of the first student.
    The teacher enlarges no frame beyond a short side of `teacher_most` pixels.
    """

    frame: tuple[int, int]
    cores: int
    threads: int
    student_s: float
    teacher_s: float
    step_s: float
    export_s: float
    teacher_most: float = math.inf

    @property
    def slowness(self) -> float:
        """How many times longer than on two quiet cores everything else takes: starting a process, loading a model."""
        return self.export_s / QUIET_EXPORT_S


@dataclass(frozen=True)
class Rung:
    """One choice of sizes: `long_side` of the student and `teacher_side` in pixels, `steps` to train, else frames."""

    long_side: int
    teacher_side: int
    kept: int
    held_out: int
    steps: int
    measured: int


LADDER = (
    Rung(640, 480, 32, 16, 107, 30),
    Rung(640, 384, 24, 16, 64, 30),
    Rung(640, 384, 16, 12, 32, 24),
    Rung(512, 384, 16, 12, 32, 24),
    Rung(448, 320, 12, 8, 24, 20),
    Rung(384, 288, 12, 8, 20, 16),
    Rung(320, 256, 8, 8, 14, 12),
)
"""From the best students to the least work; each rung takes less time than the one before."""

QUIET_EXPORT_S = 4.0
START_S = 12.0
"""A round's process until its first stage: imports, weights."""

PARITY_S = 20.0
"""Filling a graph with new numbers and proving it equal, in each round, on one thread."""

OPEN_S = 1.0
"""Opening a graph."""

QUANTISE_S = 4.0
SWAP_S = 15.0
"""From the end of a round to the new student's first result: signing, sending, vetting."""


@dataclass(frozen=True)
class Plan:
    """What is played and how: a rung's sizes, the camera's rate, and the seconds that it all takes.

    With `int8` rounds make students in 8 bits, which leaves the rounds after the first more of the cores. A round works
    on `threads` threads, the teacher on `label_threads`.
    `max_fps` frames a second are scored, of which `frames_per_window` may leave in `window_s`; a round starts once
    `min_new` came. The teacher takes `label_s` for a frame while no round runs. `prepare_s` go by before the camera
    plays, `collect_s` until the first round starts, `round_s` from there to its end, `wait_s` between rounds, and
    `close_s` after the last one.
    """

    sizes: Rung
    int8: bool
    threads: int
    label_threads: int
    rounds: int
    max_fps: float
    frames_per_window: int
    window_s: float
    min_new: int
    label_s: float
    stages: dict[str, float]
    prepare_s: float
    collect_s: float
    wait_s: float
    close_s: float

    @property
    def round_s(self) -> float:
        """The seconds of one round."""
        return sum(self.stages.values())

    @property
    def total_s(self) -> float:
        """The seconds from now to the closing table."""
        between = (self.rounds - 1) * self.wait_s
        return self.prepare_s + self.collect_s + self.rounds * self.round_s + between + self.close_s


def choose(
    speed: Speed, rounds: int, spent_s: float = 0.0, limit_s: float | None = None, flat_out: bool = False
) -> Plan:
    """Return the richest plan that fits into the time wanted, or the one that takes the least.

    `spent_s` have gone by already, and count. A `limit_s` that was asked for is kept where the least plan can.
    `flat_out` is a clip played as fast as the student keeps up.
    """
    wanted_s = WANTED_S + WANTED_ROUND_S * rounds
    if limit_s is not None:
        wanted_s = min(wanted_s, MARGIN * limit_s)
    plans = [_plan(speed, rung, int8, rounds, flat_out) for rung in LADDER for int8 in (False, True)]
    fitting = (plan for plan in plans if spent_s + plan.total_s <= wanted_s)
    return next(fitting, min(plans, key=lambda plan: plan.total_s))


def left_s(plan: Plan, ended: Sequence[float], todo: Sequence[str] | None, since_s: float) -> float:
    """Return the seconds that are left, never below zero, told by the rounds that ended, and how long each took.

    `todo` are the stages that the present round has not ended, the running one first; None between rounds. That stage,
    or the time between rounds, has lasted `since_s` seconds.
    """
    pace = sum(ended) / (len(ended) * plan.round_s) if ended else 1.0
    to_come = plan.rounds - len(ended)
    if to_come <= 0:
        return max(0.0, pace * plan.close_s - since_s)
    if todo is None:
        now = max(0.0, (plan.wait_s if ended else plan.collect_s) - since_s) + pace * plan.round_s
    else:
        first, *others = (pace * plan.stages.get(name, 0.0) for name in (*todo, "publish"))
        now = max(0.0, first - since_s) + sum(others)
    return now + (to_come - 1) * (plan.wait_s + pace * plan.round_s) + pace * plan.close_s


def _plan(speed: Speed, rung: Rung, int8: bool, rounds: int, flat_out: bool) -> Plan:
    student_s = speed.student_s * _shrunk(_student_pixels(speed.frame, rung), _pixels(input_size(*speed.frame)))
    max_fps = MOST_FPS if flat_out else min(MOST_FPS, EDGE_SHARE * speed.cores / student_s)
    scored = 1 / student_s if flat_out else max_fps
    frames_per_window = max(2, round(FORWARDED * max_fps * WINDOW_S))
    min_new = CULLED * rung.kept
    label_threads = max(1, speed.threads // 2)
    one_label_s = BESIDE * _teacher_s(speed, rung) * speed.threads / label_threads
    label_s = one_label_s * min_new / (1 - HELD_OUT)
    arrive_s = min_new / ((1 - HELD_OUT) * FORWARDED * scored)
    eased_s = student_s * (1 + (rounds - 1) * INT8) / rounds if int8 else student_s
    spare = speed.cores - min(0.5 * speed.cores, scored * eased_s)  # cores that the camera leaves to a round
    stretch = max(1.0, BESIDE * speed.threads / spare)
    stages = {name: stretch * seconds for name, seconds in _stages(speed, rung, int8, student_s, eased_s).items()}
    measured_s = rung.measured * student_s / _threads(speed.threads)
    return Plan(
        sizes=rung,
        int8=int8,
        threads=speed.threads,
        label_threads=label_threads,
        rounds=rounds,
        max_fps=round(max_fps, 3),
        frames_per_window=frames_per_window,
        window_s=WINDOW_S,
        min_new=min_new,
        label_s=one_label_s,
        stages=stages,
        prepare_s=START_S * speed.slowness + rung.measured * _teacher_s(speed, rung) + measured_s,
        collect_s=max(arrive_s, START_S * speed.slowness + label_s),
        wait_s=max(0.0, arrive_s - sum(stages.values()), label_s - MEANWHILE * sum(stages.values())),
        close_s=SWAP_S * speed.slowness + PROBATION / scored + rounds * measured_s,
    )


def _stages(speed: Speed, rung: Rung, int8: bool, student_s: float, eased_s: float) -> dict[str, float]:
    """Return the seconds of a round's stages, by the names that the index stores, on cores that do nothing else.

    `student_s` is a frame of the first student on one thread, `eased_s` one of the students in use, mean over rounds.
    """
    threads = _threads(speed.threads)
    step_s = speed.step_s * _shrunk(SMALLER * _student_pixels(speed.frame, rung), _pixels(input_size(*speed.frame)))
    quantise_s = QUANTISE_S * speed.slowness + rung.kept * student_s / threads if int8 else 0.0
    candidate_s = INT8 * student_s if int8 else student_s
    return {
        "label": START_S * speed.slowness,
        # What came since the last swap was forwarded by the student in use; what came before is new to it.
        "score": OPEN_S * speed.slowness + rung.kept * eased_s / threads,
        "resolution": OPEN_S * speed.slowness + SCALES * rung.kept * eased_s / threads,
        "train": LOOKED * rung.steps * step_s,
        "export": PARITY_S * speed.slowness / threads + quantise_s,
        "gate": 2 * OPEN_S * speed.slowness + rung.held_out * (eased_s + candidate_s) / threads,
    }


def _threads(threads: int) -> float:
    """Return how many times faster a student is on so many threads than on one; beyond eight little is gained."""
    return max(1.0, 0.9 * min(threads, 8))


def _teacher_s(speed: Speed, rung: Rung) -> float:
    side, measured = (min(one, speed.teacher_most) for one in (rung.teacher_side, TEACHER_SIDE))
    return speed.teacher_s * _shrunk(side**2, measured**2)


def _shrunk(pixels: float, full: float) -> float:
    """Return the share of a full frame's time that one of `pixels` takes."""
    return FIXED + (1 - FIXED) * pixels / full


def _student_pixels(frame: tuple[int, int], rung: Rung) -> float:
    return _pixels(input_size(*frame, long_side=min(rung.long_side, LONG_SIDE)))


def _pixels(size: tuple[int, int]) -> float:
    return float(size[0] * size[1])
