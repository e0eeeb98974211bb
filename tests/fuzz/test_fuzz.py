"""A01: nothing but our own errors comes out of a decoder, soon, and with little memory, whatever goes in."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import fuzzing
from support.forms import Tell, forms

TESTS = Path(__file__).parent.parent
SPLIT = 10_000_000


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_a01_a_spoiled_input_is_refused_as_ours(name: str) -> None:
    target = fuzzing.TARGETS[name]
    seeds = target.seeds()
    for sound in seeds:
        fuzzing.attempt(target, sound)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, 2**32), st.binary(max_size=64))
    def spoil(seed: int, extra: bytes) -> None:
        data = fuzzing.spoiled(random.Random(seed), seeds)
        fuzzing.attempt(target, data)
        fuzzing.attempt(target, data[: len(data) // 2] + extra)
        fuzzing.attempt(target, extra)

    files, memory = fuzzing.resources()
    spoil()
    assert fuzzing.resources()[0] <= files + 1, "hypothesis may open its database"
    assert fuzzing.resources()[1] - memory <= fuzzing.LIMIT_KIB


@pytest.mark.parametrize("name", fuzzing.TARGETS)
@forms("inputs", fast=500, full=SPLIT)
def test_a01_many_inputs_leave_no_file_open_and_no_memory_used(name: str, inputs: int, tell: Tell) -> None:
    share = max(500, int(inputs * fuzzing.TARGETS[name].share)) if inputs > 500 else inputs
    began = time.monotonic()
    fuzzing.throw(name, share, seed=share)
    tell("A01", target=name.replace(" ", "-"), inputs=share, crashes=0, seconds=time.monotonic() - began)


@pytest.mark.soak
@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_a01_inputs_that_coverage_guides_to_find_nothing_either(name: str, tell: Tell, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip(
            "atheris is not installed: pip install 'culling[fuzz]', on Linux x86-64 with a Python that it knows"
        )
    inputs = max(1000, int(SPLIT / 10 * fuzzing.TARGETS[name].share * float(os.environ.get("SOAK_SHARE", "1"))))
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "support.fuzzing", name, str(inputs)]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    told = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line or "Done" in line]
    tell("A01 guided", target=name.replace(" ", "-"), inputs=inputs, crashes=int(done.returncode != 0), told=told)
    assert done.returncode == 0, done.stderr[-3000:]
