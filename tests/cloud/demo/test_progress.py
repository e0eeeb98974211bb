from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from culling.cloud.demo.plan import choose
from culling.cloud.demo.progress import STILL_S, Alive, DemoState, read_progress, shown
from culling.cloud.labelling.escalated import Escalated
from culling.cloud.store.desired import DesiredStates, Paced
from culling.cloud.store.index import Index
from culling.cloud.store.rounds import Round
from culling.common.clock import SystemClock
from culling.common.frame import Detections
from culling.common.wire.messages import CameraState
from support.cloud import CAMERA as CLOUDS
from support.cloud import CloudState
from support.machines import QUIET

PLAN = choose(QUIET, 3)
STAGES = ("label", "cull", "train", "gate")
CAMERA = CameraState("gate", "live", "base", 300, 40, {"hard": 10, "audit": 2}, 12, 11, 0, {}, 0.0, 0.0)


def turn(number: int, state: str = "published", model: str | None = None, **stages: float) -> Round:
    """Return a round that started at 100 times its number, and its stages' seconds."""
    results = {name: {"seconds": seconds} for name, seconds in stages.items()}
    finished = None if state in ("running", "ready") else 100.0 * number + 60
    return Round(number, "gate", "new-frames", state, 100.0 * number, finished, 0, results, {}, "", model)


def at(now: float, *rounds: Round, **outcomes: str) -> DemoState:
    return DemoState(PLAN, CAMERA, rounds, outcomes, STAGES, began=60.0, now=now)


def test_the_line_tells_the_time_the_round_and_the_frames() -> None:
    line = at(75.0).line()
    assert line.startswith("0:15  collecting and labelling frames for round 1 of 3  ·  about 8 min left")
    assert line.endswith("300 frames seen, 40 scored, 12 forwarded, 11 stored, 0 labelled")


def test_the_line_tells_of_answers_and_of_a_pace_where_there_are_any() -> None:
    line = replace(at(75.0), asked=3, answered=1, pace=0.5).line()
    assert line.endswith("0 labelled, 1 of 3 questions answered, pace 0.5")


def test_no_more_time_is_left_than_the_limit_leaves() -> None:
    assert replace(at(75.0), limit_s=60.0).left_s() == 45.0
    assert replace(at(175.0), limit_s=60.0).left_s() == 0.0


def test_the_running_stage_is_the_first_without_a_result_and_its_time_is_told() -> None:
    running = turn(2, "running", label=20.0, cull=1.0)
    assert "round 2 of 3: training, 9 of about" in at(230.0, turn(1), running).line()
    assert "round 2 of 3: training, 900 s" in at(1121.0, turn(1), running).line(), "no estimate once it is wrong"
    assert "publishing" in at(300.0, turn(1), turn(2, "ready", label=1, cull=1, train=1, gate=1)).line()


def test_refused_and_failed_rounds_are_done_as_published_ones_are() -> None:
    assert not at(400.0, turn(1, "refused"), turn(2, "failed")).done
    assert at(400.0, turn(1, "refused"), turn(2, "failed"), turn(3, "refused")).done


def test_the_edges_word_on_the_last_student_is_waited_for() -> None:
    rounds = (turn(1, model="one"), turn(2, model="two"), turn(3, "refused"))
    assert not at(400.0, *rounds, one="live").done
    assert "the edge tries the new student" in at(400.0, *rounds, one="live").line()
    assert at(400.0, *rounds, two="rolled-back").done


def test_no_round_more_is_wanted_once_the_last_one_has_started() -> None:
    assert not at(300.0, turn(1), turn(2)).all_started
    assert at(300.0, turn(1), turn(2), turn(3, "running")).all_started


@pytest.mark.parametrize("state", ["ended", "failed"])
def test_a_camera_that_came_to_its_end_ends_the_demo(state: str) -> None:
    gone = DemoState(PLAN, msgspec.structs.replace(CAMERA, state=state), (), {}, STAGES, 0.0, 1.0)
    assert Alive(0.0).problem(gone, 1.0) == f"camera gate has {state}"


def test_a_demo_in_which_nothing_moves_is_ended() -> None:
    alive, running = Alive(0.0), turn(1, "running", label=1.0)
    assert alive.problem(at(1.0, running), 1.0) is None
    assert alive.problem(at(1.0, running), STILL_S) is None
    assert "no stage has ended for 15 minutes" in (alive.problem(at(1.0, running), 2.0 + STILL_S) or "")
    assert alive.problem(at(1.0, turn(1, "running", label=1.0, cull=1.0)), 3.0 + STILL_S) is None


def test_questions_their_answers_and_a_pace_are_read_of_this_camera_alone(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path)
    cloud.enroll()
    try:
        escalated = Escalated(cloud.index, SystemClock())
        asked = [escalated.ask(CLOUDS, "boot", seq, "hash", b"jpeg", ["car"], 5.0) for seq in (1, 2, 3)]
        escalated.ask("yard", "boot", 9, "hash", b"jpeg", ["car"], 5.0)
        escalated.answer({asked[0] or 0: Detections.empty()}, "bundled")
        DesiredStates(cloud.index).take_pace(CLOUDS, Paced(0.25), 0.0)
        found = read_progress(cloud.index, CLOUDS, PLAN, STAGES, 0.0)
        assert (found.asked, found.answered, found.pace) == (3, 1, 0.25)
    finally:
        cloud.close()


def test_an_index_without_a_round_is_read(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    try:
        progress = read_progress(index, "gate", PLAN, STAGES, 0.0, lambda: 5.0)
    finally:
        index.close()
    assert not progress.done
    assert progress.line().endswith("the camera connects")


def test_without_a_terminal_a_line_is_printed_now_and_then(capsys: pytest.CaptureFixture[Any]) -> None:
    with shown(Console(force_terminal=False)) as show:
        for number in range(5):
            show(f"line {number}")
    assert capsys.readouterr().out == "line 0\n"
