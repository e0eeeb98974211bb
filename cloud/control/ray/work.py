"""What runs on a node of the cluster: the process of a round, as on the service's machine, and word of its progress."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from culling.cloud.control.child import environment
from culling.cloud.round.progress import FILE

LOOK_S = 1.0
"""How often the heartbeat is read; it is written as often."""


def work(settings: bytes, data_dir: str, round_id: int, arguments: Sequence[str]) -> Iterator[bytes | int]:
    """Run the process of a round; yield its heartbeat whenever it has changed, and in the end its exit code.

    The first heartbeat is empty: the cluster has begun.
    """
    yield b""
    folder = Path(data_dir) / "rounds" / str(round_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / f"settings-{os.getpid()}.toml"
    config.touch(mode=0o600)
    config.write_bytes(settings)
    command = [sys.executable, "-m", "culling.cloud.round", "--config", str(config), "--die-with-parent", *arguments]
    process = subprocess.Popen([*command, str(round_id)], stdin=subprocess.DEVNULL, env=environment())
    told = b""
    try:
        while process.poll() is None:
            time.sleep(LOOK_S)
            if (beat := _read(folder / FILE)) != told:
                told = beat
                yield beat
        yield process.returncode
    finally:
        process.kill()
        process.wait()
        config.unlink(missing_ok=True)
    if process.returncode == 0:  # the round is over, or ready: what is left of it is of no use on this node
        shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
