from __future__ import annotations

from pathlib import Path

from culling.cloud.control.said import EVERY_S, Said, Saying
from culling.cloud.labelling.state import say_problem
from culling.cloud.page import views
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import notes
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState
from support.databases import Databases
from support.postgres import Postgres


def apart(cloud: CloudState, folder: Path) -> CloudSettings:
    """Return the settings of a process whose data folder is empty, while all share index and bytes."""
    shared = cloud.settings.store.model_copy(update={"url": "postgresql:", "objects": "s3://bucket"})
    service = cloud.settings.service.model_copy(update={"data_dir": folder})
    return cloud.settings.model_copy(update={"store": shared, "service": service})


def test_a_page_apart_from_control_shows_what_its_processes_say(tmp_path: Path, postgres: Postgres) -> None:
    clock = FakeClock()
    with Databases(postgres).in_use():
        cloud = CloudState(tmp_path, clock)
        cloud.enroll()
        here, there = apart(cloud, cloud.data_dir), apart(cloud, tmp_path / "none")
        turn = cloud.rounds.start(CAMERA, "manual", 1.0)
        folder = cloud.data_dir / "rounds" / str(turn.id)
        folder.mkdir(parents=True)
        writer = ProgressWriter(folder, clock.now)
        writer.stage("train")
        say_problem(cloud.data_dir, "the teacher cannot be loaded")
        saying = Saying(cloud.index, here, clock)
        saying.advance()
        said = Said(cloud.index, there)
        assert said.problem == "the teacher cannot be loaded"
        assert views.running_rounds(cloud.index, said)[CAMERA]["stage"] == "train"
        say_problem(cloud.data_dir, "")
        cloud.rounds.end(turn.id, "failed", {}, "", 2.0)
        saying.advance()
        assert Said(cloud.index, there).problem, "it is not looked at all the time"
        clock.advance(EVERY_S)
        saying.advance()
        assert (Said(cloud.index, there).problem, Said(cloud.index, there).progress(turn.id)) == ("", None)
        cloud.close()


def test_one_service_on_its_own_writes_nothing_of_it(tmp_path: Path) -> None:
    cloud = CloudState(tmp_path)
    say_problem(cloud.data_dir, "the teacher cannot be loaded")
    Saying(cloud.index, cloud.settings, cloud.clock).advance()
    with cloud.index.read() as connection:
        assert connection.execute(notes.select()).all() == []
    assert Said(cloud.index, cloud.settings).problem == "the teacher cannot be loaded"
    cloud.close()
