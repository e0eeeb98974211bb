"""A real agent process on a real clip, over a real encrypted link; the test plays the cloud."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.metrics import Metrics
from culling.common.wire.messages import HardFrame, Heartbeat, Hello, ModelChunk, ModelOffer, ModelRequest, SwapReport
from culling.edge.agent import PATIENCE_S, Agent, Work
from culling.edge.model.builder import Builder
from culling.edge.settings import load_settings
from culling.edge.spool.rows import READY
from support import tiny
from support.clock import FakeClock
from support.site import CAMERA, CloudEnd, Site, moving_clip
from support.waiting import LONG_S, wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.settings["agent"]["trace"] = str(tmp_path / "trace.jsonl")
    site.settings["selector"] = {"window_s": 600.0, "spacing_s": 0.0, "frames_per_window": 20}
    site.settings["camera"][0] |= {"pace": "max", "loop": True}
    moving_clip(tmp_path / "clip.mp4")
    yield site
    site.close()


@pytest.fixture
def cloud(site: Site) -> Iterator[CloudEnd]:
    cloud = site.cloud()
    yield cloud
    cloud.close()


def play_once(site: Site) -> None:
    site.settings["agent"]["exit_when_done"] = True
    site.settings["camera"][0]["loop"] = False


def exit_code(site: Site, cloud: CloudEnd | None, within_s: float = LONG_S) -> int:
    """Play the cloud until the newest agent has ended."""
    process = site.processes[-1]

    def ended() -> bool:
        for _ in cloud.turn(timeout_s=0.02) if cloud else ():
            pass
        return process.poll() is not None

    wait_until(ended, within_s)
    return int(process.returncode)


def frames(cloud: CloudEnd) -> list[HardFrame]:
    return [message for message, _ in cloud.seen if isinstance(message, HardFrame)]


def trace(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.folder / "trace.jsonl").read_text().rpartition("\n")[0].splitlines()]


def spooled(site: Site) -> set[tuple[str, int]]:
    with sqlite3.connect(site.folder / "state" / "spool.sqlite") as db:
        found = set(db.execute(f"SELECT boot, seq FROM frames WHERE {READY}"))
    db.close()
    return found


def counters(site: Site) -> dict[str, int]:
    with sqlite3.connect(site.folder / "state" / "spool.sqlite") as db:
        found = {name: value for camera, name, value in db.execute("SELECT * FROM counters") if camera == CAMERA}
    db.close()
    return found


def serve(cloud: CloudEnd, shipped: tiny.Shipped, until: Callable[[], bool], within_s: float = LONG_S) -> None:
    """Offer a model, and answer the requests for it, until `until` holds."""
    cloud.send(ModelOffer(CAMERA, shipped.signed))

    def turned() -> bool:
        for message, _ in cloud.turn(timeout_s=0.05):
            if isinstance(message, ModelRequest):
                data = shipped.model[message.offset : message.offset + message.length]
                cloud.send(ModelChunk(CAMERA, message.model_id, message.offset, len(shipped.model)), data)
        return until()

    wait_until(turned, within_s)


def test_every_frame_of_a_file_is_scored_and_what_is_chosen_arrives(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    play_once(site)
    site.start()

    assert exit_code(site, cloud) == 0, site.log()

    lines = trace(site)
    assert [line["frame"] for line in lines] == list(range(100))
    assert {line["model_id"] for line in lines} == {"gate-1"}
    chosen = {line["frame"] for line in lines if not line["decision"].startswith("skip:")}
    arrived = frames(cloud)
    assert 1 <= len(arrived) <= 20
    assert {frame.frame for frame in arrived} <= chosen
    count = counters(site)
    assert count["acked"] == len(arrived)
    assert count["made"] == len(chosen) == count["acked"] + count.get("evicted.window", 0)


def test_it_tells_the_cloud_what_it_counted(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    play_once(site)
    site.start()
    exit_code(site, cloud)

    hello = next(message for message, _ in cloud.seen if isinstance(message, Hello))
    last = [message for message, _ in cloud.seen if isinstance(message, Heartbeat)][-1].cameras[0]

    assert hello.cameras[0].model_id == "gate-1"
    assert (last.seen, last.inferred, last.state) == (100, 100, "stopped" if last.state == "stopped" else "ended")
    assert sum(last.forwarded.values()) == len(frames(cloud)) == last.acked
    assert last.loss_mean > 0


def test_without_a_cloud_frames_wait_and_arrive_after_a_restart(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    play_once(site)
    site.settings["agent"]["drain_s"] = 0.2
    cloud.close()
    site.start()
    assert exit_code(site, None) == 0
    waiting = spooled(site)
    assert waiting

    late = CloudEnd(cloud.endpoint, site.server_secret, site.public)
    site.settings["agent"]["drain_s"] = 5.0
    site.start()
    exit_code(site, late)

    assert waiting <= {(frame.boot, frame.seq) for frame in frames(late)}
    assert spooled(site) == set()
    late.close()


def test_killed_at_any_moment_it_loses_nothing_that_was_spooled(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    for _ in range(3):
        process = site.start()
        cloud.seen.clear()
        cloud.receive(HardFrame, ack=False)
        process.kill()
        process.wait(10)
    left = spooled(site)
    assert left

    play_once(site)
    site.start()
    assert exit_code(site, cloud) == 0

    got = [(frame.boot, frame.seq) for frame in frames(cloud)]
    assert left <= set(got)
    assert spooled(site) == set()
    assert len({boot for boot, _ in got}) >= 2, "frames keep the boot that made them"


def test_frames_held_before_a_restart_leave_though_the_next_window_has_none(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    site.settings["selector"] |= {"eager_share": 0.0, "audit_share": 0.0, "bootstrap": 0}
    process = site.start()

    def held() -> set[tuple[str, int]]:
        if not (site.folder / "state" / "spool.sqlite").exists():
            return set()
        with sqlite3.connect(site.folder / "state" / "spool.sqlite") as db:
            rows = set(db.execute("SELECT boot, seq FROM frames WHERE rank = 0"))
        db.close()
        return rows

    wait_until(lambda: "agent_started" in site.log() and len(held()) >= 5)
    process.kill()
    process.wait(10)
    waiting = held()

    play_once(site)
    site.settings["confidence"] = {"min_side": 10_000}
    site.start()
    assert exit_code(site, cloud, 60) == 0

    arrived = {(frame.boot, frame.seq) for frame in frames(cloud)}
    assert arrived <= waiting
    assert len(arrived) == min(20, len(waiting))


def test_an_offered_model_is_swapped_in_and_reported(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    site.start()
    cloud.receive(Hello)
    cloud.receive(HardFrame)
    shipped = site.ship(tiny.student(tag="retrained"), counter=2)
    reports: list[SwapReport] = []

    def reported() -> bool:
        reports[:] = [message for message, _ in cloud.seen if isinstance(message, SwapReport)]
        return bool(reports)

    serve(cloud, shipped, until=reported, within_s=60)
    site.processes[-1].send_signal(signal.SIGTERM)
    assert exit_code(site, cloud) == 0

    assert (reports[0].model_id, reports[0].outcome) == ("gate-2", "live")
    used = [line["model_id"] for line in trace(site)]
    assert used == sorted(used), "one model after the other, never mixed"
    assert set(used) == {"gate-1", "gate-2"}
    in_order = [line["frame"] for line in trace(site)]
    assert in_order == list(range(len(in_order))), "no frame is lost over the swap"


def test_a_camera_without_a_model_takes_its_first_from_the_cloud(site: Site, cloud: CloudEnd) -> None:
    site.start()
    hello, _ = cloud.receive(Hello)
    assert hello.cameras[0].model_id == "none"

    serve(cloud, site.ship(tiny.student()), until=lambda: bool(frames(cloud)), within_s=60)
    site.processes[-1].send_signal(signal.SIGTERM)

    assert exit_code(site, cloud) == 0
    beats = [message.cameras[0] for message, _ in cloud.seen if isinstance(message, Heartbeat)]
    assert beats[-1].dropped["no-model"] > 0
    assert beats[-1].model_id == "gate-1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(site: Site, cloud: CloudEnd, number: signal.Signals) -> None:
    site.install_student()
    process = site.start()
    cloud.receive(HardFrame)

    process.send_signal(number)

    assert exit_code(site, cloud) == 0
    assert spooled(site) == set()


def test_a_second_signal_ends_it_at_once(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    site.settings["agent"]["drain_s"] = 60.0
    process = site.start()
    cloud.receive(HardFrame, ack=False)

    process.send_signal(signal.SIGTERM)
    wait_until(lambda: "agent_shutdown_started" in site.log())
    process.send_signal(signal.SIGTERM)

    assert process.wait(5) == 128 + signal.SIGTERM


def test_one_camera_that_cannot_be_opened_never_stops_another(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    site.install_student(camera="dead")
    site.settings["camera"].append({"name": "dead", "url": "rtsp://user:hunter2@127.0.0.1:1/none"})
    process = site.start()

    frame, _ = cloud.receive(HardFrame)
    process.send_signal(signal.SIGTERM)

    assert exit_code(site, cloud) == 0
    assert frame.camera == CAMERA
    assert "hunter2" not in site.log()


def test_two_cameras_with_one_model_share_it(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    site.install_student(camera="yard")
    site.settings["camera"].append(site.settings["camera"][0] | {"name": "yard"})
    play_once(site)
    site.settings["camera"][1]["loop"] = False
    site.start()

    assert exit_code(site, cloud) == 0, site.log()

    by_camera = {name: [line["frame"] for line in trace(site) if line["camera"] == name] for name in (CAMERA, "yard")}
    assert by_camera == {CAMERA: list(range(100)), "yard": list(range(100))}


def test_a_file_that_cannot_be_played_is_one_line_and_an_exit_code(site: Site) -> None:
    site.install_student()
    site.settings["camera"][0]["url"] = str(site.folder / "nothing.mp4")
    site.start()

    assert exit_code(site, None) == 4
    assert site.log().splitlines()[-1].startswith("culling: camera gate: ")


def test_no_gpu_and_no_leave_to_use_the_cpu_is_an_exit_code(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    site.install_student()
    site.settings["agent"]["allow_cpu"] = False
    site.start()

    assert exit_code(site, None) == 5
    assert "agent.allow_cpu" in site.log()


def test_a_model_that_nobody_signed_is_not_started(site: Site) -> None:
    site.install_student()
    (site.folder / "initial.onnx").write_bytes(tiny.student(tag="another"))
    site.start()

    assert exit_code(site, None) == 5


def test_a_state_folder_that_cannot_be_made_is_an_exit_code(site: Site) -> None:
    site.install_student()
    (site.folder / "state").write_text("a file")
    site.start()

    assert exit_code(site, None) == 7


def test_a_second_agent_on_one_state_folder_is_refused_and_costs_the_first_nothing(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    first = site.start()
    cloud.receive(HardFrame)
    second = site.start()

    def refused() -> bool:
        for _ in cloud.turn(timeout_s=0.02):
            pass
        return second.poll() is not None

    wait_until(refused)
    assert second.returncode == 7
    assert f"another agent runs on {site.folder / 'state'} (process {first.pid}): stop it first" in site.log()
    site.processes.remove(second)
    first.send_signal(signal.SIGTERM)
    assert exit_code(site, cloud) == 0
    assert spooled(site) == set()
    assert len(frames(cloud)) == counters(site)["acked"]


def test_no_secret_reaches_the_log(site: Site, cloud: CloudEnd) -> None:
    site.install_student()
    site.settings["agent"]["log_level"] = "debug"
    play_once(site)
    site.start()
    exit_code(site, cloud)

    assert site.secret not in site.log()


def test_a_builder_that_died_ends_the_agent_with_what_it_died_of(agent: Agent) -> None:
    alive: Any = Thread()
    agent._recorder, agent._forwarder, agent._builder = alive, alive, Thread(failure=MemoryError("no room"))  # type: ignore[assignment]

    with pytest.raises(MemoryError, match="no room"):
        agent._tick()


@pytest.mark.parametrize(("recorder", "forwarder"), [(True, False), (False, True), (False, False)])
def test_a_disk_that_fails_shows(agent: Agent, recorder: bool, forwarder: bool) -> None:
    made: Any = agent
    made._recorder, made._forwarder, made._builder = Thread(failing=recorder), Thread(failing=forwarder), Thread()
    made._metrics, made._gauges, made._inbox = Metrics(CollectorRegistry(), "edge"), Thread(), Thread()

    agent._tick()

    assert made._metrics.total("storage_failing") == float(recorder or forwarder)


class Thread:
    """Stands for whatever the main loop looks after once a second."""

    def __init__(self, failure: BaseException | None = None, failing: bool = False) -> None:
        self.failure = failure
        self.failing = self.storage_failing = failing
        self.waiting = False

    def export(self) -> None:
        pass


class Picky:
    """A student that fails on some frames, alone or in a batch."""

    def __init__(self, *bad: str, error: Exception | None = None) -> None:
        self.bad = bad
        self.error = error or ModelError("the provider went away")

    def infer(self, frames: list[str]) -> list[Detections]:
        if set(frames) & set(self.bad):
            raise self.error
        return [Detections.empty()] * len(frames)


class Heard:
    """A lane that only remembers what became of its frame."""

    def __init__(self) -> None:
        self.name = "gate"
        self.heard: list[str] = []

    def inferred(self, *_: object) -> None:
        self.heard.append("inferred")

    def failed(self, error: ModelError) -> None:
        self.heard.append("failed")

    def drop(self, reason: str) -> None:
        self.heard.append(reason)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def agent(site: Site, clock: FakeClock) -> Agent:
    return Agent(load_settings(site.write(), {}), clock)


def batch(student: Picky, *frames: str) -> tuple[list[Any], list[Heard]]:
    lanes: Any = [Heard() for _ in frames]
    made: Any = student
    return [Work(lane, frame, made) for lane, frame in zip(lanes, frames, strict=True)], lanes  # type: ignore[arg-type]


def test_a_frame_that_breaks_a_batch_costs_no_other_camera(agent: Agent) -> None:
    work, lanes = batch(Picky("bad"), "good", "bad", "fine")

    agent._infer(work)

    assert [lane.heard for lane in lanes] == [["inferred"], ["failed"], ["inferred"]]


@pytest.mark.parametrize("error", [KeyError("head"), RuntimeError("changed size"), MemoryError()])
def test_a_step_of_ours_that_breaks_on_a_frame_costs_that_frame(agent: Agent, error: Exception) -> None:
    made: Any = agent
    made._metrics = Metrics(CollectorRegistry(), "edge")
    work, lanes = batch(Picky("bad", error=error), "good", "bad", "fine")

    agent._infer(work)
    assert [lane.heard for lane in lanes] == [["inferred"], ["broken"], ["inferred"]]

    work, lanes = batch(Picky(), "good", "fine")
    lanes[0].inferred = lambda *_: {}["loss"]  # type: ignore[method-assign]
    agent._infer(work)
    assert [lane.heard for lane in lanes] == [["broken"], ["inferred"]]
    assert made._metrics.total("items_failed", loop="main") == 2


def test_a_picture_that_cannot_be_read_is_not_held_against_the_model(agent: Agent) -> None:
    work, [lane] = batch(Picky("bad", error=ValueError("no such pixel format")), "bad")

    agent._infer(work)

    assert lane.heard == ["unreadable"]


@pytest.mark.parametrize(("taken", "waiting", "rests"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_a_lull_begins_when_frames_were_inferred_and_none_waits(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, taken: bool, waiting: bool, rests: int
) -> None:
    work, _ = batch(Picky(), "good")
    told: list[bool] = []
    monkeypatch.setattr(agent, "_batches", lambda: [work] * taken)
    monkeypatch.setattr(agent, "_frame_waits", lambda: waiting)
    monkeypatch.setattr(Builder, "rests", lambda _: told.append(True))
    agent._builder = Builder("cpu")

    agent._infer_newest()

    assert len(told) == rests


def test_when_nothing_answers_for_long_the_provider_is_gone_and_the_agent_ends(agent: Agent, clock: FakeClock) -> None:
    work, [lane] = batch(Picky("bad"), "bad")
    agent._infer(work)
    clock.advance(PATIENCE_S - 1)
    agent._infer(work)
    clock.advance(2)

    with pytest.raises(ModelError, match="every inference has failed for 30 s"):
        agent._infer(work)
    assert lane.heard == ["failed"] * 3


def test_one_answer_is_enough_to_go_on(agent: Agent, clock: FakeClock) -> None:
    for _ in range(3):
        agent._infer(batch(Picky("bad"), "bad")[0])
        clock.advance(PATIENCE_S - 1)
        agent._infer(batch(Picky("bad"), "good")[0])
        clock.advance(PATIENCE_S - 1)
