"""What a camera's settings name, and how it opens and reads."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from culling.common import video
from culling.common.clock import SystemClock
from culling.common.errors import CameraError
from culling.common.video import count_frames, read_frames
from culling.edge.camera import source as module
from culling.edge.camera.source import CameraSettings, Source
from support.clips import cut, jpegs, make_clip, make_dual, make_hole, make_playlist, number_of
from support.http import answering, send, send_parts, serve
from support.rtsp import GOP, RtspServer


def settings(url: object, **more: object) -> CameraSettings:
    return CameraSettings.model_validate(
        {"name": "gate", "url": str(url), "open_timeout_s": 1, "read_timeout_s": 1} | more
    )


def read(url: object, limit: int = 10_000, **more: object) -> tuple[list[int], Counter[str]]:
    """Return the numbers that the pictures show, `limit` of them, and how many were lost for which reason."""
    lost: Counter[str] = Counter()
    numbers: list[int] = []
    with Source(settings(url, **more), SystemClock()) as source:
        for pictures in source.read(lambda reason: lost.update([reason])):
            numbers += [number_of(picture.to_ndarray(format="rgb24")) for picture in pictures]
            if len(numbers) >= limit:
                break
    return numbers[:limit], lost


class TestFile:
    @pytest.mark.parametrize(
        ("name", "more"),
        [
            ("plain.mp4", {}),
            ("motion.avi", {"codec": "mjpeg"}),
            ("odd.mkv", {"width": 161, "height": 127}),
            ("uneven.mp4", {"times_ms": [0, 40, 200, 210, 900, 901, 1500, 1501]}),
            ("one.mp4", {"frames": 1}),
        ],
    )
    def test_every_picture_comes_once_in_order(self, tmp_path: Path, name: str, more: dict[str, object]) -> None:
        clip = make_clip(tmp_path / name, **({"frames": 8} | more))  # type: ignore[arg-type]
        numbers, lost = read(clip)
        assert numbers == list(range(count_frames(str(clip))))
        assert not lost

    def test_a_part_is_played_to_the_frame(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "clip.mp4", frames=20)
        assert read(clip, last=0.6)[0] == list(range(12))
        assert read(clip, first=0.6)[0] == list(range(12, 20))
        assert read(clip, first=0.5, last=0.55)[0] == [10]

    def test_a_colon_in_a_name_is_no_scheme(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "10:30.mp4", frames=20)
        assert read(clip, last=0.2)[0] == [0, 1, 2, 3]

    def test_a_frames_time_is_what_the_file_announces(self, tmp_path: Path) -> None:
        with Source(settings(make_clip(tmp_path / "clip.mp4", fps=20)), SystemClock()) as source:
            assert source.frame_s == pytest.approx(0.05)

    def test_no_frames_are_no_error_here(self, tmp_path: Path) -> None:
        assert read(make_clip(tmp_path / "none.avi", frames=0)) == ([], Counter())

    def test_a_file_cut_short_gives_what_is_left(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "clip.mkv", frames=20)
        clip.write_bytes(clip.read_bytes()[:-200])
        numbers, _ = read(clip)
        assert numbers == list(range(len(numbers)))
        assert 10 < len(numbers) < 20

    def test_an_enormous_picture_is_refused_before_it_is_allocated(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clip = make_clip(tmp_path / "clip.mp4", frames=3)
        monkeypatch.setattr(video, "MAX_PIXELS", 160 * 128 - 1)
        numbers, lost = read(clip)
        assert not numbers
        assert lost["undecodable"]

    def test_what_cannot_be_opened_is_named_in_one_line(self, tmp_path: Path) -> None:
        text = tmp_path / "text.mp4"
        text.write_text("no video")
        empty = tmp_path / "empty.mp4"
        empty.touch()
        for path, why in [
            (tmp_path / "none.mp4", "No such file"),
            (text, "Invalid data"),
            (empty, "Invalid data"),
            (tmp_path, "Is a directory"),
            (make_clip(tmp_path / "hollow.mp4", frames=0), "no video"),
        ]:
            with pytest.raises(CameraError, match=why) as caught:
                read(path)
            assert str(caught.value).startswith(f"camera gate: {path}: ")
            assert "\n" not in str(caught.value)


class TestBothSides:
    """What the edge plays of a file is what the cloud reads of it, frame by frame and number by number."""

    @staticmethod
    def check(clip: Path) -> list[int]:
        """Return the numbers that the pictures of `clip` show, after seeing that both sides play the same."""
        total = count_frames(clip)
        cloud = [(number, number_of(rgb), rgb.shape[1]) for number, rgb in read_frames(clip, range(total))]
        played, _ = read(clip)
        assert played == [shown for _, shown, _ in cloud]
        part = round(0.6 * total)
        assert read(clip, last=0.6)[0] == [shown for number, shown, _ in cloud if number < part]
        with Source(settings(clip), SystemClock()) as source:
            [width] = {picture.width for pictures in source.read(print) for picture in pictures}
        assert {width} == {width for *_, width in cloud}
        return played

    def test_frames_hidden_by_an_edit_list_are_not_counted(self, tmp_path: Path) -> None:
        clip = cut(make_clip(tmp_path / "clip.mp4", frames=30), tmp_path / "cut.mp4", first=7)
        assert self.check(clip) == list(range(7, 30))
        assert count_frames(clip) == 23
        assert read(clip, first=0.6)[0] == list(range(7 + 14, 30))

    def test_a_stream_joined_between_key_frames_begins_at_the_next(self, tmp_path: Path) -> None:
        clip = cut(make_clip(tmp_path / "clip.mp4", frames=30), tmp_path / "joined.ts", first=0, start=5)
        assert self.check(clip) == list(range(10, 30))
        assert count_frames(clip) == 20

    @pytest.mark.parametrize(
        ("name", "codec", "size", "least"),
        [
            ("clip.mp4", "libx264", 1024, 30),
            ("clip.ts", "libx264", 1024, 30),
            ("clip.mkv", "libx264", 1024, 30),
            ("hevc.mkv", "libx265", 256, 5),  # the decoder gives nothing of what is built on a lost frame
        ],
    )
    def test_a_hole_in_a_file_costs_the_frames_in_it(
        self, tmp_path: Path, name: str, codec: str, size: int, least: int
    ) -> None:
        clip = make_hole(make_clip(tmp_path / name, frames=60, codec=codec), tmp_path / f"hole-{name}", size)
        played = self.check(clip)
        assert played == sorted(set(played))
        assert least < len(played) < 60
        assert sum(read(clip)[1].values()) == count_frames(clip) - len(played)

    def test_of_two_tracks_both_take_the_one_that_a_player_shows(self, tmp_path: Path) -> None:
        small = make_clip(tmp_path / "small.mp4", width=64, height=48)
        large = make_clip(tmp_path / "large.mp4", width=320, height=256)
        clip = make_dual(small, large, tmp_path / "dual.mp4")
        assert self.check(clip) == list(range(20))
        assert {rgb.shape for _, rgb in read_frames(clip, {3})} == {(256, 320, 3)}


@pytest.mark.fault
class TestRtsp:
    def test_the_stream_is_read_from_its_first_key_frame_on(self) -> None:
        with RtspServer() as camera:
            assert read(camera.url, 50) == ([number % 40 for number in range(50)], Counter())

    def test_several_clients_get_a_stream_each(self) -> None:
        with RtspServer() as camera:
            assert read(camera.url, 5)[0] == read(camera.url, 5)[0] == list(range(5))
            assert camera.connections == 2

    @pytest.mark.parametrize(
        ("fault", "why", "at_most_s"),
        [
            ("mute", "no answer within 1 s", 2),
            ("silent", "no data for 1 s", 3.5),
            ("stall", "no data for 1 s", 3.5),
            ("drip", "no data for 1 s", 3.5),
        ],
    )
    def test_silence_ends_in_time_and_without_the_password(self, fault: str, why: str, at_most_s: float) -> None:
        began = time.monotonic()
        with RtspServer(fault) as camera, pytest.raises(CameraError, match=why) as caught:
            read(camera.url)
        assert time.monotonic() - began < at_most_s
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize("fault", ["reset", "close"])
    def test_a_lost_connection_is_the_end_of_the_stream(self, fault: str) -> None:
        with RtspServer(fault) as camera:
            assert read(camera.url) == (list(range(15)), Counter())

    def test_a_camera_that_refuses_is_named_without_its_password(self) -> None:
        with RtspServer() as camera:
            pass
        with pytest.raises(CameraError, match=r"^camera gate: rtsp://\*\*\*@127.0.0.1:\d+/stream: Connection refused$"):
            read(camera.url)

    def test_no_damaged_picture_comes_through_garbage(self) -> None:
        with RtspServer("garbage") as camera:
            numbers, lost = read(camera.url, 60)
        # Of each group of pictures the third is garbage, and the two behind it are built on it.
        sound = [number for number in range(200) if number < 15 or number % GOP < 2]
        assert numbers == [number % 40 for number in sound][:60]
        assert lost["undecodable"] + lost["damaged"] > 0
        assert lost["after-damage"] > 0

    def test_pictures_cut_short_are_lost_and_counted(self) -> None:
        with RtspServer("truncate") as camera:
            numbers, lost = read(camera.url, 40)
        assert lost["damaged"] + lost["undecodable"] >= 5
        assert len(numbers) == 40

    def test_damage_is_over_after_a_while_where_no_key_frame_comes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(video, "DAMAGED_S", 0.0)
        with RtspServer("garbage") as camera:
            assert read(camera.url, 40)[1]["after-damage"] == 0

    def test_a_stream_that_shows_nothing_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PICTURELESS_S", 0.2)
        monkeypatch.setattr(video, "MAX_PIXELS", 100)
        with RtspServer() as camera, pytest.raises(CameraError, match=r"no usable picture for 0\.2 s"):
            read(camera.url)

    def test_another_size_in_the_middle_goes_on(self) -> None:
        with RtspServer("resize") as camera:
            assert read(camera.url, 30) == ([number % 40 for number in range(30)], Counter())


@pytest.mark.fault
def test_a_web_server_that_stops_answering_while_a_files_frames_are_counted_is_no_wait_for_ever(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4").read_bytes()
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(clip) + clip)
        with contextlib.closing(listener.accept()[0]):  # the second time it is opened, to be counted
            done.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        try:
            with pytest.raises(CameraError, match="no answer in time") as caught:
                read(f"http://u:s3cret@127.0.0.1:{listener.getsockname()[1]}/clip.mp4", first=0.5)
        finally:
            done.set()
            server.join(20)
    assert "s3cret" not in str(caught.value)


class TestHttp:
    def test_a_part_of_a_file_is_played(self, tmp_path: Path) -> None:
        make_clip(tmp_path / "clip.mp4", frames=12)
        with serve(tmp_path) as url:
            assert read(f"{url}/clip.mp4", first=0.5)[0] == list(range(6, 12))

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with serve(tmp_path) as url, pytest.raises(CameraError, match=r"^camera gate: http\S+: .*404"):
            read(f"{url}/clip.mp4")

    def test_a_playlist_is_read_to_its_end(self, tmp_path: Path) -> None:
        make_playlist(make_clip(tmp_path / "clip.mp4", frames=20), tmp_path / "live.m3u8")
        with serve(tmp_path) as url:
            assert settings(f"{url}/live.m3u8").live
            assert read(f"{url}/live.m3u8")[0] == list(range(20))

    def test_only_the_rendition_that_is_played_is_fetched(self, tmp_path: Path) -> None:
        for name, width in (("low", 160), ("high", 320)):
            (tmp_path / name).mkdir()
            clip = make_clip(tmp_path / f"{name}.mp4", frames=100, width=width)
            make_playlist(clip, tmp_path / name / "live.m3u8")
        master = ["#EXTM3U"]
        for name, bandwidth in (("low", 100_000), ("high", 900_000)):
            master += [f"#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}", f"{name}/live.m3u8"]
        (tmp_path / "master.m3u8").write_text("\n".join(master))

        def answer(to: BaseHTTPRequestHandler) -> None:
            send(to, 200, "application/octet-stream", (tmp_path / to.path.lstrip("/")).read_bytes())

        with answering(answer) as web:
            assert read(f"{web.url}/master.m3u8")[0] == list(range(100))
        segments = {name: len([path for path in web.asked if path.startswith(f"/{name}/live") and path.endswith(".ts")])
                    for name in ("low", "high")}  # fmt: skip
        assert max(segments.values()) == 5
        assert min(segments.values()) <= 2, "what is looked at while the stream is probed"

    @pytest.mark.parametrize(("kind", "first"), [("image/jpg", True), ("image/jpeg", False), ("image/jpg", False)])
    def test_mjpeg_that_ffmpeg_does_not_know_is_read_by_its_format(self, kind: str, first: bool) -> None:
        with answering(lambda to: send_parts(to, jpegs(50), kind, first)) as web:
            assert read(f"{web.url}/video", 20, format="mjpeg")[0] == list(range(20))
            with pytest.raises(CameraError, match=r'if it is MJPEG, say so with format = "mjpeg"$'):
                read(f"{web.url}/video")

    @pytest.mark.parametrize("path", ["/snapshot", "/snapshot.jpg", "/snapshot.jpg?user=x"])
    def test_a_still_picture_is_known_by_what_it_is(self, path: str) -> None:
        [jpeg] = itertools.islice(jpegs(), 7, 8)
        with answering(lambda to: send(to, 200, "image/jpeg", jpeg)) as web:
            with Source(settings(web.url + path), SystemClock()) as source:
                assert source.still
            assert read(web.url + path) == ([7], Counter())
        with (
            answering(lambda to: send_parts(to, jpegs())) as web,
            Source(settings(web.url + path), SystemClock()) as source,
        ):
            assert not source.still
