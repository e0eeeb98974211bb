"""What the service is doing, read from its index: one row per camera, one per round. For people, and for `--json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from culling.cloud.store.folders import is_held
from culling.cloud.store.frames import Counts, count_frames
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Registry
from culling.cloud.store.roster import Roster, state_of
from culling.cloud.store.rounds import Rounds

Row = dict[str, Any]


def endpoint(data_dir: Path) -> str | None:
    """Return the address that a running service listens on; None while none runs, or it only starts."""
    try:
        return (data_dir / "endpoint").read_text().strip() if is_held(data_dir) else None
    except FileNotFoundError:
        return None


def cameras(index: Index, now: float) -> list[Row]:
    """Return one row per camera; `silent_s` is the time since it was heard of, `state` as on the page.

    `rate` is forwarded / seen since the agent started, in [0, 1]; None of a camera that is not live or saw nothing yet.
    """
    counts = count_frames(index)
    live = Registry(index).live_ids()
    rows = []
    for camera in Roster(index).rows():
        state, count = camera.state, counts.get(camera.name, Counts())
        word = state_of(camera.revoked, state, camera.heard, now)
        forwarded = sum(state.forwarded.values()) if state else 0
        rows.append(
            {
                "camera": camera.name,
                "edge": camera.edge,
                "state": word,
                "silent_s": None if camera.heard is None else round(now - camera.heard, 1),
                "model": state.model_id if state else None,
                "live": live.get(camera.name),
                "seen": state.seen if state else 0,
                "forwarded": forwarded,
                "rate": round(forwarded / state.seen, 4) if word == "live" and state and state.seen else None,
                "loss": state.loss_mean if state else None,
                "stored": count.stored,
                "waiting": count.waiting,
            }
        )
    return rows


def rounds(index: Index, camera: str | None, limit: int) -> list[Row]:
    """Return one row per round, newest first: its row, its report, and how its model's swap went."""
    swaps = Registry(index).swaps()
    rows = []
    for turn in Rounds(index).all(camera, limit):
        swap = swaps.get(f"{turn.camera}/{turn.model_id}")
        newest = turn.report.get("newest_capture")
        row = {
            "id": turn.id,
            "camera": turn.camera,
            "trigger": turn.trigger,
            "state": turn.state,
            "stage": next(reversed(turn.stages), None),
            "started": turn.started,
            "finished": turn.finished,
            "reason": turn.reason,
            "model_id": turn.model_id,
            "swap": swap.outcome if swap else None,
            "swap_gap_ms": swap.gap_ms if swap else None,
            "model_lag_s": round(swap.at - newest, 1) if swap and newest and swap.outcome == "live" else None,
        }
        rows.append(row | turn.report)
    return rows
