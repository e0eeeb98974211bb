from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.common.wire.manifest import key_id
from culling.edge.model.hotswap import State
from culling.edge.model.inbox import RETRY_S, Inbox, leave, lies
from support import tiny
from support.swapping import KEY, Rig


class Site:
    """An edge with the camera `gate`, and the words of what was refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rig = Rig(folder)
        self.rig.slot.boot()
        self.refused: list[str] = []
        keys = {key_id(KEY.public_key()): KEY.public_key()}
        self.inbox = Inbox(folder, keys, self.rig.clock, self.refused.append)

    def leave(self, shipped: tiny.Shipped, camera: str = "gate", model: bytes | None = None) -> None:
        leave(self.folder, camera, shipped.signed, shipped.model if model is None else model)

    def take(self) -> None:
        assert self.inbox.waiting
        self.inbox.take({"gate": self.rig.slot})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.rig.close()


def test_a_model_that_lies_there_goes_live_as_an_offered_one_and_nothing_is_left(site: Site) -> None:
    assert not site.inbox.waiting
    site.leave(site.rig.ship(tiny.student(tag="new")))
    site.take()
    site.rig.wait()
    site.rig.play(10)
    site.rig.wait()
    assert site.rig.slot.record.live == "gate-2"
    assert not lies(site.folder, "gate")
    assert list((site.folder / "inbox").iterdir()) == []
    assert not site.inbox.waiting


def test_what_cannot_be_trusted_is_removed_and_counted(site: Site) -> None:
    new = site.rig.ship(tiny.student(tag="new"))
    site.leave(tiny.ship(tiny.student(tag="other"), KEY, camera="yard"), camera="yard")
    site.leave(new, model=b"another file")
    site.take()
    assert site.refused == ["wrong-hash", "unknown-camera"]
    site.leave(tiny.Shipped(new.model, new.manifest, b"nobody signed this"))
    site.take()
    assert site.refused[2:] == ["malformed"]
    assert list((site.folder / "inbox").iterdir()) == []
    assert site.rig.slot.record.counter == 0


def test_a_model_that_comes_during_a_probation_waits_for_the_verdict(site: Site) -> None:
    site.rig.deliver(site.rig.ship(tiny.student(tag="new")))
    site.rig.wait()
    site.rig.play(1)
    site.rig.wait()
    site.leave(site.rig.ship(tiny.student(tag="newer"), counter=3))
    site.take()
    assert lies(site.folder, "gate")
    assert not site.inbox.waiting, "not before some seconds are over"
    site.rig.play(10)
    site.rig.wait()
    site.rig.fake.advance(RETRY_S)
    site.take()
    candidate = site.rig.slot.record.candidate
    assert candidate is not None
    assert candidate.model_id == "gate-3"


def test_a_model_that_came_over_the_line_meanwhile_is_made_ready_once(site: Site) -> None:
    new = site.rig.ship(tiny.student(tag="new"))
    site.leave(new)
    site.take()
    site.rig.wait()
    site.rig.slot.stage("gate-2")
    site.rig.wait()
    candidate = site.rig.slot.record.candidate
    assert candidate is not None
    assert candidate.state is State.SWITCHED
