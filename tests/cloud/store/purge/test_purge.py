from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from culling.cloud.labelling.escalated import Escalated
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.history import History, read
from culling.cloud.store.index import frames
from culling.cloud.store.purge.audit import AUDIT
from culling.cloud.store.purge.purge import purge
from culling.common.errors import InputError
from culling.common.wire.manifest import Golden
from culling.common.wire.messages import WireDetections
from culling.common.wire.protocol import frame_id
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state, captured, detections, hard_frame, held_out
from support.stored import split

NOW = captured(1000)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    state.enroll(CAMERA, "yard")
    yield state
    state.close()


def add(cloud: CloudState, seq: int, camera: str = CAMERA) -> str:
    frame, jpeg = hard_frame(seq, camera, boot=camera)
    return cloud.frames.add("e" * 40, frame, jpeg)


def names(cloud: CloudState) -> dict[str, str]:
    with cloud.index.read() as connection:
        query = sa.select(frames.c.id, frames.c.camera).where(frames.c.state == "stored")
        return {row.id: row.camera for row in connection.execute(query)}


def files(cloud: CloudState) -> list[str]:
    return sorted(f"{path.parent.name}" for path in cloud.data_dir.rglob("*.jpg"))


def test_a_purge_removes_rows_pictures_labels_quarantine_and_history_of_that_camera_alone(cloud: CloudState) -> None:
    for seq in (1, 2, 3):
        add(cloud, seq)
        add(cloud, seq, "yard")
    first, second, _ = cloud.frames.select(CAMERA, sa.true(), frames.c.captured.asc(), None)
    cloud.lifecycle.label({second.id: detections((1, 1, 9, 9, 0.9, 0))})
    cloud.frames.put_aside(first)
    nameless = cloud.data_dir / "corrupt" / "old.jpg"
    nameless.write_bytes(b"no record")
    minute = int(NOW // 60)
    history = History(cloud.index, {})
    history.record({CAMERA: camera_state(), "yard": camera_state("yard")}, minute)

    done = purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)

    assert (done.rows, done.pictures, done.labels, done.history, done.unreadable) == (3, 3, 1, 1, 1)
    assert set(names(cloud).values()) == {"yard"}
    assert files(cloud) == ["corrupt", "yard", "yard", "yard"]
    assert list(read(cloud.index, 0, minute + 1)) == ["yard"]


def test_the_audit_log_says_who_when_what_and_how_many_to_its_owner_alone(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "culling")
    monkeypatch.setenv("SUDO_USER", "ada")
    add(cloud, 1)
    purge(cloud.index, cloud.data_dir, CAMERA, captured(500), NOW)
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    log = cloud.data_dir / AUDIT
    began, one, _, other = map(json.loads, log.read_text().splitlines())
    assert (began["at"], began["event"], began["camera"]) == (one["at"], "camera_purge_began", CAMERA)
    assert (one["at"], one["event"], one["camera"]) == ("2027-01-15T08:16:40+00:00", "camera_purged", CAMERA)
    assert (one["user"], one["sudo_user"], one["host"]) == ("culling", "ada", socket.gethostname())
    assert (one["before"], one["rows"], one["pictures"]) == ("2027-01-15T08:08:20+00:00", 1, 1)
    assert (other["before"], other["rows"]) == (None, 0)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_purge_before_a_date_keeps_what_came_since(tmp_path: Path, cloud: CloudState) -> None:
    late = FrameStore(cloud.index, cloud.data_dir / "frames", At(NOW), 1.0)
    for seq in (1, 2, 3):
        frame, jpeg = hard_frame(seq)
        late.add("e" * 40, frame, jpeg)
    assert purge(cloud.index, cloud.data_dir, CAMERA, captured(3), NOW).rows == 2
    assert [frame.captured for frame in late.select(CAMERA, sa.true(), frames.c.captured.asc(), None)] == [captured(3)]
    assert files(cloud) == [CAMERA]


