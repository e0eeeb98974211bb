"""What an act of a person on one camera does to a student that is on trial there, or is to come in a wave."""

from __future__ import annotations

from culling.cloud.store.index import Index
from culling.cloud.store.waves.alike import is_in_use, state_of
from culling.cloud.store.waves.trials import OPEN, Trial, Trials


def told(index: Index, camera: str, pinned: bool = False) -> str:
    """Return the end of the answer to an act that was just done: what becomes of the camera's trials; "" for none."""
    mine = [trial for trial in Trials(index).trials(OPEN) if trial.camera == camera]
    return "".join(f"; {part}" for part in (_told(index, trial, pinned) for trial in mine) if part)


def _told(index: Index, trial: Trial, pinned: bool) -> str:
    wave = f"wave {trial.wave + 1} of rollout {trial.rollout}"
    if trial.state == "waiting" and pinned:
        return f"{wave} leaves it out while it is pinned"
    if trial.state == "waiting":
        return f"{wave} still brings its student there: `culling cloud waves halt {trial.rollout}` stops that"
    with index.read() as connection:
        state = state_of(connection, trial.camera, trial.model_id)
        in_use = is_in_use(connection, trial.camera, trial.model_id)
    if in_use or (state == "shadow" and not pinned):
        return ""
    counts = "as failed" if state == "revoked" else "neither way"
    of = "" if trial.rollout is None else f" in {wave}"
    return f"the trial of {trial.model_id}{of} ends there, and counts {counts}"
