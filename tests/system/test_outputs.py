"""Detections out of a real agent: into all five kinds at once, each with the real thing at its other end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.common.cli import main
from culling.common.detections import Record, follow
from culling.common.errors import InputError
from culling.edge.reload import ask
from culling.edge.status import fetch, outputs
from support.outputs import MOSQUITTO, Broker, HttpsServer, Subscriber, certificate
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

FRAMES = 100


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.settings["metrics"]["port"] = free_port()
    site.settings["agent"]["drain_s"] = 1.0
    moving_clip(tmp_path / "clip.mp4", frames=FRAMES)
    site.install_student()
    site.settings["camera"][0] |= {"pace": "max"}
    yield site
    site.close()


def loop(site: Site) -> None:
    site.settings["camera"][0] |= {"loop": True, "max_fps": 50.0}


def told(site: Site) -> dict[str, dict[str, Any]]:
    try:
        found = outputs(fetch("127.0.0.1", site.settings["metrics"]["port"]))
    except InputError:
        return {}
    return {str(row["output"]): row for row in found}


def test_every_inferred_frame_leaves_by_all_five_outputs_at_once(site: Site) -> None:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    tls = certificate(site.folder)
    broker, server, port = Broker(site.folder, tls=tls).start(), HttpsServer(tls=tls), free_port()
    heard = Subscriber(broker)
    published: list[Record] = []
    reading = threading.Thread(target=lambda: published.extend(follow(f"tcp://127.0.0.1:{port}", timeout_s=20)))
    reading.start()
    site.settings["output"] = [
        {"kind": "jsonl", "path": "out/detections.jsonl"},
        {"kind": "stdout"},
        {"kind": "zmq", "bind": f"tcp://127.0.0.1:{port}"},
        {"kind": "mqtt", "url": broker.url, "ca_file": str(tls.cert), "qos": 1, "discovery": "homeassistant"},
        {"kind": "webhook", "url": server.url, "ca_file": str(tls.cert), "batch_s": 0.1},
    ]
    site.settings["agent"]["exit_when_done"] = True
    site.start()

    assert site.processes[-1].wait(60) == 0, site.log()

    written = list(follow(site.folder / "out" / "detections.jsonl", timeout_s=0))
    assert [record.seq for record in written] == list(range(FRAMES))
    assert {record.model for record in written} == {"gate-1"}
    assert any(record.detections for record in written)
    printed = [line for line in site.log().splitlines() if line.startswith('{"v":1')]
    assert [json.loads(line)["seq"] for line in printed] == list(range(FRAMES))
    wait_until(lambda: len(heard.of("culling/gate/detections")) == FRAMES)
    assert [json.loads(one)["seq"] for one in heard.of("culling/gate/detections")] == list(range(FRAMES))
    assert "homeassistant/sensor/culling_gate/person/config" in dict(heard.messages)
    assert server.sequences() == list(range(FRAMES))
    reading.join(30)
    assert published, "it was there before the agent"
    assert [record.seq for record in published] == list(range(published[0].seq, FRAMES))
    heard.close()
    broker.stop()
    server.close()


def test_check_tries_every_output_and_repeats_no_secret(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    cloud, server = site.cloud(), HttpsServer()
    site.settings["output"] = [
        {"kind": "jsonl", "path": str(site.folder / "d.jsonl"), "classes": ["person", "unicorn"]},
        {"kind": "zmq", "bind": f"tcp://*:{free_port()}"},
        {"kind": "webhook", "url": server.url, "secret": "hunter2"},
        {"kind": "webhook", "name": "away", "url": f"https://u:hunter3@127.0.0.1:{free_port()}/hunter4?token=hunter5"},
    ]

    code = main(["edge", "check", "--config", str(site.write())])

    out, err = capsys.readouterr()
    lines = {line[8:].partition(":")[0]: line for line in out.splitlines()}
    assert code == 6
    assert lines["output jsonl"].startswith("ok      output jsonl: ")
    assert "no student here finds unicorn; known are bicycle, bus, car" in lines["output.0.classes"]
    assert "anybody on the way can read it" in lines["output zmq"]
    assert lines["output webhook"].startswith("ok      output webhook: http://127.0.0.1:")
    assert lines["output away"].startswith("failed  output away: https://127.0.0.1:")
    assert "Connection refused" in lines["output away"]
    assert "hunter" not in out + err
    assert [request.records for request in server.requests] == [[]]
    server.close()
    cloud.close()


def test_an_output_that_is_down_is_seen_and_comes_back_by_itself(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop(site)
    port = free_port()
    site.settings["output"] = [{"kind": "webhook", "name": "yard", "url": f"http://127.0.0.1:{port}/hunter2"}]
    site.start()
    wait_until(lambda: told(site).get("yard", {}).get("waiting", 0) > 20)
    monkeypatch.setattr("culling.edge.cli.LOOK_S", 0.1)

    assert main(["edge", "status", "--config", str(site.write())]) == 0
    assert "output yard: down, 0 sent, " in capsys.readouterr().out
    main(["edge", "status", "--json", "--config", str(site.write())])
    assert json.loads(capsys.readouterr().out)[0]["outputs"][0]["state"] == "down"

    server = HttpsServer(port=port)
    wait_until(lambda: told(site)["yard"]["state"] == "up" and told(site)["yard"]["sent"] > 20)
    assert "hunter2" not in site.log()
    assert site.log().count('"event": "output_failed"') == 1, "what lasts is logged once"
    server.close()


def test_outputs_come_go_and_change_by_a_reload_and_the_camera_misses_nothing(site: Site) -> None:
    loop(site)
    files = {name: site.folder / f"{name}.jsonl" for name in ("one", "two", "three")}
    table = {name: {"kind": "jsonl", "name": name, "path": str(path)} for name, path in files.items()}
    site.settings["output"] = [table["one"], table["two"]]
    site.start()
    wait_until(lambda: told(site).get("two", {}).get("sent", 0) > 10)
    site.settings["output"] = [{**table["two"], "classes": ["person"]}, table["three"]]
    site.write()

    assert ask(site.folder / "state") == "set up output three, two; removed output one"

    wait_until(lambda: told(site).keys() == {"two", "three"} and told(site)["three"]["sent"] > 10)
    site.processes[-1].send_signal(signal.SIGTERM)
    assert site.processes[-1].wait(20) == 0
    two = list(follow(files["two"], timeout_s=0))
    assert [record.seq for record in two] == list(range(two[0].seq, two[-1].seq + 1))
    assert {label for record in two[-5:] for label in record.counts()} <= {"person"}
    assert next(follow(files["three"], timeout_s=0)).seq > 0
    assert list(follow(files["one"], timeout_s=0))


def test_an_output_that_cannot_be_made_refuses_the_reload_and_changes_nothing(site: Site) -> None:
    loop(site)
    site.settings["output"] = [{"kind": "jsonl", "path": str(site.folder / "d.jsonl")}]
    site.start()
    wait_until(lambda: told(site).get("jsonl", {}).get("sent", 0) > 0)
    site.settings["output"] = [{"kind": "webhook", "url": "https://s/", "secret_file": str(site.folder / "none")}]
    command = ["-m", "culling.common.cli", "edge", "reload", "--config", str(site.write())]

    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)

    assert done.returncode == 2
    assert "the agent goes on as it was: output webhook: secret_file: " in done.stderr
    sent = told(site)["jsonl"]["sent"]
    wait_until(lambda: told(site)["jsonl"]["sent"] > sent)
