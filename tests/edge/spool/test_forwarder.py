from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from culling.common.clock import SystemClock
from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.codec import jpeg_size
from culling.common.wire.ignored import place
from culling.common.wire.messages import (
    MAX_JPEG,
    Ack,
    CameraState,
    Desired,
    Escalate,
    FromCloud,
    HardFrame,
    Heartbeat,
    Hello,
    LivePicture,
    Look,
    Message,
    ModelChunk,
    ModelOffer,
    ModelRequest,
    Nack,
    Refused,
    SwapReport,
    Verdict,
    Welcome,
    pack,
    unpack,
)
from culling.common.wire.versions import SPEAKS, Speaks
from culling.edge.camera.camera import Frame
from culling.edge.cascade.line import Line
from culling.edge.settings import load_settings
from culling.edge.spool.forwarder import Forwarder, Throttle
from culling.edge.spool.spool import Spool, Spooled
from culling.edge.view.abroad import Abroad
from culling.edge.watchdog import Watchdog
from support import recorded
from support.pictures import frame
from support.scores import FEATURES, score
from support.site import CloudEnd, Site
from support.waiting import wait_until

STATE = CameraState("gate", "live", "gate-1", 1, 1, {}, 0, 0, 0, {}, 0.0, 0.0)


@dataclass(frozen=True)
class Shot:
    seq: int
    camera: str = "gate"
    pts: float = 0.0
    captured: float = 1_800_000_000.0
    width: int = 64
    height: int = 48


class Watched(Spool):
    """The spool that was there, on a disk that can be `unreadable`, or `stuck` with what it has; counts frames read."""

    def __init__(self, before: Spool) -> None:
        self.unreadable = self.stuck = False
        self.read = self.looked = 0
        before.close()
        super().__init__(before._path, 64 << 20, "boot-1")

    def ready(self, limit: int, without: Collection[int] = ()) -> list[Spooled]:
        if self.unreadable:
            raise StorageError("Input/output error")
        found = super().ready(limit, without)
        self.read += len(found)
        return found

    def oldest(self) -> float | None:
        self.looked += 1
        if self.unreadable:
            raise StorageError("Input/output error")
        return super().oldest()

    def delete(self, boot: str, seq: int) -> bool:
        if self.stuck:
            raise StorageError("No space left on device")
        return super().delete(boot, seq)


class Models:
    """Stands for the updater: what it was told, and what it wants told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.wanted: list[Any] = []

    def offered(self, offer: ModelOffer) -> None:
        self.told.append(offer)

    def chunk(self, chunk: ModelChunk, data: bytes) -> None:
        self.told.append((chunk, data))

    def outgoing(self) -> list[Any]:
        wanted, self.wanted = self.wanted, [message for message in self.wanted if isinstance(message, SwapReport)]
        return wanted

    def sent(self, report: SwapReport) -> None:
        self.wanted.remove(report)

    def reopen(self) -> None:
        self.told.append("reopen")


class Bench:
    """A forwarder on a real link, with a spool of its own."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.cloud = self.site.cloud()
        self.spool = Spool(folder / "spool.sqlite", 64 << 20, "boot-1")
        self.metrics = Metrics(CollectorRegistry(), "edge")
        self.models = Models()
        self.line = Line("boot-2", 90, SystemClock(), threading.Condition())
        self.subject: Forwarder | None = None

    def start(
        self, on_desired: Callable[[Desired], None] = lambda _: None, abroad: bool = False, **changes: Any
    ) -> Forwarder:
        self.abroad = Abroad(abroad, lambda: ["gate"], self.metrics, SystemClock())
        self.site.settings["cloud"] |= changes
        settings = load_settings(self.site.write(), {}).cloud
        self.subject = Forwarder(
            settings,
            "boot-2",
            self.spool,
            self.models,
            lambda: [STATE],
            self.metrics,
            SystemClock(),
            Watchdog(),  # type: ignore[arg-type]
            on_desired,
            self.abroad,
            line=self.line,
        )
        self.subject.start()
        return self.subject

    def spool_frames(self, count: int, jpeg: bytes = b"jpeg") -> None:
        for seq in range(count):
            self.spool.add(
                Shot(seq),
                found=Detections.empty(),
                score=score(),
                reason="hard",
                model_id="gate-1",
                jpeg=jpeg,
                held=False,
            )

    def ready(self) -> int:
        return self.spool.counts().ready

    def cloud_restarts(self) -> None:
        self.cloud.close()
        self.cloud = CloudEnd(self.cloud.endpoint, self.site.server_secret, self.site.public)

    def close(self) -> None:
        if self.subject is not None:
            assert self.subject.finish(0)
            assert self.subject.failure is None
        self.cloud.close()
        self.spool.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def until(bench: Bench, condition: Callable[[], bool], ack: bool = True) -> None:
    """Play the cloud until `condition` holds."""

    def turned() -> bool:
        for _ in bench.cloud.turn(ack=ack, timeout_s=0.02):
            pass
        return condition()

    wait_until(turned)


