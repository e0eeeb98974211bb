from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import pytest

from culling.cloud.demo.cli import Demo, last_line, record
from culling.common.cli import main
from culling.common.errors import CameraError, SettingsError
from culling.common.video import BUNDLED_CLIP
from support.clips import make_clip


def test_the_bundled_clip_is_there_small_and_plays() -> None:
    assert BUNDLED_CLIP.stat().st_size <= 4_000_000
    with av.open(str(BUNDLED_CLIP)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (768, 576, 795)


def test_a_missing_video_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--video", "no/such.mp4"]) == CameraError.exit_code
    assert capsys.readouterr().err == "culling: no/such.mp4: no such video\n"


def test_a_wrong_speed_and_a_used_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--speed", "warp"]) == SettingsError.exit_code
    (tmp_path / "something").touch()
    assert main(["demo", "--work", str(tmp_path)]) == SettingsError.exit_code
    assert "expected a new or empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--work", "a"), ("--report", "."), ("--report", "none/r.json"), ("--plots", "a")]
)
def test_what_could_not_be_written_at_the_end_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").touch()
    assert main(["demo", option, value]) == SettingsError.exit_code
    assert capsys.readouterr().err.startswith(f"culling: {option} {value}: ")


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
    assert last_line(run, "cloud") == "it logged nothing"


def test_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "culling.common.cli", "demo", "--help"], capture_output=True, text=True, timeout=60
    )
    for option in ("--video", "--camera", "--rounds", "--minutes", "--speed", "--labels", "--report", "--plots"):
        assert option in done.stdout
