"""What labelling and training cost on this machine: seconds for so many GFLOPs, lately, and the teacher's GFLOPs.

Whoever labels or trains notes it; what prices a day reads it, and needs neither the teacher nor torch for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import msgspec
import sqlalchemy as sa

from culling.cloud.store.index import Index, rates

KEPT = 0.9
"""The weight of all earlier work beside the newest: after a change of machine, some 20 pieces tell the new rate."""

MOST_SIZES = 200
"""Sizes of frames whose cost is kept; a fleet has a few."""

Kind = Literal["label", "train"]


@dataclass(frozen=True)
class Rate:
    """So many `seconds` for so many `gflops`; `each`: the GFLOPs of a frame by its `(height, width)`, where known."""

    gflops: float
    seconds: float
    each: Mapping[tuple[int, int], float]

    @property
    def seconds_per_gflop(self) -> float:
        """How long one takes; nan before any was timed."""
        return self.seconds / self.gflops if self.gflops else float("nan")


class Rates:
    """The rates in the index. Safe to use from several processes."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def note(
        self, work: Kind, gflops: float, seconds: float, each: Mapping[tuple[int, int], float] = MappingProxyType({})
    ) -> None:
        """Note that work of so many GFLOPs took so many seconds, and what frames of the sizes in `each` cost."""
        mine = rates.c.work == work
        with self._index.write() as connection:
            row = connection.execute(rates.select().where(mine)).first()
            known = {} if row is None else _sizes(row.each)
            told = {"each": _text({**known, **each})} if each else {}
            if row is None:
                connection.execute(rates.insert().values(work=work, gflops=gflops, seconds=seconds, **told))
                return
            sums = {"gflops": KEPT * row.gflops + gflops, "seconds": KEPT * row.seconds + seconds}
            connection.execute(rates.update().where(mine).values(**sums, **told))

    def forget(self, work: Kind) -> None:
        """Forget what a kind of work costs: whoever does it now cannot be counted."""
        with self._index.write() as connection:
            connection.execute(rates.delete().where(rates.c.work == work))

    def read(self, work: Kind) -> Rate:
        """Return what is known of a kind of work; of work that was never done, that it is not known."""
        with self._index.read() as connection:
            row = connection.execute(sa.select(rates).where(rates.c.work == work)).first()
        if row is None:
            return Rate(0.0, 0.0, {})
        return Rate(row.gflops, row.seconds, _sizes(row.each))


def _text(each: Mapping[tuple[int, int], float]) -> str:
    """Return costs as JSON, of the newest sizes alone: a camera may be set to another one at any time."""
    newest = list(each.items())[-MOST_SIZES:]
    return msgspec.json.encode({f"{height}x{width}": cost for (height, width), cost in newest}).decode()


def _sizes(text: str | None) -> dict[tuple[int, int], float]:
    told = msgspec.json.decode(text, type=dict[str, float]) if text else {}
    return {(int(height), int(width)): cost for size, cost in told.items() for height, width in [size.split("x")]}
