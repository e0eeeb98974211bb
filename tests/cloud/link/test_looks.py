from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.link.looks import LOOKS_S, RENEW_S, Looks, Sight
from culling.cloud.store.index import Index, looks
from support.cloud import CloudState

SIGHT = Sight(90.0, 91.0, "gate-1", 1920, 1080, b"boxes", b"jpeg")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    state = CloudState(tmp_path)
    yield state.index
    state.close()


def test_whoever_asks_looks_for_a_while(index: Index) -> None:
    subject = Looks(index)
    assert subject.until() == {}
    assert subject.look("gate", 100.0) is None
    assert subject.until() == {"gate": 100.0 + LOOKS_S}


def test_the_newest_picture_is_given_to_all_who_look(index: Index) -> None:
    subject = Looks(index)
    subject.look("gate", 100.0)
    subject.keep({"gate": SIGHT}, 101.0)
    assert subject.look("gate", 101.5) == Looks(index).look("gate", 101.5) == SIGHT
    newer = Sight(92.0, 93.0, "gate-2", 640, 480, None, b"other")
    subject.keep({"gate": newer}, 102.0)
    assert subject.look("gate", 102.5) == newer
    with index.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(looks)).scalar() == 1


def test_a_look_is_renewed_only_when_it_is_about_to_end(index: Index) -> None:
    subject = Looks(index)
    subject.look("gate", 100.0)
    subject.look("gate", 100.0 + LOOKS_S - RENEW_S - 0.1)
    assert subject.until() == {"gate": 100.0 + LOOKS_S}
    subject.look("gate", 100.0 + LOOKS_S - RENEW_S + 0.1)
    assert subject.until()["gate"] > 100.0 + LOOKS_S


def test_a_picture_goes_when_nobody_looks_any_more(index: Index) -> None:
    subject = Looks(index)
    subject.look("gate", 100.0)
    subject.look("yard", 104.0)
    subject.keep({"gate": SIGHT, "yard": SIGHT}, 101.0)
    subject.keep({}, 106.0)
    assert subject.until().keys() == {"yard"}
    assert subject.look("yard", 106.0) == SIGHT


def test_who_comes_later_sees_no_picture_of_before(index: Index) -> None:
    subject = Looks(index)
    subject.look("gate", 100.0)
    subject.keep({"gate": SIGHT}, 101.0)
    assert subject.look("gate", 200.0) is None, "no ingest has cleared it away yet"
    assert subject.look("gate", 200.5) is None


def test_a_picture_of_a_camera_that_nobody_looks_at_is_not_kept(index: Index) -> None:
    subject = Looks(index)
    subject.keep({"gate": SIGHT}, 100.0)
    assert subject.until() == {}
