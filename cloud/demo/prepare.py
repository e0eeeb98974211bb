"""What a demo does before its camera plays: measure the machine, plan, label what it is judged by, enroll the edge."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from culling.cloud.demo.cascade import Answering, plan_answers, wanted
from culling.cloud.demo.plan import LADDER, TEACHER_SIDE, Plan, Speed, choose
from culling.cloud.demo.run import Demo, enroll_edge, write_cloud_settings
from culling.cloud.demo.speed import Base, measure_speed
from culling.cloud.evaluation.holdout import HeldOut, HeldOutScores
from culling.cloud.evaluation.holdout import plan as choose_held_out
from culling.cloud.model.family import family_named
from culling.cloud.settings import load_settings
from culling.cloud.teacher.loading import load_teacher
from culling.common.errors import InputError
from culling.common.process.console import counted
from culling.common.video import FED


@dataclass(frozen=True)
class Prepared:
    """What is known before the camera plays; `start` are the scores of the student that it starts with, `answering` is
    None where no cascade is wanted.
    """

    speed: Speed
    plan: Plan
    held_out: HeldOut
    start: HeldOutScores
    answering: Answering | None


def prepare(run: Demo, rounds: int, labels: Path | None, console: Console) -> Prepared:
    """Make everything ready, and say what the demo will take.

    Raises `InputError` when neither the teacher nor the label file sees anything on the held-back part, `CameraError`
    for a video that cannot be used.
    """
    started = time.monotonic()
    choose_held_out(run.video, FED, LADDER[0].measured, labels)  # raises now rather than after minutes of work
    asked = wanted(run.changes)  # as well
    console.print("Measuring this machine: loading the teacher …")
    own = {"service.data_dir": str(run.data_dir), "teacher.short_side": TEACHER_SIDE}
    settings = load_settings(None, own | run.changes.overrides("cloud"))
    family_named(settings.student.family)  # raises now, too
    teacher = load_teacher(settings)
    speed, base = measure_speed(settings, teacher, run.video, FED, lambda step: console.print(f"  {step}"))
    limit_s = None if run.minutes is None else 60 * run.minutes
    plan = choose(speed, rounds, time.monotonic() - started, limit_s, flat_out=run.speed == "max")
    console.print(announce(speed, plan))
    answering = None if asked is None else plan_answers(asked, settings.labelling, plan, speed.slowness)
    if answering is not None:
        console.print(answering.told())
    console.print(f"Labelling {plan.sizes.measured} held-back frames to measure students by …")
    # The truth is the same on every machine: one teacher, at a size that the plan does not change.
    held_out = HeldOut(
        choose_held_out(run.video, FED, plan.sizes.measured, labels, classes=teacher.names),
        teacher,
        settings.round.labels_of_interest(teacher.names),
    )
    start = _start(run, base, held_out, plan)
    if start.teacher is not None:
        console.print(f"The first student's AP50 is {start.teacher.ap50:.3f} on {len(held_out)} held-back frames.")
    console.print("Enrolling the edge …")
    write_cloud_settings(run, plan, answering)
    enroll_edge(run, plan, answering)
    return Prepared(speed, plan, held_out, start, answering)


def announce(speed: Speed, plan: Plan) -> str:
    """Return what a demo will take, and why, in two sentences."""
    sizes, threads = plan.sizes, counted(plan.threads, "thread")
    rounds = counted(plan.rounds, "round")
    bits = " in 8 bits" if plan.int8 else ""
    return (
        f"{rounds}, about {max(1, round(plan.total_s / 60))} minutes on this machine: a student's frame takes "
        f"{speed.student_s:.2f} s, on {threads} a teacher's {speed.teacher_s:.2f} s, a training step "
        f"{speed.step_s:.2f} s. So students see {sizes.long_side} pixels{bits}, and each round learns from the hardest "
        f"{sizes.kept} of {plan.min_new} or more frames, in {sizes.steps} steps at most."
    )


def _start(run: Demo, base: Base, held_out: HeldOut, plan: Plan) -> HeldOutScores:
    start = held_out.score(base.onnx, base.artefact.scale, plan.sizes.long_side)
    if start.teacher is None and start.labels is None:
        raise InputError(
            f"{run.video}: the teacher sees none of its classes on {len(held_out)} frames after the first {FED:.0%}, "
            "so no student can be measured; play a video with people or vehicles, or give --labels"
        )
    return start