def test_of_a_purged_frame_only_its_name_is_left_and_a_repeat_is_answered_and_not_stored(cloud: CloudState) -> None:
    frame, jpeg = hard_frame(1, boot=CAMERA)
    add(cloud, 1)
    name = frame_id("e" * 40, frame.boot, 1)
    cloud.lifecycle.label({name: detections((1, 1, 9, 9, 0.9, 0))})
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    with cloud.index.read() as connection:
        row = connection.execute(frames.select()).one()
    assert (row.id, row.state, row.seq, row.sha256) == (name, "purged", 1, frame.sha256)
    assert (row.captured, row.loss, row.model_id, row.detections, row.labels) == (0, 0, "", None, None)
    cloud.lifecycle.label({name: detections((1, 1, 9, 9, 0.9, 0))})  # by a round that still had it in hand
    with cloud.index.read() as connection:
        assert connection.execute(sa.select(frames.c.labels)).scalar() is None
    assert cloud.frames.known([name]) == {name: frame.sha256}  # as `ingest` asks before it stores
    assert cloud.frames.add("e" * 40, frame, jpeg) in ("purged", "duplicate")
    assert files(cloud) == []


def test_a_frame_held_out_is_purged_too(cloud: CloudState) -> None:
    seq = next(seq for seq in range(1, 100) if held_out(seq))
    add(cloud, seq)
    assert cloud.frames.counts()[CAMERA].asking_judges == 1
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    assert CAMERA not in cloud.frames.counts()
    assert files(cloud) == []


def test_what_its_edge_asked_the_teacher_about_goes_too(cloud: CloudState) -> None:
    add(cloud, 1)
    escalated = Escalated(cloud.index, cloud.clock)
    for camera in (CAMERA, "yard"):
        escalated.ask(camera, "boot-1", 1, "a" * 64, b"jpeg", ("car",), 60.0)
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    assert [one.camera for one in escalated.take(8)] == ["yard"]


def test_nothing_of_a_purged_picture_is_left_in_any_file(cloud: CloudState) -> None:
    frame, jpeg = hard_frame(1, boot=CAMERA, found=detections((1, 2, 33, 44, 0.9, 0)))
    cloud.frames.add("e" * 40, frame, jpeg)
    traces = (jpeg, msgspec.msgpack.encode(frame.detections))
    everything = lambda: b"".join(path.read_bytes() for path in cloud.data_dir.rglob("*") if path.is_file())  # noqa: E731
    assert all(trace in everything() for trace in traces)
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    assert not any(trace in everything() for trace in traces)


def test_models_out_of_use_lose_their_picture_and_those_in_use_are_told_of(cloud: CloudState) -> None:
    golden = (Golden(b"a picture", WireDetections(b"", b"", b"")),)
    for seed in (1, 2, 3):
        cloud.publisher.publish(CAMERA, msgspec.structs.replace(cloud.artefact(tag=str(seed)), golden=golden), "manual")
    assert purge(cloud.index, cloud.data_dir, CAMERA, None, NOW).models == 2
    assert [bool(model.artefact.golden) for model in cloud.registry.models(CAMERA)] == [True, True, False]
    assert purge(cloud.index, cloud.data_dir, CAMERA, None, NOW).models == 2


