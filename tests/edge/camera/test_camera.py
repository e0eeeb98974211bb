"""A camera's life on its thread: files, live sources, every fault of a camera, and the account of its frames."""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import structlog

from culling.common.clock import SystemClock
from culling.edge.camera import camera as camera_module
from culling.edge.camera import source as source_module
from culling.edge.camera import stillness as stillness_module
from culling.edge.camera.camera import Camera, CameraSettings, Frame
from culling.edge.camera.latest import LatestFrame
from culling.edge.camera.pacing import Backoff
from support.clips import jpegs, make_clip, make_playlist, number_of
from support.forms import Tell, forms
from support.http import answering, send, send_parts, serve
from support.rtsp import RtspServer
from support.watched import WatchedMetrics

RECOVERIES = {"mute": 60.0, "stall": 5.0, "drip": 5.0, "reset": 5.0, "close": 5.0, "freeze": 5.0}
"""Seconds within which the picture is back: the first pauses are 1 to 2 s and 2 to 4 s long, the longest a minute."""


class Subject:
    """A camera under test, with somebody who takes its frames."""

    def __init__(
        self,
        url: object,
        pace: str = "max",
        timeout_s: float = 1,
        backoff: Backoff | None = None,
        **more: object,
    ) -> None:
        self.arrivals = threading.Condition()
        self.metrics = WatchedMetrics()
        self.clock = ShiftingClock()
        self.settings = CameraSettings.model_validate(
            {"name": "gate", "url": str(url), "pace": pace, "open_timeout_s": timeout_s, "read_timeout_s": timeout_s}
            | more
        )
        quick = Backoff(random.Random(1), 0.01, 0.02)
        self.camera = Camera(self.settings, LatestFrame(self.arrivals), self.clock, self.metrics, backoff or quick)
        self.taken = 0

    def take(self, timeout_s: float = 10) -> Frame | None:
        """Return the next frame, None when none comes any more."""
        latest, deadline = self.camera.latest, time.monotonic() + timeout_s
        with self.arrivals:
            while not latest.ready and self.camera.state not in ("ended", "failed", "stopped"):
                if (left := deadline - time.monotonic()) <= 0:
                    return None
                self.arrivals.wait(min(left, 0.05))  # the end of a file notifies nobody
        frame = latest.take()
        self.taken += frame is not None
        return frame

    def frames(self, limit: int = 10_000) -> list[Frame]:
        """Return the next `limit` frames, fewer where fewer come."""
        return [frame for _, frame in zip(range(limit), iter(self.take, None), strict=False)]

    def reaches(self, state: str, timeout_s: float = 10) -> bool:
        return self.metrics.wait_for(lambda: self.camera.state == state, timeout_s)

    def count(self, name: str, **labels: str) -> int:
        return int(self.metrics.total(name, camera="gate", **labels))

    def dropped(self) -> dict[str, float]:
        return self.metrics.by("reason", "frames_dropped", camera="gate", stage="camera")

    def adds_up(self) -> bool:
        """Whether every frame that the decoder delivered was taken or is counted as dropped."""
        return self.count("frames_seen") == self.taken + sum(self.dropped().values())


class ShiftingClock(SystemClock):
    """The machine's clock; a test can step its wall time."""

    step_s = 0.0

    def now(self) -> float:
        return super().now() + self.step_s


@pytest.fixture
def play() -> Iterator[Callable[..., Subject]]:
    """Start cameras that are stopped in the end."""
    with contextlib.ExitStack() as life:

        def start(url: object, **more: object) -> Subject:
            subject = Subject(url, **more)  # type: ignore[arg-type]
            subject.camera.start()
            life.callback(subject.camera.stop)
            return subject

        yield start


def numbers(frames: list[Frame]) -> list[int]:
    return [number_of(frame.rgb()) for frame in frames]


Play = Callable[..., Subject]


