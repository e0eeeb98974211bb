"""The bills of cameras, from what the index holds anyway: minutes of history, times of labels, and rounds' reports.

Nothing is read whole (`docs/adr/0009`): an index leads to the minutes and the rounds of a span, labels are counted in
one, and a single frame of each camera tells its size. A label counts when it was made, a round when it ended.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from culling.cloud.bill.cost import (
    ANSWERS,
    EDGE,
    LABELS,
    NOTHING,
    PAPER_PASSES,
    PARTS,
    UNKNOWN,
    Bill,
    Cost,
    PerImage,
    StudentCost,
    full_bill,
)
from culling.cloud.bill.rates import Rate, Rates
from culling.cloud.bill.statement import Statement
from culling.cloud.settings import CloudSettings
from culling.cloud.store.history import Looked, looked
from culling.cloud.store.index import Index, answers, cameras, frames, models, rounds
from culling.common.scaler import input_size

Spent = Mapping[str, Cost]
"""What the stages of a round cost, by stage."""


@dataclass(frozen=True)
class PricedStudent:
    """What a pass of a camera's model depends on; `cost` is None where it was never counted."""

    scale: float
    long_side: int
    cost: StudentCost | None


@dataclass(frozen=True)
class CameraPrices:
    """What a camera's passes cost: its students, and the live one of them; `size` `(height, width)` of its frames."""

    students: Mapping[str, PricedStudent]
    live: str | None
    size: tuple[int, int] | None
    label: Rate
    train: Rate

    def look(self, model: str | None) -> Cost:
        """Return what a pass of a model at the edge costs; of one that is not named, of the live one."""
        student = self.students.get(model or self.live or "")
        if student is None or student.cost is None or self.size is None:
            return UNKNOWN
        height, width = self.size
        size = input_size(width, height, student.scale, student.long_side)
        return Cost(math.nan, student.cost.look.gflops(size))

    @property
    def of_full(self) -> PerImage:
        """What an image of full training costs: a label, and learning from it once at full size."""
        return PerImage(NOTHING, self.teacher, self._learn())

    @property
    def teacher(self) -> Cost:
        """What a label costs."""
        gflops = None if self.size is None else self.label.each.get(self.size)
        if gflops is None:
            return UNKNOWN
        return Cost(gflops * self.label.seconds_per_gflop, gflops)

    def _learn(self) -> Cost:
        student = self.students.get(self.live or "")
        if student is None or student.cost is None or self.size is None:
            return UNKNOWN
        height, width = self.size
        gflops = student.cost.learn.gflops(input_size(width, height, 1.0, student.long_side))
        return Cost(gflops * self.train.seconds_per_gflop, gflops)


