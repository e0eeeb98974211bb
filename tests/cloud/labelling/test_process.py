from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from culling.cloud.labelling.process import BEHIND, NICEST
from support.cloud import CloudState

SHARED = """
import os, sys, torch
from pathlib import Path
from culling.cloud.labelling.process import share_cores
from culling.cloud.settings import load_settings
before, cores = os.nice(0), torch.get_num_threads()
share_cores(load_settings(Path(sys.argv[1]), {}))
print(os.nice(0) - before, torch.get_num_threads(), cores)
share_cores(load_settings(Path(sys.argv[1]), {"labelling.threads": 3}))
print(torch.get_num_threads())
"""


def test_it_leaves_half_of_the_cores_or_what_is_set_and_the_right_of_way_to_a_round(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHARED, str(CloudState(tmp_path).toml)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    nicer, threads, cores, set_to = (int(word) for word in said.split())
    assert nicer <= 5 + BEHIND <= NICEST
    assert threads == max(1, cores // 2)
    assert set_to == 3


def test_settings_that_cannot_be_read_are_told_by_the_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "culling.cloud.labelling", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 2
