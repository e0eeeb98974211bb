from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from culling.cloud.control.said import Said
from culling.cloud.page import views
from culling.cloud.page.board import BILL_S, NOW_S, SLOW_S, Board
from culling.cloud.page.recent import Recent
from culling.cloud.page.views import with_progress
from culling.cloud.page.watch import Fleet
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.store.desired import DesiredStates
from culling.cloud.store.history import History
from culling.cloud.store.index import Index, cameras, rounds
from culling.cloud.store.roster import SILENT_S, Roster, Told
from culling.cloud.store.rounds import Rounds
from culling.common.errors import StorageError
from culling.common.wire.messages import CameraState, SwapReport
from support.clock import FakeClock
from support.cloud import CAMERA, CloudState, camera_state


class Watched:
    """A board, and the edge that it watches."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.cloud = CloudState(folder, clock=self.clock)
        self.cloud.enroll(CAMERA, "yard")
        self.told: dict[str, Told] = {}
        self.board = Board(self.cloud.index, lambda: self.told, self.clock, self.cloud.settings)

    def tell(self, **changes: Any) -> None:
        state: CameraState = camera_state(**changes)
        self.told = {**self.told, state.camera: (state, self.clock.now())}

    def row(self, camera: str = CAMERA) -> dict[str, Any]:
        self.board.refresh()
        row = self.board.row(camera)
        assert row is not None
        return row

    def since(self, revision: int) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.board.since(revision).data))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path)
    yield found
    found.cloud.close()


def test_a_camera_that_never_spoke_has_no_rate(watched: Watched) -> None:
    row = watched.row()
    assert (row["state"], row["rate"], row["heard"]) == ("unseen", None, None)


def test_the_rate_is_that_of_the_counters_over_the_last_minutes(watched: Watched) -> None:
    watched.tell(seen=1000, forwarded={"hard": 900})
    watched.row()
    watched.clock.advance(10)
    watched.tell(seen=1200, forwarded={"hard": 902, "audit": 2})
    row = watched.row()
    assert (row["rate"], row["rate_by"], row["fps"]) == (0.02, {"hard": 2, "audit": 2}, 20.0)


def test_outputs_in_trouble_are_told_while_their_edge_is_heard_of(watched: Watched) -> None:
    watched.tell(outputs={"ha": "down: mqtt://broker: refused"})
    assert watched.row()["outputs"] == {"ha": "down: mqtt://broker: refused"}
    watched.tell()
    assert watched.row()["outputs"] == {}
    watched.tell(outputs={"ha": "3 records dropped since the start"})
    watched.clock.advance(3600)
    assert watched.row()["outputs"] == {}


def test_a_camera_that_is_hardly_looked_at_says_so_beside_its_frames(watched: Watched) -> None:
    watched.tell(seen=1000, inferred=50, dropped={"newer": 950})
    assert watched.row()["keeping_up"] is None  # one look tells no rate
    watched.clock.advance(10)
    watched.tell(seen=1100, inferred=55, dropped={"newer": 1045})
    row = watched.row()
    assert (row["state"], row["fps"]) == ("live", 10.0)
    assert (row["keeping_up"]["told"], row["keeping_up"]["enough"]) == ("0.5 of 10 frames/s", False)
    assert "max_fps to 0.5" in row["keeping_up"]["hint"]
    watched.clock.advance(SILENT_S + 1)
    assert watched.row()["keeping_up"] is None


def test_frames_that_a_camera_was_not_to_give_do_not_count_against_its_student(watched: Watched) -> None:
    watched.tell(seen=1000, inferred=50, dropped={"max-fps": 950})
    watched.row()
    watched.clock.advance(10)
    watched.tell(seen=1100, inferred=55, dropped={"max-fps": 1045})
    kept = watched.row()["keeping_up"]
    assert (kept["told"], kept["enough"], kept["hint"]) == ("0.5 of 0.5 frames/s", True, "")


def test_the_cost_of_a_day_is_told_and_looked_up_seldom(watched: Watched) -> None:
    watched.tell()
    assert watched.row()["bill"] == {
        "gflops": 0.0,
        "ratio": None,
        "ratio_incremental": None,
        "told": "0 GFLOP: edge 0 GFLOP, cloud 0 GFLOP",
    }
    minute = int(watched.clock.now() // 60)
    History(watched.cloud.index, {CAMERA: camera_state(inferred=0)}).record({CAMERA: camera_state(inferred=9)}, minute)
    watched.clock.advance(60)
    assert watched.row()["bill"]["gflops"] == 0.0
    watched.clock.advance(BILL_S)
    assert "not known" in watched.row()["bill"]["told"], "its student is not known either"


def test_what_is_older_than_the_span_counts_no_more(watched: Watched) -> None:
    for seen, hard in ((0, 0), (100, 50), (200, 50), (300, 50)):
        watched.tell(seen=seen, forwarded={"hard": hard})
        watched.row()
        watched.clock.advance(NOW_S)
    assert watched.board.row(CAMERA)["rate"] == 0.0  # type: ignore[index]


def test_a_restarted_agent_never_makes_a_rate_of_its_own_fall(watched: Watched) -> None:
    watched.tell(seen=1000, forwarded={"hard": 900})
    watched.row()
    watched.clock.advance(5)
    watched.tell(seen=50, forwarded={"hard": 1})
    assert watched.row()["rate"] is None
    watched.clock.advance(5)
    watched.tell(seen=150, forwarded={"hard": 2})
    assert watched.row()["rate"] == 0.01


@pytest.mark.parametrize(
    ("told", "word"),
    [("live", "live"), ("frozen", "frozen"), ("connecting", "down"), ("failed", "down"), ("ended", "ended")],
)
def test_a_camera_that_is_not_live_has_a_word_and_no_rate(watched: Watched, told: str, word: str) -> None:
    for seen in (100, 200):
        watched.tell(state=told, seen=seen)
        watched.row()
        watched.clock.advance(5)
    row = watched.board.row(CAMERA)
    assert row is not None
    assert row["state"] == word
    assert (row["rate"] is not None) == (word == "live")


def test_a_silent_edge_is_down_whatever_it_said_last(watched: Watched) -> None:
    watched.tell(seen=100)
    watched.row()
    watched.clock.advance(5)
    watched.tell(seen=200)
    assert watched.row()["state"] == "live"
    watched.clock.advance(SILENT_S + 1)
    row = watched.row()
    assert (row["state"], row["rate"]) == ("down", None)


def test_what_was_said_before_the_service_started_is_known(watched: Watched) -> None:
    watched.cloud.roster.heard({CAMERA: camera_state(seen=77)}, watched.clock.now() - 3600)
    assert (watched.row()["state"], watched.row()["seen"]) == ("down", 77)


def test_a_service_that_has_just_started_waits_for_its_edges_before_it_calls_one_lost(watched: Watched) -> None:
    started = watched.clock.now()
    watched.cloud.roster.heard({CAMERA: camera_state()}, started - 600)
    watched.cloud.roster.heard({"yard": camera_state("yard")}, started - 7200)
    assert watched.row()["standing"]["word"] == "awaited"
    assert watched.board.watchman.alerts() == {"now": [], "before": []}
    watched.clock.advance(SILENT_S + 1)
    assert (watched.row()["standing"]["word"], watched.row()["heard"]) == ("lost", started - 600)
    since = {one["camera"]: one["since"] for one in watched.board.watchman.alerts()["now"]}
    assert since == {CAMERA: started, "yard": started - 7200}, "nobody listened while the service was down"


def test_an_edge_that_greets_in_time_was_never_lost(watched: Watched) -> None:
    watched.cloud.roster.heard({CAMERA: camera_state()}, watched.clock.now() - 600)
    watched.row()
    watched.clock.advance(SILENT_S - 1)
    watched.tell()
    watched.row()
    watched.clock.advance(5)
    assert watched.row()["standing"]["word"] == "fine"
    assert watched.board.watchman.alerts() == {"now": [], "before": []}


def test_a_camera_that_was_never_seen_says_how_its_edge_is(watched: Watched) -> None:
    assert "has not connected since it was enrolled" in watched.row("yard")["standing"]["cause"]
    watched.clock.advance(SLOW_S + 1)
    watched.tell()
    assert "is connected and has not spoken of it" in watched.row("yard")["standing"]["cause"]
    watched.clock.advance(SILENT_S + 1)
    assert "is not connected now" in watched.row("yard")["standing"]["cause"]


def test_a_rounds_report_that_cannot_be_read_stops_no_cameras_page(watched: Watched) -> None:
    turn = watched.cloud.rounds.start(CAMERA, "operator", 1.0)
    watched.cloud.registry.report(SwapReport(CAMERA, "gate-2", None, "live", "", 1.0, 2.0), 2.0)
    with watched.cloud.index.write() as connection:
        connection.execute(rounds.update().values(report="{rotten", model_id="gate-2"))
    assert turn.camera == CAMERA
    watched.tell(seen=1)
    assert (watched.row()["seen"], watched.row()["lag_s"]) == (1, None)


def test_only_what_changed_is_told_again(watched: Watched) -> None:
    watched.tell(seen=100)
    watched.row()
    everything = watched.since(0)
    assert {row["camera"] for row in everything["cameras"]} == {CAMERA, "yard"}
    assert everything["all"]
    watched.clock.advance(1)
    assert not watched.board.refresh()
    watched.tell(seen=200)
    assert watched.board.refresh()
    newer = watched.since(everything["revision"])
    assert [row["camera"] for row in newer["cameras"]] == [CAMERA]
    assert not newer["all"]


def test_a_watcher_that_slept_is_told_the_newest_once(watched: Watched) -> None:
    watched.tell(seen=0)
    watched.row()
    slept = watched.since(0)["revision"]
    for seen in range(10):
        watched.clock.advance(1)
        watched.tell(seen=seen)
        watched.board.refresh()
    newer = watched.since(slept)
    assert [row["seen"] for row in newer["cameras"]] == [9]


def test_what_is_wanted_and_models_are_shown_soon(watched: Watched) -> None:
    watched.cloud.publisher.publish(CAMERA, watched.cloud.artefact(), "base")
    DesiredStates(watched.cloud.index).change(CAMERA, paused=True, held=True)
    watched.tell(model_id="gate-1")
    row = watched.row()
    assert (row["live"], row["scale"], row["paused"], row["held"], row["obeys"]) == ("gate-1", 1.0, True, True, False)
    DesiredStates(watched.cloud.index).change(CAMERA, paused=False)
    watched.clock.advance(SLOW_S)
    assert not watched.row()["paused"]


def minutes_of(watched: Watched, *, seen: int = 500, until: int = 0, camera: str = CAMERA) -> None:
    """Record what a camera saw in the minute that has just passed, `until` minutes ago."""
    past = History(watched.cloud.index, {camera: camera_state(camera, seen=0, forwarded={})})
    with watched.cloud.index.write() as connection:
        connection.execute(cameras.update().values(counted=None))  # each of them counts from nothing
    minute = int(watched.clock.now() // 60) - until
    past.record({camera: camera_state(camera, seen=seen, forwarded={"hard": 5})}, minute - 1)


def test_the_day_comes_from_the_history_once_a_minute(watched: Watched) -> None:
    watched.clock.advance(600)  # within a slot, whatever the clock began at
    minutes_of(watched)
    watched.row()
    (slot,) = watched.since(0)["sparks"][CAMERA]
    assert (slot["seen"], slot["hard"]) == (500, 5)
    revision = watched.board.revision
    watched.clock.advance(60)
    minutes_of(watched)
    watched.row()
    assert [slot["seen"] for slot in watched.since(revision)["sparks"][CAMERA]] == [1000]


def test_of_the_day_only_slots_that_changed_are_told_again(watched: Watched) -> None:
    watched.clock.advance(600)
    for ago in (600, 300, 0):
        minutes_of(watched, until=ago)
    minutes_of(watched, until=300, camera="yard")
    watched.row()
    everything = watched.since(0)
    assert {name: len(slots) for name, slots in everything["sparks"].items()} == {CAMERA: 3, "yard": 1}
    watched.clock.advance(60)
    minutes_of(watched)
    watched.row()
    newer = watched.since(everything["revision"])["sparks"]
    assert {name: len(slots) for name, slots in newer.items()} == {CAMERA: 1}
    assert len(watched.since(0)["sparks"][CAMERA]) == 3


def test_of_many_cameras_days_and_bills_are_read_a_few_at_a_time(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.cloud.page.board.BILLS_AT_ONCE", 1)
    monkeypatch.setattr("culling.cloud.page.board.DAYS_S", -1.0)
    monkeypatch.setattr("culling.cloud.page.board.DAYS_AT_ONCE", 1)
    watched.clock.advance(600)
    minutes_of(watched, until=300)
    minutes_of(watched, until=300, camera="yard")
    known = []
    for _ in range(3):
        watched.clock.advance(SLOW_S)
        watched.board.refresh()
        bills = [row["bill"] is not None for row in watched.since(0)["cameras"]]
        known.append((len(watched.since(0)["sparks"]), sum(bills)))
    assert known == [(1, 1), (2, 2), (2, 2)]
    revision = watched.board.revision
    watched.clock.advance(60)
    minutes_of(watched)
    minutes_of(watched, camera="yard")
    newer = []
    for _ in range(3):
        watched.board.refresh()
        newer.append(sorted(watched.since(revision).get("sparks", {})))
    assert newer[1:] == [sorted((CAMERA, "yard"))] * 2
    assert newer[0] in ([CAMERA], ["yard"])


def test_what_is_too_much_for_one_turn_is_read_in_several(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.row()
    monkeypatch.setattr("culling.cloud.page.board.TURN_S", -1.0)
    for at_once in ("ROWS_AT_ONCE", "CAMERAS_AT_ONCE"):
        monkeypatch.setattr(f"culling.cloud.page.board.{at_once}", 1)
    for camera in (CAMERA, "yard"):
        DesiredStates(watched.cloud.index).change(camera, paused=True)
    watched.clock.advance(SLOW_S)
    paused, turns = [0], 0
    while paused[-1] < 2 and turns < 50:
        watched.tell(seen=turns)  # what an edge says is shown at once all the while
        watched.board.refresh()
        rows = {row["camera"]: row for row in watched.since(0)["cameras"]}
        assert rows[CAMERA]["seen"] == turns
        paused.append(sum(row["paused"] for row in rows.values()))
        turns += 1
    assert 5 < turns < 50
    assert paused == sorted(paused)
    assert 1 in paused


def test_the_first_time_all_is_read_at_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("culling.cloud.page.board.TURN_S", -1.0)
    monkeypatch.setattr("culling.cloud.page.board.ROWS_AT_ONCE", 1)
    DesiredStates(watched.cloud.index).change(CAMERA, paused=True)
    watched.tell()
    watched.board.refresh()
    assert {row["camera"]: row["paused"] for row in watched.since(0)["cameras"]} == {CAMERA: True, "yard": False}


def test_a_camera_that_goes_while_rows_are_made_is_gone(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.row()
    monkeypatch.setattr("culling.cloud.page.board.TURN_S", -1.0)
    for at_once in ("ROWS_AT_ONCE", "CAMERAS_AT_ONCE"):
        monkeypatch.setattr(f"culling.cloud.page.board.{at_once}", 1)
    watched.cloud.roster.remove("yard", 0.0)
    for _ in range(40):
        watched.clock.advance(1)
        watched.board.refresh()
    assert [row["camera"] for row in watched.since(0)["cameras"]] == [CAMERA]


@pytest.mark.parametrize("read", [(Roster, "rows"), (Rounds, "taught"), (Recent, "read")])
def test_a_reading_that_failed_is_begun_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, read: tuple[type, str]
) -> None:
    def fails(*_: object) -> None:
        raise StorageError("the index is gone")

    watched.row()
    DesiredStates(watched.cloud.index).change(CAMERA, paused=True)
    watched.clock.advance(SLOW_S)
    watched.tell(seen=11)
    with monkeypatch.context() as patch:
        patch.setattr(*read, fails)
        with pytest.raises(StorageError):
            watched.board.refresh()
    watched.clock.advance(SLOW_S)
    row = watched.row()
    assert (row["seen"], row["paused"]) == (11, True)


def test_the_oldest_bills_are_read_first(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("culling.cloud.page.board.BILLS_AT_ONCE", 1)
    read: list[str] = []

    def note(index: Index, settings: object, since: float, until: float, some: list[str]) -> dict[str, Any]:
        read.extend(some)
        return {}

    monkeypatch.setattr("culling.cloud.page.board.statements", note)
    for _ in range(4):
        watched.clock.advance(BILL_S)  # by then all of them are due again
        watched.board.refresh()
    assert sorted(read[:2]) == sorted(read[2:]) == sorted([CAMERA, "yard"])


def test_a_viewer_that_takes_only_the_news_has_what_a_new_one_is_told(watched: Watched) -> None:
    fleet, revision = Fleet(), 0
    for turn in range(60):
        watched.clock.advance(40 * 60)
        if turn % 7:  # now and then the camera is silent
            minutes_of(watched)
        watched.row()
        news = watched.since(revision)
        fleet.take(news)
        revision = news["revision"]
        anew = Fleet()
        anew.take(watched.since(0))
        assert fleet.sparks == anew.sparks
    assert len(fleet.sparks[CAMERA]) < 37, "a day, and no more"


def test_the_lag_is_read_when_a_swap_is_reported(watched: Watched) -> None:
    cloud, now = watched.cloud, watched.clock.now()
    for turn in range(2):
        began = cloud.rounds.start(CAMERA, "manual", now)
        cloud.rounds.end(began.id, "ready", {"newest_capture": now - 100 * (turn + 1)})
        model = cloud.publisher.publish_round(began.id, CAMERA, cloud.artefact())
        if turn == 0:
            assert watched.row()["lag_s"] is None
        for later in (0, 50):  # the edge may report again, as after a restart: the first counts
            swap = SwapReport(CAMERA, model.model_id, None, "live", "", 1.0, now + later)
            cloud.registry.report(swap, now)
        watched.clock.advance(SLOW_S)
        assert watched.row()["lag_s"] == 100.0 * (turn + 1)


def test_the_scale_of_a_model_that_is_out_of_use_is_known(watched: Watched) -> None:
    for _ in range(4):
        watched.cloud.publisher.publish(CAMERA, watched.cloud.artefact(), "manual")
    watched.tell(model_id="gate-1")
    assert watched.row()["scale"] == 1.0
    watched.tell(model_id="other")
    watched.clock.advance(SLOW_S)
    assert watched.row()["scale"] is None


def test_a_running_round_shows_its_stage_its_share_and_the_time_left(tmp_path: Path) -> None:
    clock = FakeClock()
    cloud = CloudState(tmp_path, clock)
    cloud.enroll()
    turn = cloud.rounds.start(CAMERA, "manual", clock.now())
    folder = cloud.data_dir / "rounds" / str(turn.id)
    folder.mkdir(parents=True)
    heart = ProgressWriter(folder, clock.now)
    heart.stage("train")
    heart.expect(10)
    clock.advance(100)
    heart.advance()
    board = Board(cloud.index, dict, clock, cloud.settings)
    board.refresh()
    row = board.row(CAMERA)
    assert row is not None
    assert row["round"]["told"] == "train 10%, 15 min left"
    (listed,) = with_progress(views.rounds(cloud.index, None, 5), Said(cloud.index, cloud.settings))
    assert listed["running"]["left_s"] == 900.0
    cloud.close()
