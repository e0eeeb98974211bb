"""What may be said of a camera, and what its address is taken for."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from culling.edge.camera.settings import CameraSettings


def settings(url: object, **more: object) -> CameraSettings:
    return CameraSettings.model_validate({"name": "gate", "url": str(url)} | more)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:p@10.0.0.8/stream",
        "rtsps://cam/1",
        "http://cam/live.m3u8",
        "https://cam/video.mjpg?user=x",
        "/dev/video0",
        "/dev/v4l/by-id/usb-046d_C920_A1B2C3-video-index0",
        "udp://239.0.0.1:5000",
    ],
)
def test_a_camera_is_live(url: str) -> None:
    assert settings(url).live


@pytest.mark.parametrize("url", ["clip.mp4", "/data/a:b.avi", "https://site/clip.MP4?x=1", "/dev/shm/clip.mkv"])
def test_a_file_is_not(url: str) -> None:
    assert not settings(url).live


def test_a_device_is_known_by_what_it_is_and_not_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "front door").symlink_to("/dev/null")
    (tmp_path / "unplugged").symlink_to("/dev/video77")
    (tmp_path / "video0").write_bytes(b"a file")
    (tmp_path / "link.mp4").symlink_to("video0")
    devices = {path.name: settings(path).device for path in tmp_path.iterdir()}
    assert devices == {"front door": True, "unplugged": True, "video0": False, "link.mp4": False}
    assert settings(tmp_path / "front door").live
    assert not settings("rtsp://cam/dev/video0").device


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", "gopher://cam/1"),
        ("url", ""),
        ("name", "../gate"),
        ("first", 0.6),
        ("last", 0.0),
        ("pace", "fast"),
        ("max_fps", -1),
        ("open_timeout_s", 0),
        ("read_timeout_s", 3600),
        ("colour", "red"),
        ("transport", "pigeon"),
        ("transport", "udp"),
        ("format", "vhs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        CameraSettings.model_validate({"name": "gate", "url": "clip.mp4", "last": 0.6, key: value})
