from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from culling.edge.output.sink import DownError
from support.outputs import batch, settings, sink

WRITE = """
from support.outputs import batch, settings, sink
sink(settings("stdout")).send(batch(3))
"""


def test_a_program_behind_it_reads_the_records() -> None:
    read = "from culling.common.detections import follow; print([record.seq for record in follow('-')])"
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", WRITE], stdout=subprocess.PIPE, env=here) as writer:
        done = subprocess.run([sys.executable, "-c", read], stdin=writer.stdout, capture_output=True, text=True)
    assert done.stdout.strip() == "[0, 1, 2]"


def test_a_reader_that_left_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        monkeypatch.setattr(sys, "__stdout__", gone)
        with pytest.raises(DownError, match="standard output: Broken pipe"):
            sink(settings("stdout")).send(batch())
