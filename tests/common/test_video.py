from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from culling.common import video
from culling.common.errors import CameraError
from culling.common.video import count_frames, frame_rate, read_frames
from support.clips import make_clip, make_hole, number_of

WIDTH, HEIGHT = 160, 128


def test_frames_are_counted_and_read_by_number(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=20, width=WIDTH, height=HEIGHT)
    assert count_frames(clip) == 20
    assert frame_rate(clip) == 10
    frames = dict(read_frames(clip, {17, 3}))
    assert list(frames) == [3, 17]
    assert frames[3].shape == (HEIGHT, WIDTH, 3)
    assert frames[3].dtype == np.uint8
    assert np.abs(frames[3].astype(int) - frames[17]).mean() > 1


def test_a_frame_behind_the_end_is_left_out(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3, width=WIDTH, height=HEIGHT)
    assert [number for number, _ in read_frames(clip, {2, 9})] == [2]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_is_read_upright(tmp_path: Path, rotation: int) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2, width=WIDTH, height=HEIGHT, rotation=rotation)
    (_, frame), *_ = read_frames(clip, {0})
    assert frame.shape[:2] == ((HEIGHT, WIDTH) if rotation == 180 else (WIDTH, HEIGHT))
    corners = [frame[4, 4], frame[4, -4], frame[-4, -4], frame[-4, 4]]
    red = [int(corner[0]) - int(corner[2]) > 100 for corner in corners]
    assert sum(red) == 1
    assert not red[0], "the corner that is red in the stored picture has moved"


@pytest.mark.parametrize("content", [b"", b"not a video"])
def test_a_file_that_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.mp4").write_bytes(content)
    for attempt in (count_frames, frame_rate, lambda path: list(read_frames(path, {0}))):
        with pytest.raises(CameraError, match=r"no\.mp4: cannot be read as a video"):
            attempt(tmp_path / "no.mp4")


def test_a_damaged_frame_is_told_apart_from_one_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_hole(make_clip(tmp_path / "clip.ts", frames=60), tmp_path / "hole.ts")
    lost: list[int] = []
    read = [number for number, _ in read_frames(clip, range(99), lose=lost.append)]
    assert len(read) > 30
    assert len(lost) > 3
    assert sorted(read + lost) == list(range(count_frames(clip)))
    assert "video_damaged" in capsys.readouterr().out


@pytest.mark.parametrize("size", [200, 1024, 4000])
def test_what_is_built_on_bytes_that_are_missing_is_lost_though_the_decoder_sees_no_fault(
    tmp_path: Path, size: int
) -> None:
    whole = make_clip(tmp_path / "whole.ts", frames=60)
    sound = {number: picture.tobytes() for number, picture in read_frames(whole, range(60))}
    lost: list[int] = []
    clip = make_hole(whole, tmp_path / "hole.ts", size)
    read = [picture for _, picture in read_frames(clip, range(60), lose=lost.append)]
    assert [picture.tobytes() for picture in read] == [sound[number_of(picture)] for picture in read]
    assert number_of(read[-1]) == 59, "damage is over at a key frame"
    assert lost


def test_a_file_is_decoded_once_to_be_counted_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=20)
    assert count_frames(clip) == 20
    with monkeypatch.context() as patch:
        patch.setattr(video, "play", lambda *_: pytest.fail("counted again"))
        assert count_frames(clip) == 20
    make_clip(clip, frames=5)
    assert count_frames(clip) == 5
