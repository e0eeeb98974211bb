"""The pieces of models that edges fetch. Those of a bucket are read whole by threads, so that frames and other models
do not wait for it, and stay in memory for a while: many edges fetch one model, each of them piece by piece.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from culling.cloud.store.registry import DeltaFiles, ModelFiles
from culling.common.errors import CullingError

SIDE_BY_SIDE = 4
"""Models that are read at a time."""

MOST_BYTES = 256 << 20
"""In memory; the model that was asked for last stays, whatever its size."""


class Pieces:
    """Used from one thread; deltas are read in the same way, under their own names."""

    def __init__(self, files: ModelFiles | DeltaFiles) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, "models")
        self._models: OrderedDict[str, Future[bytes]] = OrderedDict()

    def get(self, sha256: str, offset: int, length: int) -> bytes | None:
        """Return part of a model; None while the whole is on its way.

        Raises ModelError where it is missing or damaged, StorageError where it cannot be read now.
        """
        if not self._files.shared:
            return self._files.piece(sha256, offset, length)
        if sha256 not in self._models:
            self._models[sha256] = self._pool.submit(self._files.fetch, sha256)
        self._models.move_to_end(sha256)
        coming = self._models[sha256]
        if not coming.done():
            return None
        try:
            data = coming.result()
        except CullingError:
            del self._models[sha256]
            raise
        self._make_room()
        return data[offset : offset + length]

    def close(self) -> None:
        """Read no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _make_room(self) -> None:
        held = {name: len(one.result()) for name, one in self._models.items() if one.done() and not one.exception()}
        for name in list(held)[:-1]:
            if sum(held.values()) <= MOST_BYTES:
                return
            del self._models[name], held[name]