def test_a_later_model_loses_a_picture_that_may_be_of_before(tmp_path: Path) -> None:
    """Frames come as they are captured; the picture of a model is the newest that was held out when it was made."""
    clock = FakeClock()
    cloud = CloudState(tmp_path, clock)
    cloud.enroll()
    first, second = split(60)[1][:2]

    def publish(at: float, picture: bytes) -> None:
        clock.step(at - clock.now())
        golden = (Golden(picture, WireDetections(b"", b"", b"")),)
        artefact = msgspec.structs.replace(cloud.artefact(tag=str(at)), golden=golden)
        cloud.publisher.publish(CAMERA, artefact, "manual")

    clock.step(captured(first) + 1 - clock.now())
    add(cloud, first)
    publish(captured(first) + 1.2, b"of the first")
    until = captured(first) + 1.5
    publish(captured(first) + 2, b"of the first")  # the same picture, in a model of after the purge's time
    clock.step(captured(second) + 1 - clock.now())
    add(cloud, second)
    publish(captured(second) + 2, b"of the second")
    publish(captured(second) + 3, b"of the second")
    told = purge(cloud.index, cloud.data_dir, CAMERA, until, captured(second) + 4)
    assert told.models == 0
    pictures = [[one.jpeg for one in model.artefact.golden] for model in cloud.registry.models(CAMERA)]
    assert pictures == [[b"of the second"], [b"of the second"], [], []]
    assert purge(cloud.index, cloud.data_dir, CAMERA, captured(second) + 5, captured(second) + 6).models == 2
    cloud.close()


def test_a_removed_camera_leaves_no_model_and_no_word_of_its_round(cloud: CloudState) -> None:
    cloud.publisher.publish(CAMERA, cloud.artefact(), "manual")
    turn = cloud.rounds.start(CAMERA, "asked", NOW)
    cloud.rounds.save_stage(turn.id, "label", {"frames": 3})
    cloud.roster.remove(CAMERA, NOW)
    cloud.rounds.save_stage(turn.id, "export", {"golden": "a picture"})  # by its process, which has not ended yet
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW + 1)
    assert cloud.registry.models(CAMERA) == []
    left = cloud.rounds.get(turn.id)
    assert (left.state, left.reason, left.stages, left.report) == ("failed", "the camera was removed", {}, {})


def test_what_a_spool_or_a_file_brings_back_later_is_refused(cloud: CloudState) -> None:
    add(cloud, 1)
    kept = next((cloud.data_dir / "frames" / CAMERA).glob("*.jpg"))
    data = kept.read_bytes()
    purge(cloud.index, cloud.data_dir, CAMERA, captured(5), NOW)
    assert [add(cloud, seq) for seq in (1, 4, 5)] == ["purged", "purged", "stored"]
    kept.write_bytes(data)  # as if the purge had been cut short between rows and files
    cloud.frames.reconcile()
    assert not kept.exists()
    assert files(cloud) == [CAMERA]


def test_a_purge_that_was_cut_short_is_finished_by_another(cloud: CloudState) -> None:
    add(cloud, 1)
    path = next((cloud.data_dir / "frames" / CAMERA).glob("*.jpg"))
    data = path.read_bytes()
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    path.write_bytes(data)
    assert purge(cloud.index, cloud.data_dir, CAMERA, None, NOW).pictures == 1
    assert not path.exists()


@pytest.mark.parametrize(("camera", "before"), [("nothing", None), (CAMERA, NOW + 1)])
def test_a_purge_that_makes_no_sense_deletes_nothing(cloud: CloudState, camera: str, before: float | None) -> None:
    add(cloud, 1)
    with pytest.raises(InputError):
        purge(cloud.index, cloud.data_dir, camera, before, NOW)
    assert files(cloud) == [CAMERA]


class At:
    """A clock that stands still."""

    def __init__(self, at: float) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    monotonic = now


def test_a_purge_leaves_nothing_of_what_students_found(cloud: CloudState) -> None:
    seen = detections((1, 2, 30, 40, 0.9, 0))
    add(cloud, 1)
    add(cloud, 2, "yard")
    gone, stays = frame_id("e" * 40, CAMERA, 1), frame_id("e" * 40, "yard", 2)
    cloud.lifecycle.score("gate-1", {gone: seen, stays: seen})
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    cloud.lifecycle.score("gate-2", {gone: seen})  # by a round that was running
    assert set(cloud.lifecycle.scores("gate-1")) == {stays}
    assert not cloud.lifecycle.scores("gate-2")
