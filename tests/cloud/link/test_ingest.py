from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from culling.cloud.control.publish import Publisher
from culling.cloud.labelling.escalated import Escalated
from culling.cloud.link import admission, ingest, readings
from culling.cloud.link.ingest import Ingest
from culling.cloud.link.looks import Looks
from culling.cloud.link.readings import Reading
from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.frames import Arrival
from culling.cloud.store.index import Index, cameras, frames
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.store.picture import unseal
from culling.cloud.store.roster import Members, Roster, Words
from culling.common.errors import StorageError
from culling.common.metrics import ALL, Metrics
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.echo import encode
from culling.common.wire.manifest import Trust, authentic, key_id, verify, verify_model
from culling.common.wire.messages import (
    Ack,
    CameraState,
    Escalate,
    Heartbeat,
    LivePicture,
    Look,
    ModelChunk,
    ModelOffer,
    ModelRequest,
    Nack,
    Refused,
    SwapReport,
    Verdict,
    Welcome,
    pack,
)
from culling.common.wire.protocol import Transfer
from culling.common.wire.transport import new_keypair
from culling.common.wire.versions import PROTOCOL_VERSION, SPEAKS, Speaks
from support import recorded
from support.cloud import CAMERA, CloudState, Edge, camera_state, detections, hard_frame, hello
from support.echoes import echo
from support.fleet import Fleet
from support.s3 import S3
from support.site import free_port
from support.waiting import LONG_S, wait_until


class Running:
    """An ingest thread on real sockets and a real index, and edges that speak to it."""

    def __init__(self, folder: Path, merged: bool = False, **sections: dict[str, Any]) -> None:
        self.cloud = CloudState(folder, **sections)
        self.series = CollectorRegistry()
        self.metrics = Metrics(self.series, "cloud", merged)
        self.ingest = Ingest(
            self.cloud.settings,
            self.cloud.keys.curve_secret,
            self.cloud.index,
            self.cloud.frames,
            self.cloud.files,
            self.metrics,
            self.cloud.clock,
        )
        self.edges: list[Edge] = []
        self.ingest.start()

    def edge(self, *cameras: str, name: str = "edge-1") -> Edge:
        """Enroll an edge and connect it."""
        return self.connect(self.cloud.enroll(*cameras, edge=name))

    def connect(self, secret: str) -> Edge:
        edge = Edge(self.ingest.endpoint, self.cloud.keys.curve_public, secret)
        self.edges.append(edge)
        return edge

    def stored(self) -> int:
        return sum(counts.stored for counts in self.cloud.frames.counts().values())

    def close(self) -> None:
        for edge in self.edges:
            edge.close()
        self.ingest.stop()
        assert self.ingest.failure is None
        self.cloud.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[Running] = []

    def make(merged: bool = False, **sections: dict[str, Any]) -> Running:
        made.append(Running(tmp_path, merged, **sections))
        return made[-1]

    yield make
    for running in made:
        running.close()


# Frames


def test_an_acked_frame_is_on_disk_and_in_the_index(start: Start) -> None:
    running = start()
    frame, jpeg = hard_frame(5)
    ack = running.edge().ask(frame, Ack, payload=jpeg)
    assert (ack.boot, ack.seq) == ("boot-1", 5)
    assert running.stored() == 1
    (path,) = (running.cloud.data_dir / "frames" / CAMERA).iterdir()
    assert unseal(path.read_bytes())[0] == jpeg
    assert running.metrics.total("frames_stored", camera=CAMERA) == 1


def test_a_repeat_is_acked_again_and_stored_once(start: Start) -> None:
    running = start()
    edge = running.edge()
    frame, jpeg = hard_frame(5)
    for _ in range(3):
        assert edge.ask(frame, Ack, payload=jpeg).seq == 5
    assert running.stored() == 1
    assert running.metrics.total("frames_duplicate", camera=CAMERA) == 2


