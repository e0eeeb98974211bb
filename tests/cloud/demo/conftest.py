from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def figures() -> dict[str, Any]:
    """The figures of a run of two rounds, one of them refused."""
    curve = [{"scale": 1.0, "normalised": 0.0}, {"scale": 0.9, "normalised": 0.04}, {"scale": 0.81, "normalised": 0.3}]
    done = {
        "id": 1, "outcome": "published", "reason": "", "labelled": 20, "kept": 12, "scale": 0.9, "curve": curve,
        "train_s": 61.0, "seconds": {"label": 30.0, "train": 61.0}, "map_before": 0.6, "map_after": 0.8,
        "map_before_50_95": 0.3, "map_after_50_95": 0.5, "published": True, "swap": "live", "swap_gap_ms": 480.0,
        "model_lag_s": 120.0, "map_candidate": 0.8, "map_candidate_50_95": 0.5, "swap_reason": "",
        "gate_before": 0.5, "gate_after": 0.7, "gate_frames": 8,
    }  # fmt: skip
    refused = dict.fromkeys(done) | {
        "id": 2, "outcome": "refused", "seconds": {}, "published": False, "reason": "too few frames", "map_before": 0.8,
        "map_candidate": 0.75, "gate_before": 0.7, "gate_after": 0.65, "gate_frames": 9,
    }  # fmt: skip
    return {
        "video": "clip.mp4", "frames_seen": 900, "forwarded_rate": 0.03, "frames_forwarded": {"hard": 20, "audit": 7},
        "frames_lost": 0, "bytes_up": 3_000_000, "bytes_down": 30_000_000, "teacher_frames": 27, "wall_s": 600.0,
        "rounds": [done, refused], "measured_frames": 30, "map_base": 0.6, "map_final": 0.8, "map_base_50_95": 0.3,
        "map_final_50_95": 0.5, "map_vs_labels": {"base": 0.5, "final": 0.7, "base_50_95": 0.2, "final_50_95": 0.4},
        "accuracy": {"ap50": {"value": 0.62, "low": 0.5, "high": 0.7}},
        "bill": {"told": "9 TFLOP: edge 8 TFLOP, cloud 1 TFLOP; 1/12 of full training, 1/99 without the edge's passes"},
        "cascade": None, "pace": None, "held": False,
    }  # fmt: skip
