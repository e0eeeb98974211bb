from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from culling.cloud.demo.figures import lost, print_table, read_trace, write_plots
from culling.common.frame import Detections
from culling.edge.spool import Spool
from support.scores import score


@dataclass(frozen=True)
class Shot:
    """What the spool asks of a frame."""

    seq: int
    camera: str = "gate"
    pts: float = 0.0
    captured: float = 0.0
    width: int = 8
    height: int = 8


@pytest.fixture
def figures() -> dict[str, Any]:
    """The figures of a run of two rounds, one of them refused."""
    curve = [{"scale": 1.0, "normalised": 0.0}, {"scale": 0.9, "normalised": 0.04}, {"scale": 0.81, "normalised": 0.3}]
    done = {
        "id": 1, "outcome": "published", "reason": "", "labelled": 20, "kept": 12, "scale": 0.9, "curve": curve,
        "train_s": 61.0, "seconds": {"label": 30.0, "train": 61.0}, "map_before": 0.6, "map_after": 0.8,
        "map_before_50_95": 0.3, "map_after_50_95": 0.5, "published": True, "swap": "live", "swap_gap_ms": 480.0,
        "model_lag_s": 120.0,
    }  # fmt: skip
    refused = dict.fromkeys(done) | {"id": 2, "outcome": "refused", "seconds": {}, "published": False}
    return {
        "video": "clip.mp4", "frames_seen": 900, "forwarded_rate": 0.03, "frames_forwarded": {"hard": 20, "audit": 7},
        "frames_lost": 0, "bytes_up": 3_000_000, "bytes_down": 30_000_000, "teacher_frames": 27, "wall_s": 600.0,
        "rounds": [done, refused], "measured_frames": 30, "map_base": 0.6, "map_final": 0.8, "map_base_50_95": 0.3,
        "map_final_50_95": 0.5, "map_vs_labels": {"base": 0.5, "final": 0.7, "base_50_95": 0.2, "final_50_95": 0.4},
    }  # fmt: skip


def test_the_table_tells_what_left_and_what_the_loop_closed(figures: dict[str, Any]) -> None:
    console = Console(record=True, width=140)
    print_table(console, figures)
    text = console.export_text()
    assert "900 frames seen, 27 forwarded (3.00%: 20 hard, 7 audit), 0 lost" in text
    assert "closed 50% of what the base student lacked" in text
    print_table(console, figures | {"map_base": None, "map_final": None})
    assert "nothing to measure the students by" in console.export_text()
    assert "AP50 0.500 → 0.700" in text
    assert "refused" in text


def test_the_plot_is_drawn_with_and_without_rounds(figures: dict[str, Any], tmp_path: Path) -> None:
    for rounds in (figures["rounds"], []):
        (path,) = write_plots(figures | {"rounds": rounds}, tmp_path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_trace_gives_each_models_first_result_and_the_gap_before_it(tmp_path: Path) -> None:
    lines = [("base", 10.0), ("base", 10.5), ("one", 11.25), ("base", 11.5), ("one", 13.0)]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps({"model_id": model, "t": t}) + "\n" for model, t in lines))
    assert read_trace(trace) == {"one": (11.25, 0.75), "base": (11.5, 0.25)}


def test_nothing_is_lost_when_every_frame_is_acked_or_spooled(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, 1 << 24, "boot")
    sequences = [
        spool.add(
            Shot(number), found=Detections.empty(), score=score(), reason="hard", model_id="m", jpeg=b"x", held=False
        )
        for number in range(6)
    ]
    for seq in sequences[:3]:
        spool.delete("boot", seq)
    spool.close()
    assert lost(path, 3, {"max-fps": 100, "newer": 5}) == 0
    assert lost(path, 4, {}) == 0, "a frame may be stored whose ack was cut off"
    assert lost(path, 2, {}) == 1
    assert lost(path, 3, {"queue-full": 2}) == 2


def test_a_frame_that_was_refused_or_has_vanished_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, 1 << 24, "boot")
    first, second = (
        spool.add(
            Shot(number), found=Detections.empty(), score=score(), reason="hard", model_id="m", jpeg=b"x", held=False
        )
        for number in range(2)
    )
    spool.give_up("boot", first, "refused")
    spool.close()
    assert lost(path, 0, {}) == 1
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM frames WHERE seq = ?", (second,))
    assert lost(path, 0, {}) == 2


def test_held_frames_that_better_ones_outdid_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, 1 << 24, "boot")
    for number in range(3):
        spool.add(
            Shot(number), found=Detections.empty(), score=score(), reason="hard", model_id="m", jpeg=b"x", held=True
        )
    spool.release("gate", 1, 0.0)
    spool.close()
    assert lost(path, 0, {}) == 0
