from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from culling.cloud.demo.plan import choose
from culling.cloud.demo.prepare import announce
from culling.cloud.demo.speed import measure_speed
from culling.cloud.settings import load_settings
from culling.cloud.teacher.bundled import Bundled
from culling.common.errors import CameraError
from support.clips import make_clip
from support.detectors import small_student
from support.machines import QUIET, slower
from support.narrow import install


def test_a_machine_is_measured_on_the_frames_of_the_video(tmp_path: Path, narrow: Path) -> None:
    install(narrow, tmp_path / "data")
    weights = str(narrow / "student.safetensors")
    settings = load_settings(None, {"service.data_dir": tmp_path / "data", "student.weights": weights})
    clip = make_clip(tmp_path / "clip.mp4", frames=20, width=160, height=96, fps=10)
    told: list[str] = []
    speed, base = measure_speed(settings, Bundled(small_student(), 96), clip, 0.6, told.append)
    assert speed.frame == (160, 96)
    assert 1 <= speed.threads <= max(1, speed.cores)
    assert all(value > 0 for name, value in asdict(speed).items() if name.endswith("_s"))
    assert base.onnx.is_file()
    assert [step.partition(" ")[0] for step in told] == ["exporting", "that"]


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    settings = load_settings(None, {"service.data_dir": tmp_path / "data"})
    with pytest.raises(CameraError, match=r"broken\.mp4"):
        measure_speed(settings, Bundled(small_student(), 96), broken, 0.6, print)


def test_what_a_demo_takes_is_said_before_it_begins() -> None:
    plan = choose(QUIET, 3)
    assert announce(QUIET, plan) == (
        f"3 rounds, about {plan.total_s / 60:.0f} minutes on this machine: a student's frame takes 0.32 s, on 2 "
        "threads a teacher's 0.28 s, a training step 1.20 s. So students see 640 pixels, and each round learns from "
        "the hardest 16 of 32 or more frames, in 32 steps at most."
    )
    slow = slower(QUIET, 3)
    assert announce(slow, choose(slow, 1, limit_s=1.0)).startswith("1 round, about ")
