from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.store import history
from culling.cloud.store.history import COUNTS, KEEP_MINUTES, History, Looked, rise
from culling.cloud.store.index import cameras
from culling.cloud.store.index import history as table
from support.cloud import CAMERA, CloudState, camera_state

MINUTE = 30_000_000


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def sums(cloud: CloudState, first: int = MINUTE, step: int = 1) -> list[dict[str, float]]:
    return history.read(cloud.index, first, step).get(CAMERA, [])


def test_a_minute_holds_what_the_counters_rose_by(cloud: CloudState) -> None:
    past = History(cloud.index, {CAMERA: camera_state(seen=100, forwarded={"hard": 3})})
    past.record({CAMERA: camera_state(seen=160, forwarded={"hard": 5, "audit": 1}, threshold=2.5)}, MINUTE)
    (row,) = sums(cloud)
    assert (row["t"], row["seen"], row["hard"], row["audit"]) == (60 * MINUTE, 60, 2, 1)
    assert row["threshold"] == 2.5


def test_what_was_looked_at_is_told_by_model_and_of_a_span_alone(cloud: CloudState) -> None:
    past = History(cloud.index, {CAMERA: camera_state(inferred=0)})
    past.record({CAMERA: camera_state(model_id="gate-1", inferred=10, dropped={"newer": 5})}, MINUTE)
    past.record({CAMERA: camera_state(model_id="gate-1", inferred=13, dropped={"newer": 5})}, MINUTE + 1)
    past.record({CAMERA: camera_state(model_id="gate-2", inferred=20, dropped={"newer": 5})}, MINUTE + 2)
    past.record({CAMERA: camera_state(model_id="gate-2", inferred=90, dropped={"newer": 5})}, MINUTE + 3)
    assert sorted(history.looked(cloud.index, MINUTE, MINUTE + 3), key=lambda row: str(row.model)) == [
        Looked(CAMERA, "gate-1", inferred=13, came=18),
        Looked(CAMERA, "gate-2", inferred=7, came=7),
    ]
    assert history.looked(cloud.index, MINUTE, MINUTE + 3, only=["yard"]) == []


def test_a_minute_holds_what_students_took_and_missed(cloud: CloudState) -> None:
    past = History(cloud.index, {CAMERA: camera_state(inferred=10, dropped={"newer": 5})})
    past.record({CAMERA: camera_state(inferred=13, dropped={"newer": 62, "unchanged": 4, "max-fps": 9})}, MINUTE)
    (row,) = sums(cloud)
    assert (row["taken"], row["missed"], row["minutes"]) == (7, 57, 1)


def test_minutes_of_an_earlier_version_do_not_tell_what_was_missed(cloud: CloudState) -> None:
    past = History(cloud.index, {CAMERA: camera_state()})
    past.record({CAMERA: camera_state(seen=160)}, MINUTE)
    with cloud.index.write() as connection:
        connection.execute(table.update().values(taken=None, missed=None))
    assert (sums(cloud)[0]["taken"], sums(cloud)[0]["missed"]) == (0, 0)
    History(cloud.index, {CAMERA: camera_state()}).record({CAMERA: camera_state(inferred=97)}, MINUTE)
    assert sums(cloud)[0]["taken"] == 7


def test_an_agent_that_was_started_anew_counts_from_nothing(cloud: CloudState) -> None:
    past = History(cloud.index, {CAMERA: camera_state(seen=1000, forwarded={"hard": 50})})
    past.record({CAMERA: camera_state(seen=30, forwarded={"hard": 2})}, MINUTE)
    assert (sums(cloud)[0]["seen"], sums(cloud)[0]["hard"]) == (30, 2)


def test_silence_leaves_no_row_rather_than_one_of_zeros(cloud: CloudState) -> None:
    past = History(cloud.index, {})
    past.record({CAMERA: camera_state(seen=1)}, MINUTE)
    past.record({}, MINUTE + 1)
    past.record({CAMERA: camera_state(seen=9)}, MINUTE + 2)
    assert [row["t"] // 60 - MINUTE for row in sums(cloud)] == [0, 2]


def test_a_service_started_anew_within_a_minute_adds_to_it(cloud: CloudState) -> None:
    for seen in (110, 130):
        before = camera_state(seen=seen - 10)
        History(cloud.index, {CAMERA: before}).record({CAMERA: camera_state(seen=seen)}, MINUTE)
    assert [row["seen"] for row in sums(cloud)] == [20]


def test_minutes_are_summed_by_the_step_asked_for(cloud: CloudState) -> None:
    past = History(cloud.index, {CAMERA: camera_state(seen=0)})
    for minute in range(25):
        past.record({CAMERA: camera_state(seen=10 * (minute + 1))}, MINUTE + minute)
    assert [row["seen"] for row in sums(cloud, step=10)] == [100, 100, 50]
    assert [row["t"] for row in sums(cloud, step=10)] == [60 * (MINUTE + part) for part in (0, 10, 20)]


def test_it_is_bounded_to_a_week(cloud: CloudState) -> None:
    past = History(cloud.index, {})
    for minute in (MINUTE, MINUTE + 1, MINUTE + KEEP_MINUTES + 1):
        past.record({CAMERA: camera_state()}, minute)
    with cloud.index.read() as connection:
        kept = connection.execute(sa.select(table.c.minute)).scalars()
        assert set(kept) == {MINUTE + 1, MINUTE + KEEP_MINUTES + 1}


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=30))
def test_rises_add_up_to_all_that_was_counted(steps: list[tuple[int, bool]]) -> None:
    counted, now, risen = 0, dict.fromkeys(COUNTS, 0), 0
    for more, restarted in steps:
        before = now
        now = dict.fromkeys(COUNTS, more if restarted else before["seen"] + more)
        if restarted and more >= before["seen"]:  # looks like no restart at all
            counted += more - before["seen"]
        else:
            counted += more
        risen += rise(before, now)["seen"]
    assert risen == counted


def test_whichever_process_records_goes_on_from_what_was_counted(cloud: CloudState) -> None:
    cloud.enroll()
    first = History(cloud.index, {CAMERA: camera_state(seen=100)})
    first.record({CAMERA: camera_state(seen=160)}, MINUTE)
    # It dies; what the camera counts meanwhile is neither lost nor counted twice.
    second = History(cloud.index, {CAMERA: camera_state(seen=230)})
    second.record({CAMERA: camera_state(seen=260)}, MINUTE + 2)
    second.record({CAMERA: camera_state(seen=261)}, MINUTE + 3)
    assert [row["seen"] for row in sums(cloud)] == [60, 100, 1]


def test_marks_that_cannot_be_read_are_as_if_there_were_none(cloud: CloudState) -> None:
    cloud.enroll()
    for text in ("rot", '{"seen": 3}'):
        with cloud.index.write() as connection:
            connection.execute(cameras.update().values(counted=text))
        History(cloud.index, {CAMERA: camera_state(seen=100)}).record({CAMERA: camera_state(seen=107)}, MINUTE)
    assert [row["seen"] for row in sums(cloud)] == [14]
