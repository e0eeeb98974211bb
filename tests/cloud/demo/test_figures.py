from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.demo.figures import are_held, lost, read_trace, write_plots
from culling.cloud.store.desired import DesiredStates
from culling.common.frame import Detections
from culling.common.selection.selector import Released
from culling.edge.spool.spool import Spool
from support.cloud import CAMERA, CloudState
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


def test_the_plot_is_drawn_with_and_without_rounds(figures: dict[str, Any], tmp_path: Path) -> None:
    for rounds in (figures["rounds"], []):
        (path,) = write_plots(figures | {"rounds": rounds}, tmp_path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_trace_gives_each_models_first_result_and_the_gap_before_it(tmp_path: Path) -> None:
    lines = [("base", 10.0), ("base", 10.5), ("one", 11.25), ("base", 11.5), ("one", 13.0)]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps({"model_id": model, "t": t}) + "\n" for model, t in lines))
    assert read_trace(trace) == {"one": (11.25, 0.75), "base": (11.5, 0.25)}


def test_an_edge_that_saw_nothing_left_no_trace(tmp_path: Path) -> None:
    assert read_trace(tmp_path / "trace.jsonl") == {}


@pytest.mark.parametrize(("setting", "person"), [(True, False), (False, True)])
def test_rounds_are_held_by_a_setting_or_a_person_where_none_started(
    cloud: CloudState, setting: bool, person: bool
) -> None:
    schedule = cloud.settings.schedule
    assert not are_held(cloud.index, schedule, CAMERA), "the time was too short"
    DesiredStates(cloud.index).change(CAMERA, held=person)
    schedule = schedule.model_copy(update={"hold": setting})
    assert are_held(cloud.index, schedule, CAMERA)
    cloud.rounds.start(CAMERA, "manual", 1.0)
    assert not are_held(cloud.index, schedule, CAMERA), "the demo itself lets no more start than it was asked for"


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
    spool.release("gate", Released(1), 0.0)
    spool.close()
    assert lost(path, 0, {}) == 0
