"""What changed between a model and one that its edge has already: made when it is first asked for, and then kept.

Making one takes a core for seconds, so it is done by a thread, one at a time, while frames come in. It lies beside the
model's file, and is removed with it. One that is no shorter than the model itself is not kept. One that a process finds
there is proven once, as a model's file is: what rotted is made again, since each edge would fetch it in vain.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import structlog

from culling.cloud.link.pieces import Pieces
from culling.cloud.store.objects.objects import LostError
from culling.cloud.store.registry import ModelFiles
from culling.common.errors import CullingError, ModelError, ProtocolError
from culling.common.wire.delta import apply, make

log = structlog.get_logger(__name__)

MOST = 4096
"""Answers that are remembered."""


@dataclass(frozen=True)
class Delta:
    """What is kept: `total` bytes that make the model `target` of the model `base`, both by SHA-256."""

    target: str
    base: str
    total: int


Coming = Literal["coming"]
"""It is being made, or on its way from a bucket."""

_Key = tuple[str, tuple[str, ...]]


class Deltas:
    """Used from one thread."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(1, "deltas")
        self._pieces = Pieces(files.deltas)
        self._answers: OrderedDict[_Key, Future[Delta | None]] = OrderedDict()

    def find(self, target: str, bases: Sequence[str]) -> Delta | Coming | None:
        """Return what makes the model `target` of the first of `bases` that is still stored, all by SHA-256.

        None where nothing does, or it is of no use.
        """
        key = (target, tuple(bases))
        if key not in self._answers:
            self._answers[key] = self._pool.submit(self._answer, *key)
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)
        self._answers.move_to_end(key)
        coming = self._answers[key]
        if not coming.done():
            return "coming"
        try:
            found = coming.result()
        except Exception as error:  # the whole model is sent instead: no memory for a delta is no reason to wait
            log.warning("delta_failed", model=target[:12], error=str(error))
            del self._answers[key]
            return None
        if found is not None:
            self._answers[target, (found.base,)] = coming  # that is how it is asked for from now on
        return found

    def piece(self, delta: Delta, offset: int, length: int) -> bytes | Coming | None:
        """Return a part of a delta that was found; None where it is gone."""
        try:
            data = self._pieces.get(f"{delta.target}.{delta.base}", offset, length)
        except CullingError as error:
            log.warning("delta_lost", model=delta.target[:12], error=str(error))
            for key in [key for key, one in self._answers.items() if one.done() and one.result() == delta]:
                del self._answers[key]
            return None
        return "coming" if data is None else data

    def close(self) -> None:
        """Make no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pieces.close()

    def _answer(self, target: str, bases: Sequence[str]) -> Delta | None:
        """Return a delta that is kept or made now. Raises ModelError, StorageError."""
        for base in bases:
            try:
                old = self._files.fetch(base)
            except ModelError:  # it was pruned
                continue
            return self._kept(base, old, target) or self._make(base, old, target)
        return None

    def _kept(self, base: str, old: bytes, target: str) -> Delta | None:
        """Return the delta that is kept, if it makes the target of `old`. Raises StorageError."""
        if not (total := self._files.deltas.size(base, target)):
            return None
        made, wrong = BytesIO(), "it makes another model"
        try:
            apply(BytesIO(self._files.deltas.fetch(f"{target}.{base}")), BytesIO(old), made)
        except (LostError, ProtocolError) as error:
            wrong = str(error)
        if hashlib.sha256(made.getvalue()).hexdigest() == target:
            return Delta(target, base, total)
        log.warning("delta_damaged", base=base[:12], model=target[:12], error=wrong)
        return None

    def _make(self, base: str, old: bytes, target: str) -> Delta | None:
        started, new = time.monotonic(), self._files.fetch(target)
        data = make(old, new)
        told = {"base": base[:12], "model": target[:12], "bytes": len(data), "of": len(new)}
        log.info("delta_made", **told, seconds=round(time.monotonic() - started, 1))
        if len(data) >= len(new):
            return None
        self._files.deltas.add(base, target, data)
        return Delta(target, base, len(data))
