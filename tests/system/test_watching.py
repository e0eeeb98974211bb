"""Who watches and steers from outside, with a real service and agent: requests, Prometheus, Grafana's queries."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
import yaml

from culling.cloud.link.looks import Looks
from culling.cloud.profile.score import Scored
from culling.cloud.store.desired import DesiredStates, Paced, Profiled
from culling.cloud.store.index import frames
from culling.common.cli import main
from culling.common.metrics import SERIES
from culling.common.wire.messages import CameraState
from culling.common.wire.profile import Profile
from support.browser import Browser, needs_chromium
from support.cloud import CAMERA, CloudState, ServiceProcess
from support.http import fetch
from support.site import Site, free_port, moving_clip
from support.waiting import LONG_S, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "culling.json").read_text())
RULE_TESTS = ("alerts_test.yml", "alerts_days_test.yml")
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
NOT_SHOWN = {
    "culling_features_dropped_total": "off by default; what rounds miss by it is in culling_frames_distilled_total",
    "culling_swap_reports_total": "what the edges count themselves is: culling_swaps_total",
    "culling_models_fetched_total": "what a model weighs on the line is in culling_bytes_received_total",
    "culling_frames_shadowed_total": "off by default, and `culling cloud waves` says how far a shadow got",
    "culling_spans_exported_total": "off by default, and whoever has them looks at traces elsewhere",
    "culling_spans_dropped_total": "the same; the log says it too",
}
PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    not (PROMTOOL and PROMETHEUS), reason="prometheus is not installed: apt-get install prometheus"
)


class Running:
    """A service, and an agent whose camera plays a clip over and over."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudState(folder, schedule={"hold": True}, pace={"on": True}, profile={"on": True})
        secret = self.cloud.enroll()
        self.service = ServiceProcess(self.cloud)
        self.site = Site(folder, self.service.endpoint)
        self.site.signing = self.cloud.keys.signing
        self.site.settings["cloud"] |= {
            "server_key": self.cloud.keys.curve_public,
            "secret_key": secret,
            "signing_keys": [base64.b64encode(self.site.signing.public_key().public_bytes_raw()).decode()],
        }
        self.site.settings["camera"][0]["loop"] = True
        self.site.settings["metrics"] = {"port": free_port()}
        self.site.settings["output"] = [
            {"name": "lines", "kind": "jsonl", "path": str(folder / "detections.jsonl")},
            {"name": "nobody", "kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/", "queue": 10},
        ]
        self.site.settings["view"] = {"enabled": True, "port": free_port(), "token": False, "through_cloud": True}
        self.site.settings["selector"] = {
            "frames_per_window": 8, "window_s": 2.0, "spacing_s": 0.0, "duplicate_change": 0.0,
        }  # fmt: skip
        moving_clip(folder / "clip.mp4", frames=120)
        self.site.install_student()
        self.agent = self.site.start()
        wait_until(lambda: self.state() is not None and self.state().inferred > 0, 120)

    def state(self) -> CameraState:
        """Return what the agent said last."""
        (row,) = self.cloud.roster.rows()
        return row.state  # type: ignore[return-value]

    def cloud_target(self) -> str:
        return (self.cloud.data_dir / "metrics").read_text().strip().removeprefix("http://")

    def edge_target(self) -> str:
        return f"127.0.0.1:{self.site.settings['metrics']['port']}"

    def look(self) -> None:
        """Look at the camera's live picture once, at the edge and through the cloud."""
        Looks(self.cloud.index).look(CAMERA, time.time())
        port = self.site.settings["view"]["port"]
        assert fetch(f"http://127.0.0.1:{port}/api/cameras/{CAMERA}/live").status == 200

    def culling(self, *arguments: str) -> int:
        return main(["cloud", *arguments, "--config", str(self.cloud.toml)])

    def manual_frames(self) -> int:
        return self.frames_where(frames.c.reason == "manual")

    def frames_where(self, condition: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).where(condition)
        with self.cloud.index.read() as connection:
            return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        self.site.close()
        self.service.kill()
        self.cloud.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running(tmp_path_factory.mktemp("watching"))
    yield found
    found.close()


