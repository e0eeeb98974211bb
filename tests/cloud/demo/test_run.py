from __future__ import annotations

from pathlib import Path

import av
import pytest

from culling.cloud.demo.run import Demo, last_line, record
from culling.common.errors import CameraError
from support.clips import make_clip


def test_a_live_stream_is_recorded_frame_for_frame(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=30, width=160, height=128, fps=10)
    out = record(str(clip), tmp_path / "recorded.mkv", seconds=2.0)
    with av.open(str(out)) as container:
        assert 20 <= sum(1 for _ in container.decode(video=0)) <= 22


def test_a_stream_that_cannot_be_recorded_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(CameraError) as refused:
        record("rtsp://user:secret@127.0.0.1:9/x", tmp_path / "out.mkv", seconds=1.0)
    assert "cannot be recorded" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_last_line_of_a_log_says_why_a_process_ended(tmp_path: Path) -> None:
    run = Demo(Path("v.mp4"), "gate", 1, 1.0, "real", tmp_path)
    (tmp_path / "edge.log").write_text("first\nculling: rtsp://u:secret@host/x refused\n")
    assert "secret" not in last_line(run, "edge")
    assert last_line(run, "edge").startswith("culling: rtsp://")
    (tmp_path / "cloud.log").touch()
    assert last_line(run, "cloud") == "its log is empty"