def statements(
    index: Index, settings: CloudSettings, since: float, until: float, only: Collection[str] | None = None
) -> dict[str, Statement]:
    """Return the bill of every camera, or of `only` those, from one time to another; seconds since the epoch.

    Minutes count whole. Rounds that are still running, and those of an earlier version, count for nothing.
    """
    names = _names(index) if only is None else only
    passes: dict[str, list[Looked]] = defaultdict(list)
    for row in looked(index, int(since // 60), int(until // 60), only):
        passes[row.camera].append(row)
    prices = _prices(index, {name: passes[name] for name in names})
    stages = _stages(index, since, until, only)
    asked = _asked(index, names, since, until)
    return {
        name: statement(prices[name], (since, until), passes[name], asked[name], stages.get(name, Bill({})))
        for name in names
    }


def statement(
    prices: CameraPrices,
    span: tuple[float, float],
    passes: Collection[Looked],
    asked: Mapping[str, int],
    stages: Bill,
) -> Statement:
    """Return what edge, teacher and stages of rounds cost together, beside full training on the same frames.

    `asked` counts the teacher's passes of each part that it has.
    """
    edge = sum((_times(prices.look(row.model), row.inferred) for row in passes), NOTHING)
    bill = Bill({EDGE: edge} | {part: _times(prices.teacher, count) for part, count in asked.items()}) + stages
    came = sum(row.came for row in passes)
    full = full_bill(came, PAPER_PASSES, prices.of_full).total if came else NOTHING
    counted = {EDGE: sum(row.inferred for row in passes), **asked}
    return Statement(*span, bill, counted, came, full)


def round_figures(
    index: Index, settings: CloudSettings, camera: str, until: float, spent: Mapping[str, Cost]
) -> dict[str, Any]:
    """Return for the report of a round that ends now what its own stages cost (`spent`), and its whole `bill`.

    That has all that it took to get there: what edge and labels cost since the end of the round before it, for a
    camera's first one since the first minute that is known.
    """
    own = {stage: cost for stage, cost in spent.items() if stage in PARTS}
    before = sa.select(sa.func.max(rounds.c.finished)).where(rounds.c.camera == camera)
    with index.read() as connection:
        since = connection.execute(before).scalar() or 0.0
    passes = looked(index, int(since // 60), int(until // 60), [camera])
    prices = _prices(index, {camera: passes})[camera]
    asked = _asked(index, [camera], since, until)[camera]
    told = statement(prices, (since, until), passes, asked, Bill(own)).row()
    return {"spent": {stage: to_told(cost) for stage, cost in own.items()}, "bill": told}


def to_spent(told: Any) -> dict[str, Cost]:
    """Return what a round's report says that its stages cost; nothing for one of an earlier version."""
    if not isinstance(told, dict):
        return {}
    return {
        stage: Cost(_number(cost.get("seconds")), _number(cost.get("gflops")))
        for stage, cost in told.items()
        if stage in PARTS and isinstance(cost, dict)
    }


def to_told(cost: Cost) -> dict[str, float | None]:
    """Return a cost as a stage's result and a report hold it: None for what is not known."""
    return {
        "seconds": None if math.isnan(cost.seconds) else cost.seconds,
        "gflops": None if math.isnan(cost.gflops) else round(cost.gflops, 3),
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _times(cost: Cost, times: int) -> Cost:
    return cost * times if times else NOTHING


# What the index holds


def _names(index: Index) -> list[str]:
    with index.read() as connection:
        return list(connection.execute(sa.select(cameras.c.name)).scalars())


def _asked(index: Index, names: Collection[str], since: float, until: float) -> dict[str, dict[str, int]]:
    """Return how many frames of each camera the teacher saw to label them, and to answer an edge; minutes count whole.

    A label that was an answer is one of these. A camera that was not answered lacks that part.
    """
    mine = (frames.c.camera == cameras.c.name) & (frames.c.labelled >= since) & (frames.c.labelled < until)
    mine &= frames.c.answered.is_(None)
    count = sa.select(sa.func.count()).select_from(frames).where(mine).correlate(cameras).scalar_subquery()
    within = (answers.c.minute >= int(since // 60)) & (answers.c.minute < int(until // 60))
    within &= answers.c.camera.in_(names)
    summed = sa.select(answers.c.camera, sa.func.sum(answers.c.frames)).where(within).group_by(answers.c.camera)
    with index.read() as connection:
        rows = connection.execute(sa.select(cameras.c.name, count).where(cameras.c.name.in_(names))).all()
        given = {camera: int(passes) for camera, passes in connection.execute(summed)}
    labels = {name: int(counted) for name, counted in rows}
    asked = {name: {LABELS: labels.get(name, 0)} for name in names}
    for name, passes in given.items():
        asked[name][ANSWERS] = passes
    return asked


def _stages(index: Index, since: float, until: float, only: Collection[str] | None) -> dict[str, Bill]:
    """Return what the stages of the rounds cost that ended in the span, by camera; of `only` those cameras."""
    ended = (rounds.c.finished >= since) & (rounds.c.finished < until)
    if only is not None:
        ended &= rounds.c.camera.in_(only)
    found: dict[str, Bill] = {}
    with index.read() as connection:
        for camera, text in connection.execute(sa.select(rounds.c.camera, rounds.c.report).where(ended)):
            try:
                report = msgspec.json.decode(text, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
                continue  # `Rounds` logs it
            found[camera] = found.get(camera, Bill({})) + Bill(to_spent(report.get("spent")))
    return found


def _prices(index: Index, passes: Mapping[str, Collection[Looked]]) -> dict[str, CameraPrices]:
    named = {row.model for rows in passes.values() for row in rows if row.model is not None}
    known = sa.select(models.c.camera, models.c.model_id, models.c.scale, models.c.long_side, models.c.cost)
    students: dict[str, dict[str, PricedStudent]] = defaultdict(dict)
    with index.read() as connection:
        in_use = connection.execute(known.where(models.c.state == "live")).all()
        ran = connection.execute(known.where(models.c.model_id.in_(named))).all() if named else []
        sizes = _sizes(connection, passes.keys())
    for row in (*ran, *in_use):
        students[row.camera][row.model_id] = PricedStudent(row.scale, row.long_side, _cost(row.cost))
    live = {row.camera: row.model_id for row in in_use}
    rates = Rates(index)
    label, train = rates.read("label"), rates.read("train")
    return {name: CameraPrices(students[name], live.get(name), sizes.get(name), label, train) for name in passes}


def _sizes(connection: sa.Connection, names: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return the `(height, width)` of the newest frame of each camera that has one."""
    others = frames.alias()
    mine = (others.c.camera == cameras.c.name) & (others.c.state == "stored")
    newest = sa.select(others.c.id).where(mine).order_by(others.c.received.desc()).limit(1)
    theirs = frames.c.id == newest.correlate(cameras).scalar_subquery()
    query = sa.select(cameras.c.name, frames.c.height, frames.c.width).join_from(cameras, frames, theirs)
    rows = connection.execute(query.where(cameras.c.name.in_(names)))
    return {row.name: (row.height, row.width) for row in rows}


def _cost(text: str | None) -> StudentCost | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=StudentCost)
    except msgspec.DecodeError:  # it is counted again
        return None