# What an operator wants


def test_a_camera_is_paused_at_the_edge_and_resumed(running: Running) -> None:
    assert running.culling("pause", CAMERA) == 0
    wait_until(lambda: running.state().paused and running.state().skipped.get("paused", 0) > 20)
    forwarded = running.state().forwarded
    seen = running.state().inferred
    wait_until(lambda: running.state().inferred > seen + 100)
    assert running.state().forwarded == forwarded
    assert running.culling("resume", CAMERA) == 0
    wait_until(lambda: running.state().forwarded != forwarded)


def test_a_frame_asked_for_arrives_once(running: Running) -> None:
    before = running.manual_frames()
    assert running.culling("frame", CAMERA) == 0
    wait_until(lambda: running.manual_frames() == before + 1)
    seen = running.state().inferred
    wait_until(lambda: running.state().inferred > seen + 50)
    assert running.manual_frames() == before + 1


def test_another_budget_is_in_force_and_given_again_to_an_agent_that_was_started_anew(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    def follows(frames_per_window: int, pace: float) -> bool:
        state = running.state()
        return (state.frames_per_window, state.pace) == (frames_per_window, pace)

    DesiredStates(running.cloud.index).take_pace(CAMERA, Paced(0.25, 1.8e9, "it is right"), 1.8e9)
    wait_until(lambda: follows(0, 0.25))
    assert running.culling("budget", CAMERA, "3") == 0
    wait_until(lambda: follows(3, 1.0))
    running.site.close()
    running.agent = running.site.start()
    seen = running.state().seen
    wait_until(lambda: running.state().seen < seen)
    wait_until(lambda: follows(3, 1.0))
    assert running.culling("budget", CAMERA) == 0
    wait_until(lambda: follows(0, 0.25))
    capsys.readouterr()
    assert running.culling("status") == 0
    assert f"{CAMERA}: pace 0.25 times its budget: it is right, since 01-15 08:00" in capsys.readouterr().out
    DesiredStates(running.cloud.index).take_pace(CAMERA, None, 1.8e9)
    wait_until(lambda: follows(0, 1.0))


def test_a_profile_is_ordered_followed_and_given_again_and_audits_tell_echoes(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_until(lambda: running.state().profile == Profile(echo=True))
    wait_until(lambda: running.frames_where(frames.c.echo.is_not(None)) > 0)
    slow = Scored(Profile(2.0, 8, echo=True), 0.1, -0.002, -0.004)
    states = DesiredStates(running.cloud.index)
    states.take_profile(CAMERA, Profiled(slow, slow, why="by 60 audits", since=1.8e9, own=True), 1.8e9)
    wait_until(lambda: running.state().profile == slow.profile and running.state().dropped.get("thinned", 0) > 20)
    running.site.close()
    running.agent = running.site.start()
    wait_until(lambda: running.state().seen > 0 and running.state().profile == slow.profile)
    capsys.readouterr()
    assert running.culling("status") == 0
    told = "profile 2 frames/s that differs by 8, 10% of its frames: AP50 -0.002, at least -0.004 (by 60 audits)"
    assert f"{CAMERA}: {told}, since 01-15 08:00" in capsys.readouterr().out
    states.take_profile(CAMERA, Profiled(), 1.8e9)
    wait_until(lambda: running.state().profile == Profile(echo=True))


# Prometheus and Grafana


@needs_prometheus
@needs_chromium
def test_the_page_answers_what_people_ask_while_an_agent_runs(running: Running) -> None:
    browser = Browser((running.cloud.data_dir / "page").read_text().strip())
    try:
        answer = "return document.querySelector(`.answers [data-k='${arguments[0]}']`)?.parentNode.textContent ?? ''"
        browser.wait(
            lambda: f"0 of 1 camera fine; {CAMERA} " in browser.text(".told"), 60
        )  # its output has no listener
        browser.go(f"camera/{CAMERA}")
        browser.wait(lambda: browser.count(".look .pic img"))
        browser.wait(lambda: "frames/s come from the decoder" in browser.run(answer, "keeping up"))
        assert re.match(r"[\d.]+ of [\d.]+ frames/s", browser.run(answer, "keeping up"))
        assert "not measured yet" in browser.run(answer, "accuracy")
        assert "no round has published one" in browser.run(answer, "last new model")
        browser.wait(lambda: re.match(r"[\d.]+ %", browser.run(answer, "forwarded")))
        assert "; pace as its budget" in browser.run(answer, "forwarded")
        assert "rounds are on hold" in browser.run(answer, "rounds")
        assert running.state().model_id in browser.run(answer, "model")
        assert browser.run(answer, "link").startswith("heard of ")
        browser.wait(lambda: re.match(r"In \d+ forwarded frames: \d+ ", browser.text(".today")))
        browser.go(f"camera/{CAMERA}/frames")
        browser.wait(lambda: browser.count("figure.frame"))
        assert browser.text("figure.frame figcaption"), "why it was hard"
        assert not [line for line in browser.complaints() if "favicon" not in line]
    finally:
        browser.close()


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    command = [str(PROMTOOL), "test", "rules", *RULE_TESTS]
    done = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    tests = [
        test for name in RULE_TESTS for test in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["tests"]
    ]
    tried = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert {rule["alert"] for rule in rules} == tried


def names(text: str) -> set[str]:
    return set(re.findall(r"\bculling_[a-z_]+", text))


def test_what_is_asked_for_is_what_is_exported() -> None:
    exported = {series.exported for series in SERIES}
    for series in SERIES:
        if series.kind == "histogram":
            exported |= {f"{series.exported}_{part}" for part in ("bucket", "sum", "count")}
    asked = names(json.dumps([panel["targets"] for panel in PANELS.values()]))
    asked |= names((DEPLOY / "prometheus" / "alerts.yml").read_text())
    assert asked - exported == set()


def test_every_series_is_on_the_dashboard() -> None:
    asked = names(json.dumps([panel["targets"] for panel in PANELS.values()]))
    seen = {name.removesuffix(part) for name in asked for part in ("", "_bucket", "_sum", "_count")}
    assert {series.exported for series in SERIES} - seen == NOT_SHOWN.keys()


def test_no_panel_lies_on_another() -> None:
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


class Prometheus:
    """A real one, with the scrape config that ships, on other ports and more often."""

    def __init__(self, folder: Path, targets: dict[str, str]) -> None:
        config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
        for job in config["scrape_configs"]:
            job["static_configs"][0]["targets"] = [targets[job["job_name"]]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [
            str(PROMETHEUS),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
        ]
        command.append(f"--web.listen-address={self.url.removeprefix('http://')}")
        with (folder / "prometheus.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, expression: str) -> list[Any]:
        """Return the series that answer; none while it starts."""
        try:
            answer = fetch(f"{self.url}/api/v1/query?query={quote(expression)}")
        except OSError:
            return []
        if answer.status != 200:
            return []
        return list(answer.json()["data"]["result"])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@needs_prometheus
def test_every_panel_has_data_from_a_running_edge_and_cloud(running: Running, tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path, {"culling-cloud": running.cloud_target(), "culling-edge": running.edge_target()})
    try:
        wait_until(lambda: len(prometheus.ask('up{job=~"culling-.*"} == 1')) == 2)
        missing = {
            (title, target["expr"].replace("$__rate_interval", "10s").replace("$camera", ".+"))
            for title, panel in PANELS.items()
            for target in panel["targets"]
        }
        deadline = time.monotonic() + LONG_S
        while missing and time.monotonic() < deadline:
            running.look()
            missing = {(title, expression) for title, expression in missing if not prometheus.ask(expression)}
            time.sleep(0.5)
        assert missing == set()
        assert prometheus.ask('ALERTS{alertstate="firing"}') == []
    finally:
        prometheus.close()
