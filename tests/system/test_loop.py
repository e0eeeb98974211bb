"""The whole loop, from camera to hot swap: real processes, CURVE, SQLite and files; only the models are narrow."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from culling.cloud.demo.figures import lost, read_trace
from culling.cloud.store.rounds import Rounds
from support.loop import CAMERA, Loop
from support.narrow import narrow_base

ROUNDS = 2


pytestmark = pytest.mark.timeout(600)  # a minute on free cores, several on busy ones


@pytest.fixture
def loop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop = Loop(tmp_path, narrow_base(request.config))
    yield loop
    loop.close()


def test_round_after_round_and_swap_after_swap_lose_nothing_though_the_cloud_is_killed_in_the_first(loop: Loop) -> None:
    loop.start("cloud")
    loop.start("edge")
    loop.wait(lambda: any(row.stages for row in Rounds(loop.index).all(CAMERA)), within_s=270)
    (began,) = Rounds(loop.index).all(CAMERA)
    loop.end("cloud", signal.SIGKILL)
    stored = loop.stored()
    del loop.processes["cloud"]
    time.sleep(1)  # the edge goes on without a cloud for a while
    loop.start("cloud")
    loop.wait(lambda: len(loop.published()) >= ROUNDS and len(loop.live_swaps()) >= ROUNDS, within_s=270)
    assert loop.stored() > stored
    assert loop.end("edge") == 0
    assert loop.end("cloud") == 0
    assert lost(loop.folder / "edge" / "spool.sqlite", loop.stored(), {}) == 0
    first_results = read_trace(loop.folder / "trace.jsonl")
    rounds = sorted(loop.published(), key=lambda row: row.id)
    assert rounds[0].id == began.id, "the very round that was cut short is the one that ends"
    for before, after in pairwise(rounds):
        assert after.report["parent"] == before.model_id, "a round starts from the model of the one before"
    swapped = loop.live_swaps()
    assert swapped <= {row.model_id for row in rounds}, (
        "an edge may miss a student in whose place another came meanwhile"
    )
    assert swapped <= first_results.keys(), "every student that was swapped in saw the camera"
