from __future__ import annotations

import itertools
from itertools import pairwise
from pathlib import Path

import av
import pytest

from culling.cloud.control.steering.schedule import CameraStats, due
from culling.cloud.demo.plan import choose
from culling.cloud.demo.run import LEAST_AGE_S, Demo, last_line, record, write_cloud_settings
from culling.cloud.settings import load_settings
from culling.common.clock import SystemClock
from culling.common.errors import CameraError
from culling.common.video import count_frames
from support.clips import jpegs, make_clip
from support.http import answering, send_parts
from support.machines import QUIET, slower


def test_a_live_stream_is_recorded_frame_for_frame(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=30, width=160, height=128, fps=10)
    out = record(str(clip), tmp_path / "recorded.mkv", seconds=2.0)
    with av.open(str(out)) as container:
        assert 20 <= sum(1 for _ in container.decode(video=0)) <= 22


class Ticking(SystemClock):
    """A clock that goes on by a tenth of a second whenever it is read."""

    ticks = 0

    def monotonic(self) -> float:
        self.ticks += 1
        return self.ticks / 10


def test_a_stream_without_timestamps_is_recorded_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    with answering(lambda to: send_parts(to, itertools.cycle(jpegs(50)))) as web:
        out = record(f"{web.url}/video.mjpeg", tmp_path / "recorded.mkv", seconds=2.0, clock=Ticking())
    with av.open(str(out)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert [round(later - earlier, 3) for earlier, later in pairwise(times)] == [0.1] * (len(times) - 1)
    assert 19 <= len(times) <= 21


def test_frames_of_raw_h264_are_recorded_though_they_say_no_time(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.h264", frames=30)
    out = record(str(clip), tmp_path / "recorded.mkv", seconds=2.0, clock=Ticking())
    assert 18 <= count_frames(out) <= 21


def test_a_stream_that_shows_nothing_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="no video came within 0 s"):
        record(str(make_clip(tmp_path / "none.avi", frames=0)), tmp_path / "out.mkv", seconds=0.0)


def test_a_stream_that_cannot_be_recorded_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(CameraError) as refused:
        record("rtsp://user:secret@127.0.0.1:9/x", tmp_path / "out.mkv", seconds=1.0)
    assert "cannot be recorded" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_last_line_of_a_log_says_why_a_process_ended(tmp_path: Path) -> None:
    run = Demo(Path("v.mp4"), "gate", None, "real", tmp_path)
    (tmp_path / "edge.log").write_text("first\nculling: rtsp://u:secret@host/x refused\n")
    assert "secret" not in last_line(run, "edge")
    assert last_line(run, "edge").startswith("culling: rtsp://")
    (tmp_path / "cloud.log").touch()
    assert last_line(run, "cloud") == "its log is empty"


@pytest.mark.parametrize("times", [0.01, 1, 1.7, 2, 3, 30])
def test_the_service_takes_the_settings_of_every_plan(tmp_path: Path, times: float) -> None:
    run, plan = Demo(Path("v.mp4"), "gate", None, "real", tmp_path), choose(slower(QUIET, times), 3)
    write_cloud_settings(run, plan)
    settings = load_settings(run.cloud_toml, {})
    assert settings.round.kept == plan.sizes.kept
    assert settings.student.int8 == plan.int8
    assert settings.labelling.threads == plan.label_threads <= plan.threads
    assert settings.gate.least <= settings.round.held_out


def test_a_round_starts_after_a_while_however_few_frames_a_quiet_camera_sends(tmp_path: Path) -> None:
    run, plan = Demo(Path("v.mp4"), "gate", None, "real", tmp_path), choose(QUIET, 3)
    write_cloud_settings(run, plan)
    schedule = load_settings(run.cloud_toml, {}).schedule
    few = CameraStats("gate", waiting=4, oldest_waiting=1000.0)
    assert due(few, 1001.0, schedule) is None
    assert due(few, 1000.0 + 2 * plan.collect_s + LEAST_AGE_S, schedule) == "age"
