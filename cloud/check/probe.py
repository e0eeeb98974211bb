"""Whether a teacher can be loaded, asked of a child process: `python -m culling.cloud.check` opens it, and says what
it is."""

from __future__ import annotations

import subprocess
import sys

from culling.cloud.control.child import environment
from culling.cloud.settings import CloudSettings, to_toml
from culling.common import errors
from culling.common.errors import CullingError, ModelError

LIMIT_S = 300.0
"""The largest models take a minute from a slow disk."""


def try_teacher(settings: CloudSettings) -> str:
    """Return in words what the teacher is. Raises what the child raised, by its exit code."""
    command = [sys.executable, "-m", "culling.cloud.check", "/dev/stdin"]
    try:
        done = subprocess.run(command, input=to_toml(settings), capture_output=True, timeout=LIMIT_S, env=environment())
    except subprocess.TimeoutExpired:
        raise ModelError(f"the teacher did not open within {LIMIT_S:g} s: try culling teacher check") from None
    if done.returncode == 0:
        return done.stdout.decode().strip()
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    raise _error_of(done.returncode)(said[-1] if done.returncode > 0 else f"the process died of {-done.returncode}")


def _error_of(code: int) -> type[CullingError]:
    """Return the error that ends a command with that code."""
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CullingError))
    return next((kind for kind in kinds if kind.exit_code == code and kind not in _REASONED), ModelError)


_REASONED = (errors.ManifestError, errors.ProtocolError)
"""They take a reason beside their message, and no teacher raises them."""
