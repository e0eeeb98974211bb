from __future__ import annotations

import time

import pytest

from culling.cloud.control.said import Said
from culling.cloud.page import views
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.store.history import History
from culling.cloud.store.index import frames
from culling.common.errors import InputError
from culling.common.wire.messages import SwapReport
from support.cloud import CAMERA, CloudState, camera_state, captured, detections, hard_frame, held_out

EDGE = "e" * 40
NOW = 1_800_000_000.0


def test_one_camera_tells_its_hour_its_swaps_and_its_drops(cloud: CloudState) -> None:
    state = camera_state(seen=50, dropped={"not-taken": 2}, losses=[1, 2], skipped={"spacing": 4})
    History(cloud.index, {CAMERA: camera_state(seen=0)}).record({CAMERA: state}, int(NOW // 60) - 5)
    cloud.roster.heard({CAMERA: state}, NOW)
    cloud.registry.report(SwapReport(CAMERA, "gate-2", "gate-1", "rolled-back", "slow", 40.0, NOW - 60), NOW)
    told = views.camera(cloud.index, CAMERA, NOW)
    assert [row["seen"] for row in told["hour"]] == [row["seen"] for row in told["day"]] == [50]
    assert [(swap["model_id"], swap["outcome"]) for swap in told["swaps"]] == [("gate-2", "rolled-back")]
    assert (told["dropped"], told["skipped"], told["losses"]) == ({"not-taken": 2}, {"spacing": 4}, [1, 2])
    assert (told["threshold"], told["ranker"]) == (4.0, False)


def test_a_camera_that_is_not_there_is_named(cloud: CloudState) -> None:
    with pytest.raises(InputError, match="no camera yard"):
        views.camera(cloud.index, "yard", NOW)


def store(cloud: CloudState, count: int) -> list[str]:
    for seq in range(1, count + 1):
        frame, jpeg = hard_frame(seq, found=detections((0, 0, 20, 20, 0.9, 0), (1, 1, 9, 9, 0.1, 1)))
        cloud.frames.add(EDGE, frame, jpeg)
    return [row["id"] for row in views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 200, None, None)]


def test_hard_frames_show_both_sides_boxes_and_how_wrong_the_student_was(cloud: CloudState) -> None:
    name, other = store(cloud, 2)
    cloud.lifecycle.label({name: detections((0, 0, 20, 20, 0.95, 0), (30, 30, 40, 40, 0.8, 0), (5, 5, 9, 9, 0.2, 1))})
    rows = {row["id"]: row for row in views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 24, None, None)}
    assert rows[other]["ap"] is rows[other]["teacher"] is None
    assert rows[name]["student"] == [[0.0, 0.0, 20.0, 20.0, 0.9, "person"]]
    assert len(rows[name]["teacher"]) == 2  # what it doubts is no truth
    assert rows[name]["ap"] == pytest.approx(0.5, abs=0.01)


def test_the_gallery_can_be_narrowed_to_a_reason_or_the_culled_set(cloud: CloudState) -> None:
    names = store(cloud, 3)
    cloud.lifecycle.keep([names[1]], 7)
    found = views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 24, "hard", True)
    assert [(row["id"], row["kept"]) for row in found] == [(names[1], 7)]
    assert views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 24, "audit", None) == []
    assert len(views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 1, None, False)) == 1
    assert views.gallery(cloud.index, cloud.settings, CAMERA, time.time() - 3600, 24, None, None) == []


def test_a_frame_says_whether_it_is_held_out(cloud: CloudState) -> None:
    store(cloud, 8)
    rows = views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 24, None, None)
    assert {row["captured"]: row["held_out"] for row in rows} == {captured(n): held_out(n) for n in range(1, 9)}


def test_models_say_which_one_the_camera_runs_and_how_its_swap_went(cloud: CloudState) -> None:
    for tag in "ab":
        cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round")
    cloud.roster.heard({CAMERA: camera_state(model_id="gate-1")}, NOW)
    cloud.registry.report(SwapReport(CAMERA, "gate-2", "gate-1", "rejected", "empty", 0.0, NOW), NOW)
    cloud.files.path(cloud.registry.models(CAMERA)[1].artefact.sha256, "onnx").unlink()
    newest, oldest = views.model_list(cloud.index, cloud.files, CAMERA)
    shown = ("model_id", "state", "runs", "swap", "kept")
    assert [newest[name] for name in shown] == ["gate-2", "live", False, "rejected", True]
    assert [oldest[name] for name in shown] == ["gate-1", "previous", True, None, False]


def test_models_say_which_one_a_rollback_goes_to_and_which_are_never_used_again(cloud: CloudState) -> None:
    for tag in "abc":
        cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round")
    shown = [(row["model_id"], row["back"], row["gone"]) for row in views.model_list(cloud.index, cloud.files, CAMERA)]
    assert shown == [("gate-3", False, ""), ("gate-2", True, ""), ("gate-1", False, "")]
    cloud.publisher.rollback(CAMERA)
    rows = {row["model_id"]: row for row in views.model_list(cloud.index, cloud.files, CAMERA)}
    assert rows["gate-3"]["gone"].startswith("was gone back from at ")
    assert [name for name, row in rows.items() if row["gone"]] == ["gate-3"]


def test_a_picture_is_found_by_its_name_alone(cloud: CloudState) -> None:
    (name,) = store(cloud, 1)
    found = views.picture(cloud.index, name)
    assert found is not None
    assert found[0] == CAMERA
    assert views.picture(cloud.index, "0" * 32) is None


def test_a_frame_whose_record_rotted_does_not_hide_the_others(cloud: CloudState) -> None:
    bad, good = store(cloud, 2)
    with cloud.index.write() as connection:
        connection.execute(frames.update().where(frames.c.id == bad).values(labels=b"\xc1rotten"))
    assert [row["id"] for row in views.gallery(cloud.index, cloud.settings, CAMERA, 1e11, 24, None, None)] == [good]


def test_rounds_that_run_at_once_are_each_told_of_with_what_they_do(cloud: CloudState) -> None:
    cloud.enroll("yard", "dock", edge="edge-2")
    turns = {camera: cloud.rounds.start(camera, "age", 1.0).id for camera in (CAMERA, "yard", "dock")}
    for camera, stage in ((CAMERA, "train"), ("yard", "score")):
        folder = cloud.data_dir / "rounds" / str(turns[camera])
        folder.mkdir(parents=True)
        ProgressWriter(folder, lambda: 1.0).stage(stage)
    told = {CAMERA: "train", "yard": "score", "dock": "running"}
    found = views.running_rounds(cloud.index, Said(cloud.index, cloud.settings))
    assert {camera: row["told"] for camera, row in found.items()} == told
    assert {row["camera"]: row["round"]["id"] for row in views.cameras(cloud.index, 2.0, cloud.settings)} == turns
    rows = views.with_progress(views.rounds(cloud.index, None, 9), Said(cloud.index, cloud.settings))
    assert {row["camera"]: row["running"]["stage"] for row in rows if row["running"]} == {
        CAMERA: "train",
        "yard": "score",
    }
