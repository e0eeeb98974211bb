from __future__ import annotations

import pytest

from culling.cloud.page.day import day
from culling.cloud.store.history import History
from culling.common.errors import InputError
from culling.common.wire.messages import SwapReport
from support.cloud import CAMERA, CloudState, camera_state, detections, hard_frame

EDGE = "e" * 40
NOW = 1_800_000_000.0


def test_a_day_has_its_minutes_its_rounds_and_its_swaps_on_one_axis(cloud: CloudState) -> None:
    state = camera_state(seen=50, forwarded={"hard": 3}, inferred=40, dropped={"newer": 10})
    before = camera_state(seen=0, inferred=0, forwarded={}, dropped={})
    History(cloud.index, {CAMERA: before}).record({CAMERA: state}, int(NOW // 60) - 5)
    for started, ended in ((NOW - 200_000, NOW - 190_000), (NOW - 4000, NOW - 3000)):
        turn = cloud.rounds.start(CAMERA, "age", started)
        cloud.rounds.end(turn.id, "refused", {}, "no gain", ended)
    for at in (NOW - 100_000, NOW - 60):
        cloud.registry.report(SwapReport(CAMERA, "gate-2", "gate-1", "live", "", 40.0, at), NOW)
    told = day(cloud.index, cloud.settings, CAMERA, NOW)
    ((t, seen, taken, missed, hard, *rest),) = told["minutes"]
    assert (t, seen, taken, missed, hard) == (60 * (int(NOW // 60) - 5), 50, 40, 10, 3)
    assert rest == [0, 0, 0]
    assert [turn["id"] for turn in told["rounds"]] == [2]
    assert [swap["at"] for swap in told["swaps"]] == [NOW - 60]


def test_what_was_found_is_counted_by_class_and_audits_say_how_right_it_was(cloud: CloudState) -> None:
    found = detections((0, 0, 20, 20, 0.9, 0), (40, 0, 60, 20, 0.8, 0), (1, 1, 9, 9, 0.04, 1))
    names = []
    for seq in (1, 2):
        frame, jpeg = hard_frame(seq, found=found, captured=NOW - 60 * seq, reason="audit", probability=0.01)
        cloud.frames.add(EDGE, frame, jpeg)
    with cloud.index.read() as connection:
        names = [row.id for row in connection.exec_driver_sql("SELECT id FROM frames")]
    cloud.lifecycle.label(dict.fromkeys(names, detections((0, 0, 20, 20, 0.95, 0), (40, 0, 60, 20, 0.9, 0))))
    told = day(cloud.index, cloud.settings, CAMERA, NOW)
    assert told["frames"] == 2
    assert [row[1:] for row in told["found"]] == [["person", 2], ["person", 2]]  # a doubtful one is not counted
    assert [(ap, audits) for _, ap, audits in told["audits"]] == [(1.0, 1), (1.0, 2)]


def test_a_camera_that_is_not_there_is_named(cloud: CloudState) -> None:
    with pytest.raises(InputError, match="no camera yard"):
        day(cloud.index, cloud.settings, "yard", NOW)
