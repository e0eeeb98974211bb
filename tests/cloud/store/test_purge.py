from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.store.frames import FrameStore
from culling.cloud.store.history import History, read
from culling.cloud.store.index import frames
from culling.cloud.store.purge import AUDIT, purge
from culling.common.errors import InputError
from support.cloud import CAMERA, CloudState, camera_state, captured, detections, hard_frame

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
        return dict(connection.execute(sa.select(frames.c.id, frames.c.camera)).tuples().all())


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


def test_the_audit_log_says_when_what_and_how_many_to_its_owner_alone(cloud: CloudState) -> None:
    add(cloud, 1)
    purge(cloud.index, cloud.data_dir, CAMERA, captured(500), NOW)
    purge(cloud.index, cloud.data_dir, CAMERA, None, NOW)
    log = cloud.data_dir / AUDIT
    one, other = map(json.loads, log.read_text().splitlines())
    assert (one["at"], one["event"], one["camera"]) == ("2027-01-15T08:16:40+00:00", "camera_purged", CAMERA)
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