def frames(bench: Bench) -> list[int]:
    return [message.seq for message, _ in bench.cloud.seen if isinstance(message, HardFrame)]


def test_it_says_who_it_is_before_anything_else(bench: Bench) -> None:
    bench.spool_frames(1)
    bench.start()

    hello, _ = bench.cloud.receive(Hello)

    assert hello.boot == "boot-2"
    assert hello.cameras == [STATE]
    assert isinstance(bench.cloud.seen[0][0], Hello)


def test_an_edge_that_was_revoked_says_so_sends_nothing_more_and_ends_at_once(bench: Bench) -> None:
    bench.spool_frames(3)
    subject = bench.start()
    bench.cloud.receive(Hello, ack=False)
    until(bench, lambda: subject.linked, ack=False)
    bench.cloud.answers = False
    bench.cloud.send(Refused("revoked: this edge is not enrolled any more"))
    until(bench, lambda: bench.metrics.total("refused") == 1, ack=False)

    assert bench.metrics.total("connected") == 0
    assert bench.metrics.total("refusals", reason="revoked") == 1
    while list(bench.cloud.turn(ack=False)):  # what was on its way
        pass
    frames_before = frames(bench)
    for _ in range(10):  # two beats and more
        bench.cloud.send(Refused("revoked: this edge is not enrolled any more"))
        list(bench.cloud.turn(ack=False))
    assert frames(bench) == frames_before
    began = time.monotonic()
    assert subject.finish(10)
    assert time.monotonic() - began < 5
    assert bench.ready() == 3, "what was not acked stays"


def test_an_edge_that_is_enrolled_again_goes_on(bench: Bench) -> None:
    bench.spool_frames(3)
    subject = bench.start()
    bench.cloud.receive(Hello)
    bench.cloud.send(Refused("revoked: this edge is not enrolled any more"))

    until(bench, lambda: subject.linked and bench.ready() == 0)

    assert bench.metrics.total("refused") == 0


def test_a_key_that_the_cloud_does_not_know_is_told_from_a_cloud_that_is_away(bench: Bench) -> None:
    bench.cloud.close()
    bench.cloud = CloudEnd(bench.cloud.endpoint, bench.site.server_secret, edge_key="someone else")
    subject = bench.start()

    until(bench, lambda: bench.metrics.total("refused") == 1)

    assert not subject.linked


@pytest.mark.parametrize(("told", "counted"), [("busy: the disk", "busy"), ("brand-new: x", "other"), ("", "other")])
def test_whatever_the_cloud_refuses_is_counted_by_a_reason_that_is_known(bench: Bench, told: str, counted: str) -> None:
    subject = bench.start()
    bench.cloud.receive(Hello)

    bench.cloud.send(Refused(told))

    until(bench, lambda: bench.metrics.total("refusals", reason=counted) == 1)
    until(bench, lambda: subject.linked)
    assert bench.metrics.total("refused") == 0


def test_spooled_frames_arrive_oldest_first_and_leave_the_spool_when_acked(bench: Bench) -> None:
    bench.spool_frames(20)
    bench.start()

    until(bench, lambda: bench.ready() == 0)

    assert frames(bench) == list(range(1, 21))
    assert bench.spool.counts().acked == 20
    assert bench.metrics.total("frames_acked", camera="gate") == 20


def test_a_frame_arrives_whole_under_the_boot_that_made_it(bench: Bench) -> None:
    bench.spool_frames(1, jpeg=b"a picture")
    bench.start()

    frame, jpeg = bench.cloud.receive(HardFrame)

    assert jpeg == b"a picture"
    assert (frame.boot, frame.seq, frame.frame, frame.camera) == ("boot-1", 1, 0, "gate")
    assert (frame.reason, frame.loss, frame.model_id) == ("hard", 1.0, "gate-1")
    assert frame.features == FEATURES


def test_nothing_leaves_the_spool_without_an_ack(bench: Bench) -> None:
    bench.spool_frames(12)
    bench.start()

    until(bench, lambda: len(frames(bench)) == 8, ack=False)

    assert bench.ready() == 12, "and no more than the window is on its way"


