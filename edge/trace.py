"""An optional log of every inferred frame, one JSON line each, for benchmarks and the demo's figures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from culling.common.clock import Clock
from culling.common.errors import StorageError

log = structlog.get_logger(__name__)

FLUSH_S = 1.0
"""How long lines are buffered: a write for every frame would slow down what benches measure."""


class TraceLine(msgspec.Struct, frozen=True):
    """One inferred frame: `frame` is its number in the stream, `t` the wall time at which its detections were ready,
    `latency` the seconds from its arrival at the agent till then.
    """

    camera: str
    frame: int
    t: float
    model_id: str
    loss: float
    decision: str
    latency: float


class Trace:
    """Appends lines to a file; buffered, so that the file lags by up to `FLUSH_S` seconds.

    Raises `StorageError` when the file cannot be opened. A disk that fills up later costs lines, not the agent.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self._lines = bytearray()
        self._flushed = clock.monotonic()
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise StorageError(f"{path}: cannot write agent.trace: {error.strerror}") from None

    def write(self, line: TraceLine) -> None:
        """Add one line."""
        self._lines += self._encode(line) + b"\n"
        if self._clock.monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Append what is buffered to the file."""
        try:
            self._file.write(self._lines)
        except OSError as error:
            log.warning("trace_lines_lost", bytes=len(self._lines), error=error.strerror)
        self._lines.clear()
        self._flushed = self._clock.monotonic()

    def close(self) -> None:
        """Flush, and close the file."""
        self.flush()
        self._file.close()
