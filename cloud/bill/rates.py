"""What labelling and training cost on this machine: seconds for so many GFLOPs, lately, and the teacher's GFLOPs.

Whoever labels or trains notes it; what prices a day reads it, and needs neither the teacher nor torch for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import sqlalchemy as sa

from culling.cloud.bill.cost import PassCost
from culling.cloud.store.index import Index, rates

KEPT = 0.9
"""The weight of all earlier work beside the newest: after a change of machine, some 20 pieces tell the new rate."""

Kind = Literal["label", "train"]


@dataclass(frozen=True)
class Rate:
    """So many `seconds` for so many `gflops`; `each` is the cost of a frame, where it is the same for all cameras."""

    gflops: float
    seconds: float
    each: PassCost | None

    @property
    def seconds_per_gflop(self) -> float:
        """How long one takes; nan before any was timed."""
        return self.seconds / self.gflops if self.gflops else float("nan")


class Rates:
    """The rates in the index. Safe to use from several processes."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def note(self, work: Kind, gflops: float, seconds: float, each: PassCost | None = None) -> None:
        """Note that work of so many GFLOPs took so many seconds, and what a frame costs if `each` says so."""
        mine = rates.c.work == work
        told = {} if each is None else {"each": msgspec.json.encode(each).decode()}
        with self._index.write() as connection:
            row = connection.execute(rates.select().where(mine)).first()
            if row is None:
                connection.execute(rates.insert().values(work=work, gflops=gflops, seconds=seconds, **told))
                return
            sums = {"gflops": KEPT * row.gflops + gflops, "seconds": KEPT * row.seconds + seconds}
            connection.execute(rates.update().where(mine).values(**sums, **told))

    def read(self, work: Kind) -> Rate:
        """Return what is known of a kind of work; of work that was never done, that it is not known."""
        with self._index.read() as connection:
            row = connection.execute(sa.select(rates).where(rates.c.work == work)).first()
        if row is None:
            return Rate(0.0, 0.0, None)
        each = None if row.each is None else msgspec.json.decode(row.each, type=PassCost)
        return Rate(row.gflops, row.seconds, each)
