"""The pace in a demo, where `--set pace.on=true` asks for one: what was ordered, or why nothing was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.control.steering.accuracy import DRAWN, Measurer
from culling.cloud.evaluation.accuracy import LEAST_AUDITS
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index, frames
from culling.cloud.store.objects.places import frame_store
from culling.cloud.store.people.deeds import Deeds
from culling.common.clock import Clock
from culling.common.process.console import counted

Row = dict[str, Any]


def read_pace(
    index: Index, settings: CloudSettings, camera: str, models: Sequence[str], began: float, clock: Clock
) -> Row | None:
    """Return the orders of a camera's pace and, of each of its students, by how many audits it could be judged.

    None where no pace is wanted. Orders tell the seconds since the camera `began`, seconds since the epoch.
    """
    if not settings.pace.on:
        return None
    deeds = [one for one in Deeds(index).all() if one["action"] == "pace" and one["camera"] == camera]
    measurer = Measurer(index, frame_store(settings, index, clock), settings, clock)
    students = []
    for model in models:
        found = measurer.measure(camera, model)
        ap50 = None if found is None else msgspec.to_builtins(found.now.ap50)
        students.append({"model": model, "audits": _audits(index, camera, model), "ap50": ap50})
    return {
        "orders": [
            {"after_s": round(one["at"] - began, 1), "from": one["what"]["before"], "to": one["what"]["times"]}
            | {"why": one["what"]["why"]}
            for one in reversed(deeds)
        ],
        "students": students,
        **{name: getattr(settings.pace, name) for name in ("audits", "halve_above", "double_below")},
    }


def sentences(pace: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what a viewer is told of the pace in the end; nothing where none was wanted."""
    if pace is None:
        return
    for order in pace["orders"]:
        yield (
            f"Pace: after {order['after_s'] / 60:.1f} minutes from {order['from']:g} to {order['to']:g} times its "
            f"budget: {order['why']}."
        )
    if pace["orders"]:
        yield "Such orders stand on minutes of video, whose frames look alike; a deployment's, on audits of six hours."
    else:
        told = "; ".join(f"{one['model']}: {_why_not(one, pace)}" for one in pace["students"])
        yield f"Pace: no order was due. {told}."


def _why_not(student: Mapping[str, Any], pace: Mapping[str, Any]) -> str:
    """Return why a student's accuracy led to no order."""
    needed, ap50 = max(LEAST_AUDITS, pace["audits"]), student["ap50"]
    if student["audits"] < needed:
        return f"{counted(student['audits'], 'labelled audit')}, of {needed} that are needed (pace.audits)"
    if ap50 is None:
        return f"{counted(student['audits'], 'labelled audit')}, on which the teacher sees nothing"
    if (ap50["low"], ap50["high"]) == (0.0, 1.0):
        return f"AP50 {ap50['value']:.2f} by {student['audits']} audits of the same five minutes, which may be chance"
    told = f"AP50 {ap50['value']:.2f} ({ap50['low']:.2f} to {ap50['high']:.2f}) by {student['audits']} audits"
    above, below = pace["halve_above"], pace["double_below"]
    if ap50["low"] > above or ap50["high"] < below:
        return f"{told}, which came too late: a camera is judged once a minute"
    return f"{told}, neither certainly above {above:g} nor certainly below {below:g}"


def _audits(index: Index, camera: str, model: str) -> int:
    query = sa.select(sa.func.count()).where(frames.c.camera == camera, frames.c.model_id == model, DRAWN)
    with index.read() as connection:
        return int(connection.execute(query).scalar_one())