def test_an_ack_for_a_frame_that_was_never_sent_deletes_nothing(bench: Bench) -> None:
    bench.start()
    bench.cloud.receive(Hello)
    bench.spool_frames(1)
    bench.cloud.send(Ack("boot-1", 99, window=8))
    bench.cloud.receive(HardFrame, ack=False)
    bench.cloud.send(Ack("other-boot", 1, window=8))
    bench.cloud.receive(Heartbeat, ack=False)

    assert bench.ready() == 1


def test_a_frame_that_the_cloud_will_never_take_is_given_up_and_counted(bench: Bench) -> None:
    bench.spool_frames(1)
    bench.start()
    frame, _ = bench.cloud.receive(HardFrame, ack=False)

    bench.cloud.send(Nack(frame.boot, frame.seq, "bad-image", retry=False))

    until(bench, lambda: bench.ready() == 0)
    assert bench.spool.counts().reasons == {"refused": 1}
    assert bench.spool.counts().acked == 0
    assert bench.metrics.by("reason", "frames_nacked", camera="gate") == {"bad-image": 1}


def test_a_frame_that_the_cloud_cannot_take_now_stays(bench: Bench) -> None:
    bench.spool_frames(1)
    bench.start()
    frame, _ = bench.cloud.receive(HardFrame, ack=False)

    bench.cloud.send(Nack(frame.boot, frame.seq, "busy", retry=True))

    until(bench, lambda: bench.metrics.total("frames_nacked", reason="busy") == 1, ack=False)
    assert bench.ready() == 1


def test_what_was_in_flight_is_sent_again_when_the_cloud_comes_back(bench: Bench) -> None:
    bench.spool_frames(3)
    bench.start()
    until(bench, lambda: len(frames(bench)) == 3, ack=False)

    bench.cloud_restarts()

    until(bench, lambda: bench.ready() == 0)
    assert isinstance(bench.cloud.seen[0][0], Hello)
    assert frames(bench) == [1, 2, 3]
    assert "reopen" in bench.models.told


def test_the_age_of_the_oldest_frame_is_told_until_it_is_acked(bench: Bench) -> None:
    shot = Shot(1, captured=time.time() - 100)
    values = {"score": score(), "reason": "hard", "model_id": "gate-1", "jpeg": b"jpeg", "held": False}
    bench.spool.add(shot, found=Detections.empty(), **values)  # type: ignore[arg-type]
    bench.start(heartbeat_s=0.05)
    until(bench, lambda: bench.metrics.total("oldest_unacked_seconds") >= 100, ack=False)
    bench.cloud_restarts()
    until(bench, lambda: bench.ready() == 0 and bench.metrics.total("oldest_unacked_seconds") == 0)


def test_a_frame_leaves_with_the_places_that_its_camera_ignored(bench: Bench) -> None:
    corner = place(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), ("car",))
    values = {"score": score(), "reason": "hard", "model_id": "gate-1", "jpeg": b"jpeg", "held": False}
    bench.spool.add(Shot(1), found=Detections.empty(), ignored=(corner,), **values)  # type: ignore[arg-type]
    bench.start()
    until(bench, lambda: bench.ready() == 0)
    assert [one.ignored for one, _ in bench.cloud.seen if isinstance(one, HardFrame)] == [(corner,)]


def test_an_audit_leaves_with_its_echo_and_no_other_frame_does(bench: Bench) -> None:
    for seq, reason in enumerate(("hard", "audit")):
        told = {"score": score(), "reason": reason, "model_id": "gate-1", "jpeg": b"jpeg", "held": False}
        bench.spool.add(Shot(seq), found=Detections.empty(), echo=b"echo", **told)  # type: ignore[arg-type]
    bench.start()
    until(bench, lambda: bench.ready() == 0)
    frames = [one for one, _ in bench.cloud.seen if isinstance(one, HardFrame)]
    assert {one.reason: one.echo for one in frames} == {"hard": b"", "audit": b"echo"}


def test_frames_wait_for_a_cloud_that_comes_late(bench: Bench) -> None:
    bench.spool_frames(2)
    bench.cloud.close()
    bench.start()

    bench.cloud = CloudEnd(bench.cloud.endpoint, bench.site.server_secret, bench.site.public)

    until(bench, lambda: bench.ready() == 0)
    assert frames(bench) == [1, 2]


def test_an_idle_link_whose_beats_are_answered_is_greeted_once(bench: Bench) -> None:
    bench.start(heartbeat_s=0.5)

    until(bench, lambda: sum(isinstance(message, Heartbeat) for message, _ in bench.cloud.seen) == 4)

    assert sum(isinstance(message, Hello) for message, _ in bench.cloud.seen) == 1


