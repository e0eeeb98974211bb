"""`kind = "stdout"`: a JSON line for each record on standard output; logs go to standard error.

A reader that takes nothing holds up this output's thread alone.
"""

from __future__ import annotations

import os
import sys

from culling.common.detections import Batch
from culling.edge.output.sink import DownError, Sink


class Stdout(Sink):
    """Writes to the process's standard output."""

    @property
    def where(self) -> str:
        return "standard output"

    def open(self) -> None:
        """Do nothing: it is open, or never will be."""

    def send(self, batch: Batch) -> None:
        """Write a line for each record."""
        left = memoryview(b"".join(self.encode(record) + b"\n" for record in batch.records))
        try:
            while left:
                left = left[os.write(sys.__stdout__.fileno(), left) :]  # type: ignore[union-attr]
        except (OSError, AttributeError) as error:
            raise DownError(f"standard output: {getattr(error, 'strerror', None) or 'there is none'}") from None

    def close(self) -> None:
        """Do nothing."""
