from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from culling.cloud.control.labels import Labels
from culling.cloud.labelling.state import say_problem
from culling.cloud.store.index import frames, leases
from culling.common.cli import main
from culling.common.metrics import Metrics
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState
from support.narrow import install
from support.postgres import Postgres
from support.rounds import QUICK, add
from support.waiting import wait_until

FRAMES = 60


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path, postgres: Postgres, bucket: str) -> Iterator[CloudState]:
    """A camera whose teacher is a narrow detector, and an index and pictures that several machines see."""
    weights = str(shutil.copy(narrow / "student.safetensors", tmp_path / "teacher.safetensors"))
    url = postgres.take()
    sections = {**QUICK, "teacher": {**QUICK["teacher"], "file": weights}, "labelling": {"per_day": 100_000}}
    state = CloudState(tmp_path, FakeClock(), **{**sections, "store": {"url": url, "objects": bucket}})
    install(narrow, state.data_dir)
    state.enroll()
    yield state
    state.close()
    postgres.give_back(url)


def on_a_machine(cloud: CloudState, name: str) -> Labels:
    """Return what a process of the role has on a machine of its own."""
    (cloud.folder / name).mkdir()
    service = cloud.settings.service.model_copy(update={"data_dir": cloud.folder / name})
    settings = cloud.settings.model_copy(update={"service": service})
    return Labels(settings, cloud.index, cloud.frames, Metrics(CollectorRegistry(), "cloud"), cloud.clock)


def labelled(cloud: CloudState) -> int:
    with cloud.index.read() as connection:
        return connection.execute(sa.select(sa.func.count()).where(frames.c.labels.is_not(None))).scalar_one()


def holders(cloud: CloudState) -> set[str]:
    with cloud.index.read() as connection:
        tokens = connection.execute(sa.select(leases.c.token)).scalars()
        return {token.partition("-")[0] for token in tokens}


@pytest.mark.timeout(300)
def test_two_machines_label_side_by_side_and_the_end_of_one_costs_the_other_nothing(cloud: CloudState) -> None:
    add(cloud, range(1, FRAMES + 1))
    one, other = on_a_machine(cloud, "one"), on_a_machine(cloud, "other")
    one.turn()
    other.turn()
    wait_until(lambda: len(holders(cloud)) == 2, 90)
    one.stop()
    assert len(holders(cloud)) <= 1, "what it had is free, and what the other has is not"
    wait_until(lambda: labelled(cloud) == FRAMES, 90)
    wait_until(lambda: not holders(cloud))
    assert cloud.frames.counts()[CAMERA].stored == FRAMES
    other.stop()


def test_what_the_worker_says_is_the_machines_problem(cloud: CloudState) -> None:
    labels = on_a_machine(cloud, "one")
    labels.turn()
    assert labels.problem == ""
    say_problem(cloud.folder / "one", "teacher.safetensors: no such file")
    assert labels.problem == "teacher.safetensors: no such file"


def test_a_database_that_is_away_is_told_and_waited_for(cloud: CloudState, postgres: Postgres) -> None:
    labels = on_a_machine(cloud, "one")
    postgres.kill()
    labels.turn()
    assert labels.problem
    postgres.start()
    assert isinstance(cloud.clock, FakeClock)
    cloud.clock.advance(10)
    labels.turn()
    assert labels.problem == ""


def test_labels_beside_control_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--role", "control", "--role", "labels", "--set", f"service.data_dir={tmp_path}"]
    assert main(["cloud", "serve", *told]) == 2
    assert "control labels by itself" in capsys.readouterr().err