def test_beats_go_on_for_ever_even_if_the_cloud_never_answers_them(bench: Bench) -> None:
    bench.start(heartbeat_s=0.2)
    bench.cloud.receive(Hello)
    bench.cloud.answers = False
    until(bench, lambda: len(bench.cloud.seen) == 4)
    bench.cloud.answers = True
    beats = (Hello, Heartbeat)

    until(bench, lambda: sum(isinstance(message, beats) for message, _ in bench.cloud.seen) > 6)

    subject = bench.subject
    assert subject is not None
    until(bench, lambda: subject.linked)
    assert next(message.cameras for message, _ in bench.cloud.seen if isinstance(message, Heartbeat)) == [STATE]


def test_offers_and_chunks_go_to_the_updater_and_its_requests_to_the_cloud(bench: Bench) -> None:
    request = ModelRequest("gate", "gate-2", 0, 1024)
    bench.start()
    bench.cloud.receive(Hello)
    bench.cloud.send(ModelOffer("gate", b"signed"))
    bench.cloud.send(ModelChunk("gate", "gate-2", 0, 5), b"bytes")
    bench.models.wanted.append(request)

    asked, _ = bench.cloud.receive(ModelRequest)

    assert asked == request
    until(bench, lambda: len(bench.models.told) == 3)
    assert bench.models.told[1:] == [
        ModelOffer("gate", b"signed"),
        (ModelChunk("gate", "gate-2", 0, 5), b"bytes"),
    ]


def test_a_report_waits_until_there_is_a_link_and_is_counted_once(bench: Bench) -> None:
    report = SwapReport("gate", "gate-2", "gate-1", "live", "passed", 40.0, 1_800_000_000.0)
    bench.models.wanted.append(report)
    bench.start()

    told, _ = bench.cloud.receive(SwapReport)

    assert told == report
    until(bench, lambda: bench.metrics.total("swaps", camera="gate", outcome="live") == 1)
    assert bench.models.wanted == []


def test_what_cannot_be_understood_is_counted_and_the_link_survives(bench: Bench) -> None:
    bench.start()
    bench.cloud.receive(Hello)
    assert bench.cloud.socket.send(bench.cloud.edge_key, [b"\x01garbage"])
    assert bench.cloud.socket.send(bench.cloud.edge_key, [b"\x63"])
    bench.spool_frames(1)

    until(bench, lambda: bench.ready() == 0)

    assert bench.metrics.by("reason", "messages_refused") == {"malformed": 1, "version": 1}


class CloudOf02(CloudEnd):
    """A cloud of 0.2: it refuses fields that it does not know, in its own bytes, and answers in its own bytes."""

    def turn(self, ack: bool = True, timeout_s: float = 0.1) -> Iterator[tuple[Message, bytes | None]]:
        if (received := self.socket.poll(timeout_s)) is None:
            return
        key, parts = received
        message, payload = unpack(parts, "edge")
        self.seen.append((message, payload))
        welcome, *_, refused = recorded.said("0.2.0", "cloud")
        if not recorded.understood_by("0.2.0", parts):
            self.socket.send(key, refused)
        elif isinstance(message, (Hello, Heartbeat)):
            self.socket.send(key, welcome)
        elif isinstance(message, HardFrame):
            self.socket.send(key, pack(Ack(message.boot, message.seq, window=8)))
        yield message, payload


def test_a_cloud_of_0_2_is_greeted_in_its_own_words_and_told_nothing_else(bench: Bench) -> None:
    bench.cloud.close()
    bench.cloud = CloudOf02(bench.cloud.endpoint, bench.site.server_secret, bench.site.public)
    bench.spool_frames(3)
    corner = place(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), ())
    values = {"score": score(), "reason": "hard", "model_id": "gate-1", "jpeg": b"jpeg", "held": False}
    bench.spool.add(Shot(4), found=Detections.empty(), ignored=(corner,), **values)  # type: ignore[arg-type]
    values["reason"] = "audit"
    bench.spool.add(Shot(5), found=Detections.empty(), echo=b"echo", **values)  # type: ignore[arg-type]
    subject = bench.start(heartbeat_s=0.2)

    until(bench, lambda: bench.ready() == 0 and isinstance(bench.cloud.seen[-1][0], Heartbeat))

    assert subject.linked
    greetings = [message for message, _ in bench.cloud.seen if isinstance(message, Hello)]
    assert [greeting.speaks for greeting in greetings] == [SPEAKS, None]
    told = [pack(message, payload) for message, payload in bench.cloud.seen if message is not greetings[0]]
    assert all(recorded.understood_by("0.2.0", parts) for parts in told)
    assert bench.metrics.by("reason", "refusals") == {"malformed": 1}


