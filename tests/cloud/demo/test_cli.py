from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import pytest

from culling.common.cli import main
from culling.common.errors import CameraError, SettingsError
from culling.common.video import BUNDLED_CLIP


def test_the_bundled_clip_is_there_small_and_plays() -> None:
    assert BUNDLED_CLIP.stat().st_size <= 4_000_000
    with av.open(str(BUNDLED_CLIP)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (768, 576, 795)


def test_a_missing_video_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--video", "no/such.mp4"]) == CameraError.exit_code
    assert capsys.readouterr().err == "culling: no/such.mp4: no such file\n"


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


def test_a_setting_that_the_demo_decides_or_nobody_has_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for pair, told in {
        "round.kept=9": "round.kept: the demo chooses it for this machine",
        "student.famly=yolox": "student.famly: neither cloud nor edge has it; did you mean student.family?",
        "camera.0.url=a": "camera.0.url: the name, --video and --speed say what is played",
    }.items():
        assert main(["demo", "--set", pair]) == SettingsError.exit_code
        assert told in capsys.readouterr().err
    assert main(["demo", "--set", "student.family=resnet"]) != 0
    assert "no family of students is called 'resnet'" in capsys.readouterr().err


def test_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "culling.common.cli", "demo", "--help"], capture_output=True, text=True, timeout=60
    )
    for option in ("--video", "--rounds", "--minutes", "--speed", "--labels", "--report", "--plots", "--set"):
        assert option in done.stdout