def test_frames_that_come_together_are_stored_and_acked_each(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    for seq in range(1, 41):
        edge.send(*hard_frame(seq))
    assert sorted(edge.receive(Ack)[0].seq for _ in range(40)) == list(range(1, 41))
    assert running.stored() == 40
    assert running.metrics.total("frames_stored", camera=CAMERA) == 40


def test_a_repeat_that_comes_with_its_first_is_acked_too_and_stored_once(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    for _ in range(3):
        edge.send(*hard_frame(5))
    assert [edge.receive(Ack)[0].seq for _ in range(3)] == [5, 5, 5]
    assert running.stored() == 1
    assert running.metrics.total("frames_duplicate", camera=CAMERA) == 2


def test_an_audit_whose_echo_is_damaged_counts_without_it(start: Start) -> None:
    running = start()
    edge = running.edge()
    told = {"reason": "audit", "probability": 0.1}
    for seq, data in enumerate((b"", encode(echo([detections()])), b"junk"), 1):
        frame, jpeg = hard_frame(seq, **told, echo=data)
        assert edge.ask(frame, Ack, payload=jpeg).seq == seq
    with running.cloud.index.read() as connection:
        kept = connection.execute(sa.select(frames.c.echo).order_by(frames.c.seq)).scalars().all()
    assert [one is None for one in kept] == [True, False, True]
    assert running.metrics.total("echoes_dropped", camera=CAMERA) == 1


def test_two_edges_may_use_the_same_boot_and_number(start: Start) -> None:
    running = start()
    for name, camera in (("edge-1", "gate"), ("edge-2", "yard")):
        frame, jpeg = hard_frame(1, camera)
        running.edge(camera, name=name).ask(frame, Ack, payload=jpeg)
    assert running.stored() == 2


def spoilt(reason: str) -> tuple[Any, bytes]:
    """Return a frame that must be refused for that reason."""
    frame, jpeg = hard_frame(1)
    match reason:
        case "wrong-hash":
            return frame, jpeg[:-1] + b"?"
        case "wrong-size":
            return hard_frame(1, width=640)
        case "bad-image":
            junk = b"\xff\xd8 no picture"
            return hard_frame(1, jpeg=junk)
        case "image-too-large":
            bomb = bytearray(encode_jpeg(np.zeros((48, 64, 3), np.uint8)))
            at = bomb.index(b"\xff\xc0") + 5
            bomb[at : at + 4] = (65_500).to_bytes(2, "big") * 2
            return hard_frame(1, jpeg=bytes(bomb), width=65_500, height=65_500)
        case "malformed":
            return hard_frame(1, found=detections((1, 1, 20, 20, 0.9, 77)))
        case "not-your-camera":
            return hard_frame(1, camera="yard")
    raise AssertionError(reason)


@pytest.mark.parametrize(
    "reason", ["wrong-hash", "wrong-size", "bad-image", "image-too-large", "malformed", "not-your-camera"]
)
def test_a_frame_that_can_never_be_taken_is_refused_for_good(start: Start, reason: str) -> None:
    running = start()
    running.cloud.enroll("yard", edge="edge-2")
    edge = running.edge()
    frame, jpeg = spoilt(reason)
    nack = edge.ask(frame, Nack, payload=jpeg)
    assert (nack.seq, nack.reason, nack.retry) == (1, reason, False)
    assert running.stored() == 0
    assert running.metrics.total("frames_refused", reason=reason) == 1
    good, jpeg = hard_frame(2)
    assert edge.ask(good, Ack, payload=jpeg).seq == 2, "the link lives on"


def test_a_number_reused_for_another_picture_is_refused_and_the_first_one_stays(start: Start) -> None:
    running = start()
    edge = running.edge()
    first, jpeg = hard_frame(1)
    edge.ask(first, Ack, payload=jpeg)
    second, other = hard_frame(1, jpeg=hard_frame(2)[1])
    assert edge.ask(second, Nack, payload=other).reason == "seq-reused"
    (path,) = (running.cloud.data_dir / "frames" / CAMERA).iterdir()
    assert unseal(path.read_bytes())[0] == jpeg


def test_a_full_quota_asks_to_come_again_and_still_acks_what_it_has(start: Start) -> None:
    size = Arrival("e" * 40, *hard_frame(1)).size
    running = start(store={"quota_bytes": size * 2 + size // 2})
    edge = running.edge()
    for seq in (1, 2):
        frame, jpeg = hard_frame(seq)
        edge.ask(frame, Ack, payload=jpeg)
    frame, jpeg = hard_frame(3)
    nack = edge.ask(frame, Nack, payload=jpeg)
    assert (nack.reason, nack.retry) == ("quota", True)
    known, jpeg = hard_frame(2)
    assert edge.ask(known, Ack, payload=jpeg).seq == 2


def test_a_disk_at_its_reserve_stores_nothing_and_asks_to_come_again(start: Start) -> None:
    running = start(service={"reserve_bytes": 1 << 60})
    frame, jpeg = hard_frame(1)
    nack = running.edge().ask(frame, Nack, payload=jpeg)
    assert (nack.reason, nack.retry) == ("disk-full", True)
    assert running.stored() == 0


def test_a_store_that_fails_says_busy_and_recovers_by_itself(start: Start) -> None:
    running = start()
    edge = running.edge()
    blocked = running.cloud.data_dir / "frames"
    blocked.write_text("in the way")
    frame, jpeg = hard_frame(1)
    nack = edge.ask(frame, Nack, payload=jpeg)
    assert (nack.reason, nack.retry) == ("busy", True)
    assert running.ingest.problem
    blocked.unlink()
    assert edge.ask(frame, Ack, payload=jpeg).seq == 1
    wait_until(lambda: not running.ingest.problem)
    wait_until(lambda: running.metrics.total("storage_failing") == 0)


def test_a_frame_whose_model_cannot_be_looked_up_is_asked_for_again(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)

    def rename(table: str, to: str) -> None:
        with running.cloud.index.write() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")

    rename("models", "away")
    frame, jpeg = hard_frame(1)
    nack = edge.ask(frame, Nack, payload=jpeg)
    assert (nack.reason, nack.retry) == ("busy", True)
    rename("away", "models")
    assert edge.ask(frame, Ack, payload=jpeg).seq == 1


def test_a_disk_that_fails_shows_in_the_metrics(start: Start) -> None:
    running = start()
    running.ingest._troubled(StorageError("the disk is gone"))
    assert running.metrics.total("storage_failing") == 1
    wait_until(lambda: running.metrics.total("storage_failing") == 0)


def test_a_camera_without_frames_shows_none_in_the_metrics(start: Start) -> None:
    running = start()
    edge = running.edge()
    frame, jpeg = hard_frame(1)
    edge.ask(frame, Ack, payload=jpeg)
    wait_until(lambda: running.metrics.total("store_bytes", camera=CAMERA) >= len(jpeg))
    running.cloud.lifecycle.expire(10**9, retention_days=0.0, spare_bytes=0)
    wait_until(lambda: running.metrics.total("store_bytes", camera=CAMERA) == 0)


def test_the_window_of_an_ack_is_that_of_the_settings(start: Start) -> None:
    running = start(service={"window": 7})
    frame, jpeg = hard_frame(1)
    assert running.edge().ask(frame, Ack, payload=jpeg).window == 7


def test_a_queue_that_grows_reaches_the_edge_as_a_smaller_window(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PROMPT_S", 1e9)  # however slow this machine's disk is
    monkeypatch.setattr(readings, "COUNT_S", 1e9)  # counted anew, held-out frames would not wait
    running = start(service={"window": 32, "queue_high": 2})
    edge = running.edge()
    windows = []
    for seq in range(1, 9):
        frame, jpeg = hard_frame(seq)
        windows.append(edge.ask(frame, Ack, payload=jpeg).window)
    assert windows[0] == 32
    assert windows[-1] < 16
    assert windows == sorted(windows, reverse=True)


# Who may speak


def test_a_key_that_is_not_enrolled_reaches_nothing(start: Start) -> None:
    running = start()
    running.edge()
    stranger = running.connect(new_keypair()[1])
    stranger.socket.send(pack(hello()))
    deadline = time.monotonic() + 10
    while stranger.socket.failure is None and time.monotonic() < deadline:
        stranger.socket.poll(0.1)
    assert stranger.socket.failure == "refused"
    wait_until(lambda: running.metrics.total("handshake_failures") >= 1)
    assert running.cloud.roster.rows()[0].heard is None


def test_an_edge_enrolled_while_the_service_runs_is_welcome_at_once(start: Start) -> None:
    running = start()
    running.edge("yard", name="edge-0").ask(hello(camera_state("yard")), Welcome)
    assert isinstance(running.edge().ask(hello(), Welcome), Welcome)


def test_a_revoked_edge_is_refused_on_the_connection_it_has(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    running.cloud.roster.revoke("edge-1")
    wait_until(lambda: not running.ingest._members.cameras)
    frame, jpeg = hard_frame(1)
    assert edge.ask(frame, Refused, payload=jpeg).reason.startswith("revoked")
    assert running.stored() == 0


def test_a_revoked_edge_that_goes_on_sending_is_looked_for_once_a_tick(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    running.cloud.roster.revoke("edge-1")
    wait_until(lambda: not running.ingest._members.cameras)
    looked: list[str] = []

    def note(owner: object, name: str) -> None:
        was = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda: (looked.append(name), was())[1])

    note(running.ingest._roster, "members")
    note(running.ingest, "_ask")
    for number in range(1, 41):
        frame, jpeg = hard_frame(number)
        assert edge.ask(frame, Refused, payload=jpeg).reason.startswith("revoked")

    assert 1 <= looked.count("members") <= 1 + looked.count("_ask") < 40


def test_what_an_edge_says_of_anothers_camera_is_refused(start: Start) -> None:
    running = start()
    running.edge("yard", name="edge-2")
    edge = running.edge()
    stranger = SwapReport("yard", "yard-1", None, "rejected", "", 0.0, 1.0)
    for message in (stranger, ModelRequest("yard", "yard-1", 0, 10)):
        assert edge.ask(message, Refused).reason.startswith("not-your-camera")
    assert running.cloud.registry.swaps() == {}
    assert running.metrics.total("messages_refused", reason="not-your-camera") == 2


def test_a_camera_that_is_not_enrolled_does_not_silence_the_others_of_its_edge(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(camera_state("attic"), camera_state(seen=7)), Welcome)
    wait_until(lambda: (state := running.cloud.roster.rows()[0].state) is not None and state.seen == 7)
    edge.send(Heartbeat("boot-1", [camera_state("attic"), camera_state(seen=8)]))
    wait_until(lambda: (state := running.cloud.roster.rows()[0].state) is not None and state.seen == 8)
    assert running.metrics.total("messages_refused", reason="not-your-camera") == 2


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([b"\x07" + b"\x80"], "version"),
        ([bytes([PROTOCOL_VERSION]) + b"\xc1"], "malformed"),
        ([bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode({"type": "Reboot"})], "unknown-type"),
        ([bytes([PROTOCOL_VERSION]) + b"\x00" * 70_000], "oversized"),
        ([pack(*hard_frame(1))[0]], "payload-missing"),
    ],
)
def test_bytes_that_mean_nothing_are_refused_and_the_link_lives_on(
    start: Start, parts: list[bytes], reason: str
) -> None:
    running = start()
    edge = running.edge()
    edge.send_parts(parts)
    refused, _ = edge.receive(Refused)
    assert refused.reason.startswith(reason)
    assert isinstance(edge.ask(hello(), Welcome), Welcome)


# Other versions


@pytest.mark.parametrize("version", ["0.2.0", "strict"])
def test_an_earlier_edge_is_served_and_told_only_what_it_knows(start: Start, version: str) -> None:
    """With the bytes that it sends: its frames are stored, and every answer is one that it takes."""
    running = start(labelling={"verdicts_per_minute": 5})
    secret = running.cloud.enroll(CAMERA)
    DesiredStates(running.cloud.index).change(CAMERA, paused=True, frames_per_window=9)
    edge = running.connect(secret)
    answers: list[list[bytes]] = []
    for parts in recorded.said(version, "edge"):
        edge.send_parts(parts)
        while (answer := edge.socket.poll(0.3)) is not None:
            answers.append(answer)
    assert running.stored() == 2
    assert {recorded.kind(answer) for answer in answers} >= {"Welcome", "Ack", "Orders", "Refused"}
    assert [answer for answer in answers if not recorded.understood_by(version, answer)] == []
    assert running.metrics.by("reason", "messages_refused") == {"unknown-model": 1}


def test_an_edge_of_the_future_is_served_in_the_version_of_this_side(start: Start) -> None:
    running = start()
    edge = running.edge()
    hello, _, frame, *_ = recorded.said("future", "edge")
    with capture_logs() as logs:
        edge.send_parts(hello)
        assert edge.receive(Welcome)[0].speaks == SPEAKS
        edge.send_parts(frame)
        assert edge.receive(Ack)[0].seq == 5
    assert [entry["protocol"] for entry in logs if entry["event"] == "edge_greeted"] == [SPEAKS.newest]
    edge.send_parts([b"\x01" + msgspec.msgpack.encode({"type": "Whisper", "words": ["a"]})])
    assert edge.receive(Refused)[0].reason.startswith("unknown-type")
    assert edge.ask(Heartbeat("boot-1", [camera_state()]), Welcome).speaks == SPEAKS
    assert running.stored() == 1


def test_an_edge_without_a_version_in_common_is_told_so_and_its_link_lives_on(start: Start) -> None:
    running = start()
    edge = running.edge()
    greeting = hello()
    with capture_logs() as logs:
        for _ in range(2):
            refused = edge.ask(msgspec.structs.replace(greeting, speaks=Speaks(7, 9)), Refused)
            assert refused.reason.startswith("version: the edge speaks protocol version 7 to 9, the cloud 1: upgrade")
    assert [entry["reason"] for entry in logs if entry["event"] == "message_refused"] == ["version"] * 2
    assert running.metrics.by("reason", "messages_refused") == {"version": 2}
    assert running.cloud.roster.rows()[0].state is None
    assert edge.ask(greeting, Welcome).window > 0


# The live picture


def test_a_live_picture_is_asked_for_while_somebody_looks_and_reaches_the_page(start: Start) -> None:
    running = start()
    edge = running.edge()
    beat = Heartbeat("boot-1", [camera_state(through_cloud=True)])
    edge.ask(hello(camera_state(through_cloud=True)), Welcome)
    looks, (frame, jpeg) = Looks(running.cloud.index), hard_frame(1)
    looks.look(CAMERA, running.cloud.clock.now())
    assert edge.receive(Look, beat=beat)[0].camera == CAMERA
    edge.send(LivePicture(CAMERA, 1.8e9, f"{CAMERA}-1", 64, 48, frame.detections), jpeg)
    wait_until(lambda: (found := looks.look(CAMERA, running.cloud.clock.now())) is not None and found.jpeg == jpeg)
    assert running.metrics.total("live_pictures", camera=CAMERA) == 1
    assert running.stored() == 0


def test_an_edge_that_does_not_say_that_it_shows_pictures_is_not_asked(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    Looks(running.cloud.index).look(CAMERA, running.cloud.clock.now())
    with pytest.raises(AssertionError, match="none of"):
        edge.receive(Look, within_s=3.0, beat=Heartbeat("boot-1", [camera_state()]))


def test_a_live_picture_is_taken_only_from_the_cameras_own_edge_and_when_it_was_asked_for(start: Start) -> None:
    running = start()
    edge, other = running.edge(), running.edge("yard", name="edge-2")
    frame, jpeg = hard_frame(1)
    picture = LivePicture(CAMERA, 1.8e9, f"{CAMERA}-1", 64, 48, frame.detections)
    assert other.ask(picture, Refused, payload=jpeg).reason.startswith("not-your-camera")
    edge.send(picture, jpeg)
    wait_until(lambda: running.metrics.total("live_pictures_ignored", reason="unasked") == 1)
    assert Looks(running.cloud.index).until() == {}


# Counters


def test_an_edge_is_told_that_it_may_ask_and_gets_the_teachers_answer(start: Start) -> None:
    running = start(labelling={"verdicts_per_minute": 5})
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(), "base")
    secret = running.cloud.enroll(CAMERA)
    edge = running.connect(secret)
    assert edge.ask(msgspec.structs.replace(hello(), speaks=SPEAKS), Welcome).verdicts
    _, jpeg = hard_frame(1)
    edge.send(Escalate(CAMERA, "boot-1", 7, 1.8e9, 30.0, f"{CAMERA}-1", 64, 48), jpeg)
    worker = Escalated(running.cloud.index, running.cloud.clock)
    wait_until(lambda: worker.waiting)
    [question] = worker.take(8)
    assert question.jpeg == jpeg
    worker.answer({question.id: detections((1, 2, 30, 40, 0.9, 2))}, "big")
    verdict = edge.receive(Verdict)[0]
    assert (verdict.camera, verdict.boot, verdict.seq, verdict.teacher) == (CAMERA, "boot-1", 7, "big")
    assert running.stored() == 0, "it is no frame of the pool"


def test_only_an_edge_that_knows_of_it_is_told_that_it_may_ask_and_by_default_none_is(start: Start) -> None:
    speaking = msgspec.structs.replace(hello(), speaks=SPEAKS)
    running = start(labelling={"verdicts_per_minute": 5})
    edge = running.edge()
    assert not edge.ask(hello(), Welcome).verdicts, "one of 0.2 refuses fields that it does not know"
    assert edge.ask(speaking, Welcome).verdicts
    edge.send(Escalate("yard", "boot-1", 7, 1.8e9, 2.0, "yard-1", 64, 48), hard_frame(1)[1])
    assert edge.receive(Refused)[0].reason.startswith("not-your-camera")


def test_a_service_that_answers_nobody_says_so(start: Start) -> None:
    edge = start().edge()
    assert not edge.ask(msgspec.structs.replace(hello(), speaks=SPEAKS), Welcome).verdicts


def test_every_beat_is_answered_with_the_window_so_that_an_idle_link_is_heard(start: Start) -> None:
    edge = start().edge()
    welcome = edge.ask(hello(), Welcome)
    for _ in range(3):
        assert edge.ask(Heartbeat("boot-1", [camera_state()]), Welcome) == welcome


def test_the_latest_counters_of_each_camera_are_kept(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(camera_state(seen=1)), Welcome)
    edge.send(Heartbeat("boot-1", [camera_state(seen=2)]))
    wait_until(lambda: (state := running.cloud.roster.rows()[0].state) is not None and state.seen == 2)
    wait_until(lambda: running.metrics.total("edges_connected") == 1)


def test_what_students_take_and_miss_is_a_series_of_the_cloud_too(start: Start) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(camera_state(seen=1000, inferred=50, dropped={"newer": 950})), Welcome)
    edge.send(Heartbeat("boot-1", [camera_state(seen=1100, inferred=55, dropped={"newer": 1045})]))
    wait_until(lambda: running.metrics.total("frames_missed", camera=CAMERA) == 95)
    assert running.metrics.total("frames_taken", camera=CAMERA) == 5
    edge.send(Heartbeat("boot-2", [camera_state(seen=20, inferred=1, dropped={"newer": 19})]))  # it was started anew
    wait_until(lambda: running.metrics.total("frames_missed", camera=CAMERA) == 114)


def test_a_camera_that_falls_silent_shows_on_the_clouds_own_metrics(start: Start, tmp_path: Path) -> None:
    before = CloudState(tmp_path)
    secret = before.enroll()
    before.roster.heard({CAMERA: camera_state()}, before.clock.now() - 1000)
    before.close()
    running = start()
    metrics = running.metrics
    wait_until(lambda: metrics.total("camera_heard_seconds", camera=CAMERA) >= 1000)
    assert metrics.total("camera_live", camera=CAMERA) == 0
    edge = running.connect(secret)
    edge.ask(hello(camera_state()), Welcome)
    wait_until(lambda: metrics.total("camera_live", camera=CAMERA) == 1)
    assert metrics.total("camera_heard_seconds", camera=CAMERA) < 100
    edge.send(Heartbeat("boot-1", [camera_state(state="frozen")]))
    wait_until(lambda: metrics.total("camera_live", camera=CAMERA) == 0)
    running.cloud.roster.revoke("edge-1")
    wait_until(lambda: not metrics.by("camera", "camera_live"))
    assert not metrics.by("camera", "camera_heard_seconds"), "nobody waits for it"


def test_of_many_cameras_the_sum_is_exported_and_the_longest_silence(start: Start, tmp_path: Path) -> None:
    before = CloudState(tmp_path)
    before.enroll("ramp", edge="edge-2")
    before.roster.heard({"ramp": camera_state("ramp")}, before.clock.now() - 1000)
    before.close()
    running = start(merged=True)
    metrics = running.metrics
    edge = running.edge("gate", "yard")
    edge.ask(hello(camera_state("gate"), camera_state("yard")), Welcome)
    frames = [hard_frame(1, camera="gate"), hard_frame(2, camera="yard")]
    for frame, jpeg in frames:
        edge.ask(frame, Ack, payload=jpeg)
    sizes = sum(len(jpeg) for _, jpeg in frames)
    wait_until(
        lambda: metrics.total("store_bytes", camera=ALL) >= sizes and metrics.total("camera_live", camera=ALL) == 2
    )
    assert metrics.total("frames_stored", camera=ALL) == 2
    assert metrics.total("camera_heard_seconds", camera=ALL) >= 1000
    assert metrics.by("camera", "store_bytes").keys() == metrics.by("camera", "camera_live").keys() == {ALL}
    running.cloud.roster.revoke("edge-2")
    wait_until(lambda: metrics.total("camera_heard_seconds", camera=ALL) < 100)
    assert metrics.total("camera_live", camera=ALL) == 2, "one that was revoked is none of those that are live"


# Several ingests on one index


class Two:
    """Two ingests on one index, and the edge of one camera, which may speak to either."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudState(folder)
        self.secret = self.cloud.enroll()
        self.metrics = [Metrics(CollectorRegistry(), "cloud") for _ in range(2)]
        self.ingests = [self._ingest(metrics) for metrics in self.metrics]
        self.edges: list[Edge] = []
        for one in self.ingests:
            one.start()

    def _ingest(self, metrics: Metrics) -> Ingest:
        cloud = self.cloud
        words = Words(cloud.index, cloud.clock)
        known = (cloud.settings, cloud.keys.curve_secret, cloud.index, cloud.frames, cloud.files)
        return Ingest(*known, metrics, cloud.clock, words)

    def connect(self, number: int) -> Edge:
        edge = Edge(self.ingests[number].endpoint, self.cloud.keys.curve_public, self.secret)
        self.edges.append(edge)
        return edge

    def knows(self, number: int, seen: int) -> bool:
        """Whether an ingest knows that the camera has seen so much."""
        word = self.ingests[number].latest.get(CAMERA)
        return word is not None and word[0].seen == seen

    def total(self, name: str) -> float:
        return sum(metrics.total(name, camera=CAMERA) for metrics in self.metrics)

    def close(self) -> None:
        for edge in self.edges:
            edge.close()
        for one in self.ingests:
            one.stop()
            assert one.failure is None
        self.cloud.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = Two(tmp_path)
    yield made
    made.close()


def said(seen: int, inferred: int, **changes: Any) -> CameraState:
    return camera_state(seen=seen, inferred=inferred, dropped={"newer": seen - inferred}, **changes)


def test_what_a_camera_counted_is_counted_once_whichever_ingest_it_told(two: Two) -> None:
    first = two.connect(0)
    first.ask(hello(said(100, 10)), Welcome)
    wait_until(lambda: two.knows(1, 100))
    first.close()
    second = two.connect(1)
    second.ask(hello(said(200, 30)), Welcome)
    wait_until(lambda: two.knows(0, 200))
    second.close()
    back = two.connect(0)
    back.ask(hello(said(260, 36)), Welcome)
    wait_until(lambda: two.knows(1, 260))
    assert (two.total("frames_taken"), two.total("frames_missed")) == (26, 134)
    assert [two.cloud.roster.require(CAMERA).state] == [said(260, 36)]


def test_both_ingests_show_that_a_camera_is_live_and_one_of_them_its_edge(two: Two) -> None:
    first = two.connect(0)
    first.ask(hello(said(100, 10)), Welcome)
    wait_until(lambda: all(metrics.total("camera_live", camera=CAMERA) == 1 for metrics in two.metrics))
    first.close()
    second = two.connect(1)
    second.ask(hello(said(200, 30)), Welcome)
    wait_until(lambda: [metrics.total("edges_connected") for metrics in two.metrics] == [0, 1])


def test_an_ingest_that_an_edge_left_asks_for_nothing_in_its_name(two: Two) -> None:
    for tag in "ab":
        two.cloud.publisher.publish(CAMERA, two.cloud.artefact(tag=tag), "round")
    first = two.connect(0)
    first.send(hello(said(100, 10, model_id="gate-1")))
    first.receive(ModelOffer)
    first.close()
    second = two.connect(1)
    second.ask(hello(said(200, 30, model_id="gate-2")), Welcome)
    wait_until(lambda: two.knows(0, 200))
    assert CAMERA not in two.ingests[0]._offers._states


def test_the_last_word_is_kept_when_an_ingest_stops(tmp_path: Path) -> None:
    two = Two(tmp_path)
    edge = two.connect(0)
    edge.ask(hello(said(100, 10)), Welcome)
    two.close()
    with Index(two.cloud.settings.store_url).read() as connection:
        assert b'"seen":100' in connection.execute(sa.select(cameras.c.state)).scalar_one().encode()


# Models


def test_a_camera_that_runs_another_model_is_offered_its_own_at_hello(start: Start) -> None:
    running = start()
    edge = running.edge()
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(), "base")
    edge.send(hello(camera_state(model_id="none")))
    offer, _ = edge.receive(ModelOffer)
    public = running.cloud.keys.signing.public_key()
    manifest = verify(offer.manifest, Trust({key_id(public): public}, CAMERA), time.time())
    assert manifest.model_id == "gate-1"


def test_a_camera_that_runs_its_live_model_is_offered_nothing(start: Start) -> None:
    running = start()
    edge = running.edge()
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(), "base")
    wait_until(lambda: running.ingest._offers._live == {CAMERA: "gate-1"})
    edge.ask(hello(camera_state(model_id="gate-1")), Welcome)
    with pytest.raises(AssertionError, match="none of"):
        edge.receive(ModelOffer, within_s=1.5)


def test_a_new_model_is_offered_right_after_it_was_published(start: Start) -> None:
    running = start()
    edge = running.edge()
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(tag="a"), "base")
    edge.ask(hello(camera_state(model_id="gate-1")), Welcome)
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(tag="b"), "round")
    offer, _ = edge.receive(ModelOffer, within_s=4)
    assert offer.camera == CAMERA


def test_an_offer_that_is_not_taken_is_repeated(start: Start) -> None:
    running = start(publish={"reoffer_s": 0.1})
    edge = running.edge()
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(), "base")
    edge.send(hello(camera_state(model_id="none")))
    for _ in range(3):
        edge.receive(ModelOffer)


def test_a_model_gone_back_to_that_is_not_taken_is_to_be_signed_anew(start: Start) -> None:
    running = start(publish={"reoffer_s": 0.1})
    edge, cloud = running.edge(), running.cloud
    for tag in "ab":
        cloud.publisher.publish(CAMERA, cloud.artefact(tag=tag), "round")
    cloud.registry.withdraw(CAMERA, "gate-2", "rejected")
    edge.send(hello(camera_state(model_id="none")))
    for _ in range(3):
        edge.receive(ModelOffer)
    wait_until(lambda: bool(cloud.requests.open()))
    edge.receive(ModelOffer)
    assert [(request.kind, request.camera) for request in cloud.requests.open()] == [("renew", CAMERA)]


def test_a_model_whose_signature_has_expired_is_to_be_signed_anew(start: Start) -> None:
    running = start()
    edge, cloud = running.edge(), running.cloud
    artefact = cloud.artefact()
    Publisher(cloud.index, cloud.files, cloud.keys.signing, 1e-9, cloud.clock).publish(CAMERA, artefact, "base")
    edge.ask(hello(camera_state(model_id="none")), Welcome)
    wait_until(lambda: bool(cloud.requests.open()))
    assert [(request.kind, request.camera) for request in cloud.requests.open()] == [("renew", CAMERA)]
    cloud.publisher.renew(CAMERA)
    beat = Heartbeat("boot-1", [camera_state(model_id="none")])
    offers = iter(lambda: edge.receive(ModelOffer, beat=beat)[0].manifest, None)
    public = cloud.keys.signing.public_key()
    trust = Trust({key_id(public): public}, CAMERA, 1, artefact.sha256)
    assert next(offer for offer in offers if authentic(offer, trust).counter == 2)


def test_a_model_that_is_good_for_long_is_not_signed_anew(start: Start) -> None:
    running = start(publish={"reoffer_s": 0.1})
    edge = running.edge()
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(), "base")
    edge.send(hello(camera_state(model_id="none")))
    for _ in range(3):
        edge.receive(ModelOffer)
    assert running.cloud.requests.open() == []


def test_a_model_is_fetched_piece_by_piece_and_whole(start: Start) -> None:
    running = start()
    edge = running.edge()
    data = np.random.default_rng(0).bytes(600_000)
    artefact = running.cloud.artefact()
    sha256 = running.cloud.files.add(data, "onnx")
    changed = msgspec.structs.replace(artefact, sha256=sha256, size=len(data))
    model = running.cloud.publisher.publish(CAMERA, changed, "base")
    transfer, got = Transfer(CAMERA, model.model_id, len(data)), b""
    while (request := transfer.request(0.0)) is not None:
        edge.send(request)
        chunk, payload = edge.receive(ModelChunk)
        got += transfer.accept(chunk, payload or b"")
    assert hashlib.sha256(got).hexdigest() == sha256
    public = running.cloud.keys.signing.public_key()
    verify_model(verify(model.manifest, Trust({key_id(public): public}, CAMERA), time.time()), got)


@pytest.mark.parametrize(
    ("model_id", "offset", "reason"), [("gate-9", 0, "unknown-model"), ("gate-1", 10**8, "beyond-total")]
)
def test_a_piece_that_is_not_there_is_refused(start: Start, model_id: str, offset: int, reason: str) -> None:
    running = start()
    edge = running.edge()
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(), "base")
    assert edge.ask(ModelRequest(CAMERA, model_id, offset, 100), Refused).reason.startswith(reason)


def test_a_damaged_model_is_taken_back_and_the_one_before_offered(start: Start) -> None:
    running = start()
    edge = running.edge()
    running.cloud.publisher.publish(CAMERA, running.cloud.artefact(tag="a"), "base")
    second = running.cloud.publisher.publish(CAMERA, running.cloud.artefact(tag="b"), "round")
    running.cloud.files.path(second.artefact.sha256, "onnx").write_bytes(b"rot")
    assert edge.ask(ModelRequest(CAMERA, "gate-2", 0, 100), Refused).reason.startswith("model-damaged")
    assert running.cloud.registry.live_ids() == {CAMERA: "gate-1"}
    edge.send(hello(camera_state(model_id="none")))
    assert edge.receive(ModelOffer)[0].camera == CAMERA


def swap(outcome: Any, model_id: str = "gate-2") -> SwapReport:
    return SwapReport(CAMERA, model_id, "gate-1", outcome, "because", 40.0, 1_800_000_000.0)


def test_a_swap_that_went_well_is_kept_with_its_lag(start: Start) -> None:
    running = start()
    edge = running.edge()
    cloud = running.cloud
    cloud.publisher.publish(CAMERA, cloud.artefact(tag="a"), "base")
    turn = cloud.rounds.start(CAMERA, "manual", 1.0)
    cloud.rounds.end(turn.id, "ready", {"newest_capture": 1_800_000_000.0 - 90}, "", None)
    cloud.publisher.publish_round(turn.id, CAMERA, cloud.artefact(tag="b"))
    for _ in range(2):
        edge.send(swap("live"))
    edge.ask(hello(), Welcome)
    assert cloud.registry.swaps()["gate/gate-2"].gap_ms == 40.0
    assert running.metrics.total("swap_reports", camera=CAMERA, outcome="live") == 1
    assert cloud.registry.live_ids() == {CAMERA: "gate-2"}


@pytest.mark.parametrize("outcome", ["rejected", "rolled-back"])
def test_a_model_that_the_edge_refused_is_live_no_more(start: Start, outcome: str) -> None:
    running = start()
    edge = running.edge()
    for tag in "ab":
        running.cloud.publisher.publish(CAMERA, running.cloud.artefact(tag=tag), "round")
    edge.send(swap(outcome))
    edge.ask(hello(camera_state(model_id="gate-1")), Welcome)
    assert running.cloud.registry.live_ids() == {CAMERA: "gate-1"}


def test_a_message_that_trips_ingest_costs_itself_alone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()
    edge = running.edge()
    registry = running.ingest._registry
    monkeypatch.setattr(registry, "report", lambda *_: 1 / 0)
    edge.send(SwapReport(CAMERA, f"{CAMERA}-1", None, "live", "", 1.0, 1.0))
    assert edge.ask(hello(camera_state()), Welcome)
    frame, jpeg = hard_frame(1)
    assert edge.ask(frame, Ack, payload=jpeg)
    assert running.series.get_sample_value("culling_items_failed_total", {"loop": "ingest"}) == 1


def test_an_edge_is_answered_while_the_index_is_read(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    reads, over, members = threading.Event(), threading.Event(), Roster.members

    def slowly(roster: Roster) -> Members:
        reads.set()
        over.wait()
        return members(roster)

    monkeypatch.setattr(Roster, "members", slowly)
    assert reads.wait(LONG_S)
    try:
        assert edge.ask(Heartbeat("boot-1", [camera_state(seen=7)]), Welcome)
        frame, jpeg = hard_frame(1)
        assert edge.ask(frame, Ack, payload=jpeg)
    finally:
        over.set()
    wait_until(lambda: (state := running.cloud.roster.rows()[0].state) is not None and state.seen == 7)


def test_words_that_could_not_be_written_are_written_later(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()
    edge = running.edge()
    failed, heard = threading.Event(), Roster.heard

    def fails_once(roster: Roster, *words: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise StorageError("the disk is gone")
        heard(roster, *words)

    monkeypatch.setattr(Roster, "heard", fails_once)
    edge.ask(hello(camera_state(seen=7)), Welcome)
    wait_until(failed.is_set)
    wait_until(lambda: (state := running.cloud.roster.rows()[0].state) is not None and state.seen == 7)
    wait_until(lambda: running.ingest.problem == "")


def test_a_revoked_edge_is_refused_though_nothing_can_be_written(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StorageError("the disk is full")

    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    monkeypatch.setattr(Roster, "heard", full)
    edge.ask(Heartbeat("boot-1", [camera_state(seen=7)]), Welcome)
    wait_until(lambda: "full" in running.ingest.problem)
    running.cloud.roster.revoke("edge-1")
    wait_until(lambda: not running.ingest._members.cameras)
    assert edge.ask(Heartbeat("boot-1", [camera_state(seen=8)]), Refused)


def test_an_edge_that_was_enrolled_while_the_index_was_read_stays_known(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    running.edge("yard", name="edge-0").ask(hello(camera_state("yard")), Welcome)
    reads, over, members = threading.Event(), threading.Event(), Roster.members

    def slowly(roster: Roster) -> Members:
        found = members(roster)
        if threading.current_thread().name.startswith("ingest-index"):
            reads.set()
            over.wait(LONG_S)
        return found

    monkeypatch.setattr(Roster, "members", slowly)
    assert reads.wait(LONG_S)
    known: list[int] = []
    learn = running.ingest._learn

    def note(reading: Reading) -> None:
        learn(reading)
        known.append(len(running.ingest._members.names))

    monkeypatch.setattr(running.ingest, "_learn", note)
    running.edge().ask(hello(), Welcome)
    over.set()
    wait_until(lambda: bool(known))
    assert known[0] == 2


def test_the_last_words_are_written_at_the_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()
    edge = running.edge()
    edge.ask(hello(), Welcome)
    monkeypatch.setattr(ingest, "TICK_S", 1e9)
    edge.ask(Heartbeat("boot-1", [camera_state(seen=8)]), Welcome)
    running.ingest.stop()
    (row,) = running.cloud.roster.rows()
    assert row.state is not None
    assert row.state.seen == 8


def test_a_disk_at_its_reserve_is_a_problem_that_passes(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start(service={"reserve_bytes": 1 << 20})
    free = iter([0])
    monkeypatch.setattr("culling.cloud.link.readings.free_bytes", lambda _: next(free, 1 << 40))
    wait_until(lambda: "reserve" in running.ingest.problem)
    wait_until(lambda: running.ingest.problem == "")


@pytest.mark.fault
def test_a_bucket_that_dies_in_a_put_has_nothing_acknowledged_and_its_frame_is_sent_again_and_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    (tmp_path / "s3").mkdir()
    with closing(S3(tmp_path / "s3", free_port())) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        running = start(store={"objects": s3.make("yard")})
        with closing(Fleet(running.cloud, running.ingest.endpoint, 1)) as fleet:
            [edge] = fleet.edges
            fleet.run(lambda: edge.greeted)
            s3.err("50")
            edge.make()
            fleet.run(lambda: any("/frames/" in line for line in s3.waiting()))
            s3.kill()  # it has the picture, and has not said so
            fleet.run(lambda: bool(edge.busy))
            assert (edge.acked, edge.given_up, running.stored()) == ([], {}, 0)
            s3.err("")
            s3.start()
            fleet.run(fleet.drained)
            assert (edge.acked, edge.given_up, running.stored()) == ([1], {}, 1)
            bucket = open_objects(running.cloud.settings.store.objects, running.cloud.data_dir)
            assert len(list(bucket.list("frames"))) == 1