def test_what_a_cloud_of_0_2_says_is_taken(bench: Bench) -> None:
    desired: list[Desired] = []
    subject = bench.start(on_desired=desired.append)
    bench.cloud.receive(Hello)
    for parts in recorded.said("0.2.0", "cloud"):
        assert bench.cloud.socket.send(bench.cloud.edge_key, parts)

    until(bench, lambda: len(bench.models.told) == 3 and len(desired) == 2)

    assert bench.models.told[1] == ModelOffer("gate", b"signed")
    assert desired == [Desired("gate", True, 12, 4), Desired("gate", False, None, None)]
    assert subject.linked
    assert bench.metrics.by("reason", "messages_refused") == {}


def test_what_a_newer_cloud_adds_is_passed_over_and_types_it_has_are_counted(bench: Bench) -> None:
    subject = bench.start()
    bench.cloud.receive(Hello)
    assert bench.cloud.socket.send(bench.cloud.edge_key, [b"\x01" + msgspec.msgpack.encode({"type": "Sing"})])
    for parts in recorded.said("future", "cloud"):
        assert bench.cloud.socket.send(bench.cloud.edge_key, parts)
    bench.spool_frames(1)

    until(bench, lambda: bench.ready() == 0 and len(bench.models.told) == 3)

    assert subject.linked
    assert bench.metrics.by("reason", "messages_refused") == {"unknown-type": 1}


@pytest.mark.parametrize(
    "answer",
    [
        Refused("version: the edge speaks protocol version 1, the cloud 2 to 3: upgrade culling at the edge"),
        Welcome("culling 9", 8, Speaks(2, 3)),
    ],
)
def test_a_cloud_without_a_version_in_common_is_named_and_greeted_at_the_usual_beat(
    bench: Bench, answer: FromCloud
) -> None:
    bench.spool_frames(2)
    bench.cloud.answers = False
    subject = bench.start(heartbeat_s=0.2)
    with capture_logs() as logs:
        for _ in range(3):
            bench.cloud.receive(Hello, ack=False)
            bench.cloud.send(answer)
        until(bench, lambda: bench.metrics.total("incompatible") == 1)

    assert not subject.linked
    assert subject.incompatible.endswith(
        "the edge speaks protocol version 1, the cloud 2 to 3: upgrade culling at the edge"
    )
    assert [entry["reason"] for entry in logs if entry["event"] == "edge_incompatible"] == [subject.incompatible]
    assert not any(entry["event"] == "link_changed" and entry["event_name"] != "connected" for entry in logs)
    assert {type(message) for message, _ in bench.cloud.seen} == {Hello}
    bench.cloud.answers = True
    until(bench, lambda: bench.ready() == 0)
    assert (subject.incompatible, bench.metrics.total("incompatible")) == ("", 0)


def picture(seq: int) -> Frame:
    noise = np.random.default_rng(seq).integers(0, 255, (48, 64, 3), np.uint8)
    return Frame("gate", seq, seq / 25, 1e9 + seq, 0.0, av.VideoFrame.from_ndarray(noise, format="rgb24"))


def pictures(bench: Bench) -> list[float]:
    return [message.captured for message, _ in bench.cloud.seen if isinstance(message, LivePicture)]


def test_a_live_picture_is_sent_for_each_look_and_none_without(bench: Bench) -> None:
    subject = bench.start(abroad=True)
    assert bench.abroad.live is not None
    until(bench, lambda: subject.linked)
    bench.abroad.live.offer(picture(1), None)
    bench.cloud.send(Look("gate", 10.0))
    until(bench, lambda: bench.abroad.due() == ["gate"])
    bench.abroad.live.offer(picture(2), None)
    until(bench, lambda: pictures(bench) == [1e9 + 2])
    (message, jpeg) = next(one for one in bench.cloud.seen if isinstance(one[0], LivePicture))
    assert message == LivePicture("gate", 1e9 + 2, "none", 64, 48)
    assert jpeg is not None
    assert jpeg_size(jpeg) == (64, 48)
    until(bench, lambda: bench.metrics.total("live_pictures_sent", camera="gate") == 1)  # counted once it has left
    assert not bench.abroad.due()


