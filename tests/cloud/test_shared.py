"""The whole service on PostgreSQL and a bucket: what was acknowledged outlives it, and a database that was killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store.migrations.steps import STEPS
from culling.common.cli import main
from culling.common.wire.messages import Ack, Nack
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, hard_frame, hello
from support.postgres import Postgres
from support.stored import everything
from support.waiting import wait_until


@pytest.fixture
def cloud(tmp_path: Path, postgres: Postgres, bucket: str) -> Iterator[CloudState]:
    url = postgres.take()
    state = CloudState(tmp_path, store={"url": url, "objects": bucket})
    yield state
    state.close()
    postgres.give_back(url)


def send(edge: Edge, *seqs: int) -> set[int]:
    """Send frames, and return those that were acknowledged, which is all but those that may come again."""
    acked = set()
    for seq in seqs:
        frame, jpeg = hard_frame(seq)
        answer = edge.ask(frame, Ack, Nack, payload=jpeg)
        assert isinstance(answer, Ack) or answer.retry
        acked |= {answer.seq} if isinstance(answer, Ack) else set()
    return acked


@pytest.mark.fault
def test_nothing_that_was_acknowledged_is_lost_or_stored_twice(cloud: CloudState, postgres: Postgres) -> None:
    secret, acked = cloud.enroll(), set()
    for turn in range(3):
        with ServiceProcess(cloud) as service:
            edge = Edge(service.endpoint, cloud.keys.curve_public, secret)
            edge.send(hello())
            acked |= send(edge, *range(4 * turn, 4 * turn + 8))  # half of them again
            if turn == 1:
                postgres.kill()
                assert send(edge, 100) == set()
                postgres.start()
                wait_until(lambda edge=edge: send(edge, 100) == {100})
            edge.close()
            service.kill()
    assert acked == set(range(16))
    stored = everything(cloud)
    assert len(stored) == len({frame.id for frame in stored}) == 17
    assert all(cloud.frames.jpeg(frame) is not None for frame in stored)
    assert cloud.frames.counts()[CAMERA].stored == 17


def test_an_index_is_made_by_the_command_that_its_refusal_names(
    tmp_path: Path, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.empty()
    of = ["--set", f"service.data_dir={tmp_path}", "--set", f"store.url={url}"]
    assert main(["cloud", "status", *of]) == 7
    assert "the database is empty: run `culling cloud migrate`" in capsys.readouterr().err
    for taken in (len(STEPS), 0):
        assert main(["cloud", "migrate", *of]) == 0
        assert f"the index took {taken} steps" in capsys.readouterr().out
    assert main(["cloud", "status", *of]) == 0
    postgres.drop(url)


def test_a_second_service_takes_frames_and_stands_by_as_control(cloud: CloudState, tmp_path: Path) -> None:
    secret = cloud.enroll()
    (tmp_path / "second").mkdir()
    key = cloud.data_dir / "keys" / "curve.secret"
    other = CloudState(tmp_path / "second", store=cloud.sections["store"], service={"curve_key_file": str(key)})
    with ServiceProcess(cloud) as first, ServiceProcess(other) as second:
        edge = Edge(second.endpoint, cloud.keys.curve_public, secret)
        edge.send(hello())
        assert send(edge, 1) == {1}
        edge.close()
        assert "control_standby" in second.log()
        first.kill()
        wait_until(lambda: "control_elected" in second.log(), 15)
    other.close()


def test_a_second_service_that_keeps_pictures_to_itself_is_refused(tmp_path: Path, postgres: Postgres) -> None:
    store = {"url": postgres.take()}
    (tmp_path / "second").mkdir()
    cloud, other = CloudState(tmp_path, store=store), CloudState(tmp_path / "second", store=store)
    with ServiceProcess(cloud), pytest.raises(AssertionError, match="another service works on that index"):
        ServiceProcess(other)
    other.close()
    cloud.close()
    postgres.give_back(store["url"])