class TestFiles:
    def test_as_fast_as_possible_still_delivers_every_frame_exactly_once(self, play: Play, tmp_path: Path) -> None:
        subject = play(make_clip(tmp_path / "clip.mp4", frames=30))
        frames = subject.frames()
        assert numbers(frames) == [frame.seq for frame in frames] == list(range(30))
        assert subject.camera.state == "ended"
        assert subject.count("frames_seen") == 30
        assert not subject.dropped()
        assert subject.camera.failure is None

    def test_played_fast_it_keeps_its_own_clock(self, play: Play, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "clip.mp4", frames=5, times_ms=[0, 40, 200, 210, 3000])
        frames = play(clip).frames()
        assert [round(frame.pts, 3) for frame in frames] == [0, 0.04, 0.2, 0.21, 3.0]
        assert [round(frame.captured - frames[0].captured, 3) for frame in frames] == [0, 0.04, 0.2, 0.21, 3.0]
        assert frames[-1].arrived - frames[0].arrived < 1
        assert abs(frames[0].captured - time.time()) < 10

    def test_at_its_own_pace_it_takes_its_time(self, play: Play, tmp_path: Path) -> None:
        frames = play(make_clip(tmp_path / "clip.mp4", frames=10, fps=20), pace="real").frames()
        assert frames[-1].seq == 9
        assert 0.4 < frames[-1].arrived - frames[0].arrived < 2
        assert abs(frames[-1].captured - time.time()) < 2

    def test_segments_that_come_at_once_are_shown_one_after_the_other(self, play: Play, tmp_path: Path) -> None:
        make_playlist(make_clip(tmp_path / "clip.mp4", frames=10, fps=20), tmp_path / "live.m3u8")
        with serve(tmp_path) as url:
            subject = play(f"{url}/live.m3u8")
            frames = subject.frames(10)
            assert frames[-1].arrived - frames[0].arrived > 0.4
            subject.camera.stop()

    def test_at_its_own_pace_it_waits_for_nobody(self, play: Play, tmp_path: Path) -> None:
        subject = play(make_clip(tmp_path / "clip.mp4", frames=20, fps=100), pace="real")
        assert subject.reaches("ended")
        [last] = subject.frames()
        assert number_of(last.rgb()) == 19
        assert subject.dropped() == {"newer": 19}
        assert subject.adds_up()

    def test_a_loop_goes_on_without_a_seam(self, play: Play, tmp_path: Path) -> None:
        subject = play(make_clip(tmp_path / "clip.mp4", frames=6), loop=True, last=0.5)
        frames = subject.frames(10)
        assert numbers(frames) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
        assert [frame.seq for frame in frames] == list(range(10))
        assert [round(later.pts - earlier.pts, 3) for earlier, later in pairwise(frames)] == [0.1] * 9
        subject.camera.stop()
        assert subject.camera.state == "stopped"
        assert subject.adds_up()

    def test_frames_beyond_the_rate_are_counted_not_looked_at(self, play: Play, tmp_path: Path) -> None:
        subject = play(make_clip(tmp_path / "clip.mp4", frames=20, fps=10), max_fps=2)
        assert numbers(subject.frames()) == [0, 5, 10, 15]
        assert subject.dropped() == {"max-fps": 16}

    @pytest.mark.parametrize("size", [(161, 127), (64, 48), (33, 300)])
    def test_odd_and_upright_sizes(self, play: Play, tmp_path: Path, size: tuple[int, int]) -> None:
        [frame] = play(make_clip(tmp_path / "clip.mkv", frames=1, width=size[0], height=size[1])).frames()
        assert (frame.width, frame.height) == size
        assert frame.rgb().shape == (size[1], size[0], 3)
        assert frame.input(64, 96).shape == (64, 96, 3)

    @pytest.mark.parametrize(
        ("rotation", "size", "corner"),
        [(0, (160, 96), (0, 0)), (90, (96, 160), (1, 0)), (180, (160, 96), (1, 1)), (-90, (96, 160), (0, 1))],
    )
    def test_a_rotated_video_is_brought_upright(
        self, play: Play, tmp_path: Path, rotation: int, size: tuple[int, int], corner: tuple[int, int]
    ) -> None:
        [frame] = play(make_clip(tmp_path / "clip.mp4", frames=1, width=160, height=96, rotation=rotation)).frames()
        assert (frame.width, frame.height) == size
        for rgb in (frame.rgb(), frame.input(64, 64)):
            assert rgb.flags.c_contiguous
            height, width = rgb.shape[:2]
            redness = rgb[..., 0].astype(int) - rgb[..., 2]
            corners = redness[np.ix_([4, height - 5], [4, width - 5])]
            assert np.unravel_index(corners.argmax(), corners.shape) == corner

    @pytest.mark.parametrize("name", ["none.mp4", "text.mp4", "hollow.avi", "hollow.mp4", "."])
    def test_what_cannot_be_played_fails_in_one_line(self, play: Play, tmp_path: Path, name: str) -> None:
        (tmp_path / "text.mp4").write_text("no video")
        for hollow in ("hollow.avi", "hollow.mp4"):
            make_clip(tmp_path / hollow, frames=0)
        subject = play(tmp_path / name, loop=True)
        assert subject.reaches("failed")
        assert subject.frames() == []
        message = str(subject.camera.failure)
        assert message.startswith("camera gate: ")
        assert str(tmp_path) in message
        assert "\n" not in message

    def test_stop_counts_the_frame_that_nobody_took(self, play: Play, tmp_path: Path) -> None:
        subject = play(make_clip(tmp_path / "clip.mp4", frames=20))
        assert subject.metrics.wait_for(lambda: subject.count("frames_seen") >= 2)
        subject.camera.stop()
        assert subject.camera.state == "stopped"
        assert subject.dropped() == {"stopped": 2}
        assert subject.adds_up()

    def test_a_defect_ends_this_camera_visibly(
        self, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crashes: list[threading.ExceptHookArgs] = []
        monkeypatch.setattr(threading, "excepthook", crashes.append)
        monkeypatch.setattr(source_module, "count_frames", lambda *_: 1 // 0)
        subject = play(make_clip(tmp_path / "clip.mp4"), last=0.5)
        assert subject.reaches("failed")
        assert "ZeroDivisionError" in str(subject.camera.failure)
        subject.camera.stop()
        assert len(crashes) == 1
        assert subject.camera.state == "failed"


@pytest.mark.fault
class TestLiveSources:
    def test_a_defect_is_counted_told_once_and_the_camera_opened_again(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = 0

        def turns(picture: object) -> int:
            nonlocal calls
            calls += 1
            return 1 // 0 if calls in (3, 6, 9) else 0

        monkeypatch.setattr(camera_module, "quarter_turns", turns)
        with RtspServer() as server, structlog.testing.capture_logs() as logs:
            subject = play(server.url)
            frames = subject.frames(20)
            subject.camera.stop()
        assert len(frames) == 20
        assert subject.camera.failure is None
        assert subject.metrics.total("restarts", thread="camera-gate") == 3
        assert subject.count("reconnects") == 3
        assert subject.dropped()["broken"] == 3
        assert subject.adds_up()
        assert sum(event["event"] == "camera_broke" for event in logs) == 1

    def test_frames_come_in_order(self, play: Play) -> None:
        with RtspServer() as server:
            subject = play(server.url)
            frames = subject.frames(20)
            assert subject.camera.state == "live"
            subject.camera.stop()
        assert all(earlier.seq < later.seq and earlier.pts < later.pts for earlier, later in pairwise(frames))
        assert numbers(frames) == [frame.seq % 40 for frame in frames]
        assert subject.adds_up()

    def test_a_stream_without_timestamps_goes_by_arrival(self, play: Play) -> None:
        with answering(lambda to: send_parts(to, jpegs())) as web:
            subject = play(f"{web.url}/video.mjpeg")
            frames = subject.frames(20)
            subject.camera.stop()
        waited = [later.arrived - earlier.arrived for earlier, later in pairwise(frames)]
        assert [later.pts - earlier.pts for earlier, later in pairwise(frames)] == pytest.approx(waited)

    def test_a_still_picture_is_fetched_at_the_cameras_rate_and_without_a_warning(self, play: Play) -> None:
        with (
            structlog.testing.capture_logs() as logs,
            answering(lambda to: send(to, 200, "image/jpeg", next(new))) as web,
        ):
            new = jpegs()
            subject = play(f"{web.url}/snapshot.jpg", max_fps=20)
            frames = subject.frames(8)
            subject.camera.stop()
        assert numbers(frames) == list(range(8))
        assert frames[-1].arrived - frames[0].arrived > 0.8 * 7 / 20
        assert len(web.asked) <= 10
        assert subject.count("reconnects") == 0
        assert not subject.dropped().get("max-fps")
        assert {event["log_level"] for event in logs} == {"info"}

    def test_a_still_picture_that_is_never_renewed_is_frozen(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stillness_module, "FROZEN_S", 0.2)
        [jpeg] = jpegs(1)
        with answering(lambda to: send(to, 200, "image/jpeg", jpeg)) as web:
            subject = play(f"{web.url}/snapshot.jpg", max_fps=20)
            assert subject.reaches("frozen")
            subject.camera.stop()

    def test_a_still_picture_that_goes_away_is_a_camera_that_is_lost(self, play: Play) -> None:
        answers = iter([200, 200, 404, 404, 200])
        [jpeg] = jpegs(1)
        with answering(lambda to: send(to, next(answers, 200), "image/jpeg", jpeg)) as web:
            subject = play(f"{web.url}/snapshot.jpg", max_fps=20)
            assert subject.metrics.wait_for(lambda: subject.count("reconnects") == 2)
            assert subject.reaches("live")
            subject.camera.stop()

    @forms("turns", fast=20, full=2000)
    def test_a_slow_student_gets_the_newest_frame_and_the_rest_is_counted(
        self, turns: int, play: Play, tell: Tell
    ) -> None:
        """A student that takes as long as four frames; what it gets is no older than two."""
        oldest, before = 0, psutil.Process().memory_info().rss
        with RtspServer() as server:
            subject = play(server.url)
            for _ in range(turns):
                due = subject.count("frames_seen") + 4
                assert subject.metrics.wait_for(lambda due=due: subject.count("frames_seen") >= due)
                newest = subject.count("frames_seen") - 1
                frame = subject.take()
                assert frame is not None
                oldest = max(oldest, newest - frame.seq)
            grown = psutil.Process().memory_info().rss - before
            subject.camera.stop()
        tell("F08", turns=turns, frames=subject.count("frames_seen"), taken=subject.taken,
             dropped=subject.dropped(), oldest_in_frames=oldest, rss_growth_mb=grown / 2**20)  # fmt: skip
        assert oldest <= 2
        assert subject.dropped()["newer"] >= 2 * turns
        assert subject.adds_up()
        assert grown <= 32 << 20, "four frames in five, kept, would be more"

    @pytest.mark.parametrize("fault", ["mute", "silent"])
    def test_a_mute_camera_stays_connecting_and_is_tried_again(self, play: Play, fault: str) -> None:
        with RtspServer(fault) as server:
            subject = play(server.url, timeout_s=0.3)
            assert server.wait_for(lambda: server.connections >= 3)
            assert subject.camera.state == "connecting"
            assert subject.count("camera_state", state="connecting") == 1
            assert subject.count("reconnects") >= 2
            assert subject.count("frames_seen") == 0
            subject.camera.stop()

    def test_a_mute_camera_does_not_slow_another(self, play: Play) -> None:
        with RtspServer("mute") as mute, RtspServer() as good:
            play(mute.url, timeout_s=0.3)
            subject = play(good.url)
            began = subject.frames(5)[-1]
            frames = subject.frames(50)
        assert 50 <= frames[-1].seq - began.seq <= 60
        assert subject.dropped().get("newer", 0) <= 40  # those that came at once when the connection was probed

    @pytest.mark.parametrize("fault", ["stall", "drip"])
    def test_a_stalled_camera_is_noticed_and_opened_again(self, play: Play, fault: str) -> None:
        with RtspServer(fault) as server:
            subject = play(server.url)
            assert subject.reaches("live")
            before = time.monotonic()
            assert subject.reaches("connecting")
            assert time.monotonic() - before <= subject.settings.read_timeout_s + 1
            server.fault = "none"
            assert subject.reaches("live")
            assert subject.count("reconnects") == 1

    @forms("times", fast=1, full=20)
    @pytest.mark.parametrize(("fault", "within_s"), RECOVERIES.items())
    def test_after_a_fault_the_picture_is_back(
        self, fault: str, within_s: float, times: int, play: Play, tell: Tell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the pauses of real life: an outage that was short is over within seconds of the camera's return."""
        monkeypatch.setattr(stillness_module, "FROZEN_S", 0.3)
        took: list[float] = []
        for number in range(times):
            with RtspServer(fault) as server:
                subject = play(server.url, backoff=Backoff(random.Random(number)))
                assert subject.metrics.wait_for(lambda fault=fault, one=subject: noticed(one, fault), 60)
                while subject.take(0) is not None:
                    pass
                lost, began = subject.count("reconnects"), time.monotonic()
                server.fault = "none"
                assert subject.reaches("live", 60)
                assert subject.take(60) is not None
                took.append(time.monotonic() - began)
                if fault in ("reset", "close", "stall", "drip"):
                    assert lost == subject.count("reconnects") == 1
                assert subject.camera.failure is None
                subject.camera.stop()
        tell(f"F01-F06 {fault}", times=times, recovery_s_median=statistics.median(took), recovery_s_max=max(took))
        assert max(took) <= within_s

    def test_a_camera_that_goes_away_is_back_when_it_is_back(self, play: Play) -> None:
        server = RtspServer()
        server.start()
        subject = play(server.url)
        assert subject.frames(3)
        server.stop()
        assert subject.reaches("connecting")
        assert subject.metrics.wait_for(lambda: subject.count("reconnects") >= 3)
        with server:
            assert subject.reaches("live", 5)

    @forms("cycles", fast=10, full=100)
    @pytest.mark.parametrize("fault", ["reset", "stall"])
    def test_many_reconnects_leave_no_thread(self, fault: str, cycles: int, play: Play, tell: Tell) -> None:
        with RtspServer(fault, after=1) as server:
            subject = play(server.url, timeout_s=0.2)
            assert subject.metrics.wait_for(lambda: subject.count("reconnects") >= 3, 30)
            before = threading.active_count(), thread_ids()
            assert subject.metrics.wait_for(lambda: subject.count("reconnects") >= cycles, 10 * cycles)
            subject.camera.stop()
            after = threading.active_count(), thread_ids()
        tell(f"F02 {fault}", cycles=cycles, threads_before=before, threads_after=after)
        assert after[0] <= before[0]
        assert after[1] <= before[1]

    def test_damage_is_counted_and_kept_from_the_student(self, play: Play) -> None:
        with RtspServer("garbage") as server:
            subject = play(server.url)
            assert subject.metrics.wait_for(lambda: subject.count("frames_seen") >= 40)
            subject.camera.stop()
        lost = subject.metrics.by("reason", "frames_dropped", camera="gate", stage="decode")
        assert subject.count("decode_errors") == lost.get("damaged", 0) + lost.get("undecodable", 0) > 0
        assert lost["after-damage"] > 0
        assert subject.adds_up()

    def test_another_size_in_the_middle_goes_on(self, play: Play) -> None:
        with RtspServer("resize") as server:
            subject = play(server.url)
            assert subject.metrics.wait_for(lambda: subject.count("frames_seen") >= 40)
            frame = subject.take()
            assert frame is not None
            assert (frame.width, frame.height) == (320, 256)
            assert frame.input(128, 160).shape == (128, 160, 3)
            assert subject.count("reconnects") == 0

    @pytest.mark.parametrize("fault", ["freeze", "black"])
    def test_a_picture_that_stands_still_is_frozen_until_it_moves(
        self, play: Play, monkeypatch: pytest.MonkeyPatch, fault: str
    ) -> None:
        monkeypatch.setattr(stillness_module, "FROZEN_S", 0.3)
        with RtspServer(fault) as server:
            subject = play(server.url)
            assert subject.reaches("frozen")
            subject.frames(1)
            dropped = subject.dropped().get("frozen", 0)
            assert subject.metrics.wait_for(lambda: subject.dropped().get("frozen", 0) > dropped + 20)
            assert not subject.camera.latest.ready
            assert subject.count("camera_state", state="frozen") == 1
            server.fault = "none"
            assert subject.reaches("live")
            assert subject.take() is not None
            assert subject.count("reconnects") == 0

    def test_a_camera_whose_clock_jumps_keeps_its_order(self, play: Play) -> None:
        with RtspServer("jump") as server:
            subject = play(server.url)
            frames = subject.frames(60)
        steps = [(later.pts - earlier.pts) / (later.seq - earlier.seq) for earlier, later in pairwise(frames)]
        assert all(step > 0 for step in steps)
        assert statistics.median(steps) <= 0.1

    def test_the_wall_clock_may_step(self, play: Play) -> None:
        with RtspServer() as server:
            subject = play(server.url)
            before = subject.frames(3)[-1]
            subject.clock.step_s = -3600
            subject.frames(2)
            after = subject.frames(3)[-1]
        assert after.captured < before.captured - 3000
        assert after.arrived > before.arrived
        assert after.pts > before.pts
        assert after.seq > before.seq

    def test_stop_is_quick_while_a_mute_camera_is_being_opened(self, play: Play) -> None:
        with RtspServer("mute") as server:
            subject = play(server.url, timeout_s=3)
            assert server.wait_for(lambda: server.clients == 1)
            began = time.monotonic()
            subject.camera.stop()
            assert time.monotonic() - began < 1.5
            assert subject.camera.state == "stopped"
            assert subject.take() is None

    def test_no_password_leaves_the_module(self, play: Play) -> None:
        with structlog.testing.capture_logs() as events, RtspServer("mute") as server:
            subject = play(server.url, timeout_s=0.2)
            assert subject.metrics.wait_for(lambda: subject.count("reconnects") >= 1)
            server.stop()
            assert subject.metrics.wait_for(lambda: subject.count("reconnects") >= 4)
            subject.camera.stop()
            server.start()
        errors = {event["error"] for event in events if event["event"] == "camera_lost"}
        assert any("no answer" in error for error in errors)
        assert any("refused" in error for error in errors)
        assert all("s3cret" not in str(event) for event in events)


def noticed(subject: Subject, fault: str) -> bool:
    """Whether the fault of the camera shows."""
    if fault == "freeze":
        return subject.camera.state == "frozen"
    return subject.count("reconnects") > 0


def thread_ids() -> int:
    """Return how many threads the process has, FFmpeg's own included."""
    return len(list(Path("/proc/self/task").iterdir()))