def test_no_live_picture_is_sent_while_hard_frames_wait_or_are_on_their_way(bench: Bench) -> None:
    bench.spool_frames(3)
    subject = bench.start(abroad=True)
    assert bench.abroad.live is not None
    until(bench, lambda: subject.linked and len(frames(bench)) == 3, ack=False)
    bench.cloud.send(Look("gate", 60.0))
    until(bench, lambda: bench.abroad.live.wanted("gate"), ack=False)
    bench.abroad.live.offer(picture(1), None)
    until(bench, lambda: bench.metrics.total("live_pictures_skipped", reason="hard-frames") > 0, ack=False)
    assert pictures(bench) == []
    assert bench.metrics.total("view_frames") == 0, "none was made in vain"
    for seq in frames(bench):
        bench.cloud.send(Ack("boot-1", seq, 8))
    until(bench, lambda: pictures(bench) == [1e9 + 1])
    assert bench.ready() == 0


def test_a_live_picture_counts_against_the_limit_of_the_upload(bench: Bench) -> None:
    subject = bench.start(abroad=True, upload_bytes_per_s=500)
    assert bench.abroad.live is not None
    until(bench, lambda: subject.linked)
    for seq in (1, 2):
        bench.cloud.send(Look("gate", 60.0))
        until(bench, lambda: bench.abroad.due() == ["gate"])
        bench.abroad.live.offer(picture(seq), None)
        until(bench, lambda seq=seq: len(pictures(bench)) == seq)  # type: ignore[misc]
    assert bench.metrics.total("live_pictures_skipped", reason="upload-limit") > 0


def test_a_look_at_an_edge_that_does_not_allow_it_is_counted(bench: Bench) -> None:
    subject = bench.start()
    until(bench, lambda: subject.linked)
    bench.cloud.send(Look("gate", 10.0))
    until(bench, lambda: bench.metrics.by("reason", "messages_refused") == {"look-not-allowed": 1})
    assert subject.linked


def test_a_spool_that_fails_pauses_forwarding_until_it_works_again(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    bench.spool.close()
    bench.spool = Spool(folder / "spool.sqlite", 64 << 20, "boot-1")
    bench.start()
    bench.cloud.receive(Hello)

    folder.mkdir()
    bench.spool_frames(1)

    until(bench, lambda: bench.ready() == 0)


def test_a_frame_larger_than_any_message_is_given_up_and_the_others_go_on(bench: Bench) -> None:
    bench.spool_frames(1, jpeg=bytes(MAX_JPEG + 1))
    bench.spool_frames(2)
    bench.start()

    until(bench, lambda: bench.ready() == 0)

    assert frames(bench) == [2, 3]
    assert bench.spool.counts().reasons == {"oversized": 1}
    assert bench.spool.counts().acked == 2


@pytest.mark.parametrize(("settings", "room"), [({}, 8), ({"upload_bytes_per_s": 1}, 1)])
def test_no_frame_is_read_that_cannot_leave_now(bench: Bench, settings: dict[str, int], room: int) -> None:
    """Neither beyond the window nor beyond the rate, however long that lasts."""
    bench.spool = spool = Watched(bench.spool)
    bench.spool_frames(20)
    bench.start(**settings)

    until(bench, lambda: len(frames(bench)) == room, ack=False)
    beats = [bench.cloud.receive(Heartbeat, ack=False) for _ in range(3)]

    assert len(beats) == 3
    assert spool.read == room
    assert len(frames(bench)) == room


class Slow(Watched):
    """Before each of its frames is read, the cloud acks those that were sent; notes how many are `acked` by then."""

    def __init__(self, bench: Bench, count: int) -> None:
        super().__init__(bench.spool)
        self.acked: list[int] = []
        self._bench, self._count = bench, count

    def ready(self, limit: int, without: Collection[int] = ()) -> list[Spooled]:
        while self.read < self._count and len(frames(self._bench)) < self.read:
            list(self._bench.cloud.turn())
        self.acked.append(self.counts().acked)
        return super().ready(limit, without)


def test_acks_are_taken_between_frames_for_they_go_down_with_the_line(bench: Bench) -> None:
    bench.cloud.window = 64
    bench.spool = spool = Slow(bench, 64)
    bench.spool_frames(64)
    bench.start()
    bench.cloud.receive(Hello)
    wait_until(lambda: spool.read == 64)
    until(bench, lambda: bench.ready() == 0)
    assert spool.acked[63] > 0, "all frames left before an ack was taken"
    assert frames(bench) == list(range(1, 65))


def test_an_acked_frame_is_not_sent_again_while_the_disk_does_not_let_it_go(bench: Bench) -> None:
    bench.spool = spool = Watched(bench.spool)
    bench.spool_frames(2)
    spool.stuck = True
    bench.start()
    until(bench, lambda: len(frames(bench)) == 2)
    for _ in range(3):
        bench.cloud.receive(Heartbeat)
    assert frames(bench) == [1, 2]
    assert bench.ready() == 2
    assert bench.metrics.total("frames_acked") == 0
    assert bench.subject is not None
    assert bench.subject.storage_failing

    spool.stuck = False

    until(bench, lambda: bench.ready() == 0)
    assert frames(bench) == [1, 2]
    assert bench.metrics.total("frames_acked") == bench.spool.counts().acked == 2


def test_what_comes_while_the_disk_fails_is_taken_all_the_same(bench: Bench) -> None:
    bench.spool = spool = Watched(bench.spool)
    bench.spool_frames(1)
    spool.unreadable = True
    bench.start()
    bench.cloud.receive(Hello)
    until(bench, lambda: bench.subject is not None and bench.subject.storage_failing)

    offers = [ModelOffer("gate", bytes([number])) for number in range(6)]
    for offer in offers:
        bench.cloud.send(offer)
        bench.cloud.receive(Heartbeat)

    until(bench, lambda: len(bench.models.told) == 1 + len(offers))
    assert bench.models.told[1:] == offers
    spool.unreadable = False
    until(bench, lambda: bench.ready() == 0)


def test_a_disk_that_fails_is_said_to_until_it_works_again_while_the_cloud_is_away_too(bench: Bench) -> None:
    bench.spool = spool = Watched(bench.spool)
    bench.spool_frames(1)
    spool.unreadable = True
    bench.cloud.close()
    with capture_logs() as logs:
        subject = bench.start(heartbeat_s=0.05)
        wait_until(lambda: spool.looked >= 5)
        assert subject.storage_failing
        spool.unreadable = False
        wait_until(lambda: not subject.storage_failing)
    assert [line["event"] for line in logs].count("forwarding_paused") == 1


def test_finishing_sends_what_is_ready_first(bench: Bench) -> None:
    bench.spool_frames(5)
    subject = bench.start()
    bench.cloud.receive(Hello)
    finishing = threading.Thread(target=subject.finish, args=(10,))
    finishing.start()

    until(bench, lambda: not finishing.is_alive())

    assert bench.ready() == 0


def test_finishing_does_not_wait_longer_for_an_absent_cloud_than_it_was_told(bench: Bench) -> None:
    bench.spool_frames(1)
    bench.cloud.close()
    subject = bench.start()

    assert subject.finish(0.1)

    assert bench.ready() == 1
    bench.cloud_restarts()


def test_a_key_that_the_cloud_does_not_know_is_counted(bench: Bench) -> None:
    bench.cloud.close()
    bench.cloud = CloudEnd(bench.cloud.endpoint, bench.site.server_secret, edge_key="someone else")
    bench.start()

    until(bench, lambda: bench.metrics.total("handshake_failures") > 0)


def test_a_throttle_lets_through_its_rate_and_pays_off_what_was_larger() -> None:
    throttle = Throttle(1000, now=0.0)
    assert throttle.open(0.0)
    throttle.spend(3000)

    assert not throttle.open(1.9)
    assert throttle.open(2.1)


def test_a_throttle_saves_up_no_more_than_a_second() -> None:
    throttle = Throttle(1000, now=0.0)
    assert throttle.open(3600.0)
    throttle.spend(1001)

    assert not throttle.open(3600.0)


def test_no_rate_is_no_limit() -> None:
    throttle = Throttle(0, now=0.0)
    throttle.spend(10**9)

    assert throttle.open(0.0)


@pytest.mark.parametrize("broken", ["features", "number"])
def test_a_row_that_makes_no_message_is_set_aside_and_the_others_leave(
    bench: Bench, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.spool_frames(2)
    with monkeypatch.context() as another_version:
        if broken == "features":
            another_version.setattr("culling.edge.spool.spool.to_wire", lambda found: {"of": "another version"})
        pts = float("inf") if broken == "number" else 0.0
        bench.spool.add(
            Shot(9, pts=pts), found=Detections.empty(), score=score(), reason="hard", model_id="gate-1",
            jpeg=b"jpeg", held=False,
        )  # fmt: skip
    bench.spool_frames(2)

    with capture_logs() as logged:
        subject = bench.start()
        until(bench, lambda: bench.ready() == 0)

    assert frames(bench) == [1, 2, 4, 5]
    assert bench.spool.counts().reasons == {"corrupt": 1}
    assert bench.metrics.total("items_failed", loop="forwarder") == 1
    [named] = [entry for entry in logged if entry["event"] == "item_failed"]
    assert (named["camera"], named["seq"]) == ("gate", 3)
    assert subject.failure is None


def test_a_message_that_breaks_its_taker_costs_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.models, "offered", lambda offer: {}[offer.camera])
    bench.spool_frames(1)
    subject = bench.start()
    bench.cloud.receive(Hello)
    bench.cloud.send(ModelOffer("gate", b"manifest"))

    until(bench, lambda: bench.ready() == 0 and bench.metrics.total("items_failed", loop="forwarder") == 1)

    assert bench.metrics.total("messages_refused", reason="broken") == 1
    assert subject.linked


def test_models_that_cannot_be_asked_about_hold_up_no_frame(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.models, "outgoing", lambda: 1 / 0)
    bench.spool_frames(3)
    bench.start()

    until(bench, lambda: bench.ready() == 0)

    assert bench.metrics.total("items_failed", loop="updater") >= 1


def test_a_turn_that_breaks_is_survived_and_one_that_always_does_ends_the_agent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.edge.spool.forwarder.BROKEN_PAUSE_S", 0.0)
    monkeypatch.setattr("culling.edge.spool.forwarder.MAX_BROKEN_TURNS", 5)
    subject = bench.start()
    bench.cloud.receive(Hello)
    states, times = subject._states, iter(range(3))

    def broken() -> list[CameraState]:
        next(times)
        raise RuntimeError("dictionary changed size during iteration")

    subject._states = broken
    until(bench, lambda: subject.failure is not None or bench.metrics.total("items_failed", loop="forwarder") >= 3)
    assert subject.failure is None
    subject._states = states
    bench.spool_frames(1)
    until(bench, lambda: bench.ready() == 0)

    monkeypatch.setattr(subject, "_turn", lambda: 1 / 0)
    wait_until(lambda: subject.failure is not None)
    assert isinstance(subject.failure, ZeroDivisionError)
    subject.failure = None


# The cascade


def asked(bench: Bench) -> list[int]:
    return [message.seq for message, _ in bench.cloud.seen if isinstance(message, Escalate)]


def ask(bench: Bench, seq: int = 1, within_s: float = 60.0) -> int:
    return bench.line.ask(frame(seq), "gate-1", time.monotonic() + within_s)


def test_the_teacher_is_asked_before_hard_frames_leave_and_its_answer_is_handed_on(bench: Bench) -> None:
    bench.cloud.verdicts = True
    subject = bench.start()
    until(bench, lambda: bench.line.open)
    bench.spool_frames(1)
    number = ask(bench)
    until(bench, lambda: asked(bench) == [number])
    message, jpeg = next(one for one in bench.cloud.seen if isinstance(one[0], Escalate))
    assert jpeg is not None
    assert jpeg_size(jpeg) == (message.width, message.height)  # type: ignore[union-attr]
    bench.cloud.send(Verdict("gate", "boot-2", number, teacher="big"))
    until(bench, lambda: bench.line.heard)
    assert bench.line.came() == [Verdict("gate", "boot-2", number, teacher="big")]
    assert subject.linked


def test_a_cloud_that_does_not_say_that_it_answers_is_never_asked(bench: Bench) -> None:
    """As one of a version before: it knows no such message."""
    subject = bench.start()
    until(bench, lambda: subject.linked)
    ask(bench)
    bench.spool_frames(2)
    until(bench, lambda: len(frames(bench)) == 2 and bench.ready() == 0)
    assert not bench.line.open
    assert asked(bench) == []


def test_the_line_is_closed_while_the_cloud_is_away_or_has_stopped_answering(bench: Bench) -> None:
    bench.cloud.verdicts = True
    bench.start(heartbeat_s=0.1)
    until(bench, lambda: bench.line.open)
    bench.cloud.verdicts = False
    until(bench, lambda: not bench.line.open)
    bench.cloud.verdicts = True
    until(bench, lambda: bench.line.open)
    bench.cloud.close()
    wait_until(lambda: not bench.line.open)
    bench.cloud = CloudEnd(bench.cloud.endpoint, bench.site.server_secret, bench.site.public)


def test_what_cannot_leave_now_is_not_sent_later(bench: Bench) -> None:
    bench.cloud.verdicts = True
    bench.start(upload_bytes_per_s=500)
    until(bench, lambda: bench.line.open)
    first, second = ask(bench, 1), ask(bench, 2)
    until(bench, lambda: bench.line.heard)
    assert bench.line.came() == [Verdict("gate", "boot-2", second, reason="upload-limit")]
    until(bench, lambda: asked(bench) == [first])
