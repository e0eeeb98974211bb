"""Cameras that come, go and change while an agent runs: real processes, asked by the real command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from culling.common.cli import main
from culling.common.errors import CullingError, InputError
from culling.common.process.lock import only_one
from culling.common.wire.messages import HardFrame, Heartbeat, ModelChunk, ModelOffer, ModelRequest
from culling.edge.reload import ANSWER, LOCK, answer, ask, compare
from culling.edge.settings import load_settings
from culling.edge.status import fetch, rows
from support import tiny
from support.site import CAMERA, CloudEnd, Site, free_port, moving_clip
from support.waiting import wait_until

TERMINAL = """
import os, pty, sys
process, terminal = pty.fork()
if process == 0:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
sys.stdin.read()
os.close(terminal)
print(os.waitpid(process, 0)[1])
"""
"""Runs Python in a terminal of its own, which it closes when its input ends; prints how the process ended."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.settings["agent"] |= {"trace": str(tmp_path / "trace.jsonl"), "drain_s": 1.0}
    site.settings["metrics"]["port"] = free_port()
    moving_clip(tmp_path / "clip.mp4")
    site.settings["camera"] = [camera(site, CAMERA), camera(site, "ramp")]
    site.install_student()
    site.install_student(camera="ramp")
    yield site
    site.close()


def camera(site: Site, name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "url": str(site.folder / "clip.mp4"), "pace": "max", "max_fps": 50.0, "loop": True, **changes}


def started(site: Site) -> None:
    site.start()
    wait_until(lambda: len(inferred(site)) == 2 and all(inferred(site).values()))


def inferred(site: Site) -> dict[str, int]:
    try:
        found = rows(fetch("127.0.0.1", site.settings["metrics"]["port"]))
    except InputError:
        return {}
    return {str(row["camera"]): int(row["inferred"] or 0) for row in found if row["state"] != "stopped"}


def traced(site: Site, name: str = CAMERA) -> list[int]:
    lines = [json.loads(line) for line in (site.folder / "trace.jsonl").read_text().rpartition("\n")[0].splitlines()]
    return [line["frame"] for line in lines if line["camera"] == name]


def ended(site: Site) -> str:
    """End the agent, and return all that it logged."""
    site.processes[-1].send_signal(signal.SIGTERM)
    assert site.processes[-1].wait(20) == 0
    return site.log()


def test_cameras_come_and_go_and_the_others_miss_no_frame(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.settings["camera"] = [camera(site, CAMERA, max_fps=0.0), camera(site, "ramp")]
    started(site)
    site.settings["camera"] = [site.settings["camera"][0], camera(site, "yard")]
    site.install_student(camera="yard")

    assert main(["edge", "reload", "--config", str(site.write())]) == 0
    assert capsys.readouterr().out.strip() == "added yard; removed ramp"
    wait_until(lambda: inferred(site).keys() == {CAMERA, "yard"} and inferred(site)["yard"] > 20)
    seen = fetch("127.0.0.1", site.settings["metrics"]["port"])

    assert f'culling_reconnects_total{{camera="{CAMERA}"}} 0.0' in seen
    assert f'culling_frames_dropped_total{{camera="{CAMERA}"' not in seen
    ended(site)
    assert traced(site) == list(range(len(traced(site)))), (
        "every frame of the camera that stayed was inferred, in order"
    )
    assert len(traced(site)) > 20
    assert traced(site, "yard")


def test_a_camera_that_moved_is_seen_at_its_new_address_under_its_model_and_counters(site: Site) -> None:
    started(site)
    before = inferred(site)["ramp"]
    moving_clip(site.folder / "other.mp4", frames=30, width=192)
    site.settings["camera"][1]["url"] = str(site.folder / "other.mp4")
    site.write()

    assert ask(site.folder / "state") == "changed ramp"

    wait_until(lambda: inferred(site).get("ramp", 0) > before + 20)
    ended(site)
    assert site.log().count('"cameras": ["gate", "ramp"]') == 2, "at the start, and after"


def test_a_new_camera_without_a_manifest_beside_the_kit_takes_its_model_from_the_cloud(site: Site) -> None:
    cloud: CloudEnd = site.cloud()
    started(site)
    site.settings["camera"].append(camera(site, "yard"))
    site.write()
    ask(site.folder / "state")
    shipped = site.ship(tiny.student(), camera="yard")
    offered = False

    def inferring() -> bool:
        nonlocal offered
        for message, _ in cloud.turn(timeout_s=0.05):
            if isinstance(message, Heartbeat) and not offered and "yard" in [one.camera for one in message.cameras]:
                cloud.send(ModelOffer("yard", shipped.signed))
                offered = True
            if isinstance(message, ModelRequest):
                data = shipped.model[message.offset : message.offset + message.length]
                cloud.send(ModelChunk("yard", message.model_id, message.offset, len(shipped.model)), data)
        return any(isinstance(message, HardFrame) and message.camera == "yard" for message, _ in cloud.seen)

    wait_until(inferring)
    cloud.close()


def test_a_wrong_setting_is_found_before_the_agent_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    started(site)
    site.settings["camera"].append({"name": "yard", "url": "ftp://nowhere"})

    assert main(["edge", "reload", "--config", str(site.write())]) == 2

    assert "camera.2.url" in capsys.readouterr().err
    assert "reload" not in ended(site)


def test_what_cannot_be_taken_changes_nothing_and_says_why(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    started(site)
    site.settings["camera"] = [camera(site, CAMERA), camera(site, "yard")]
    (site.folder / "initial.yard.manifest").write_bytes(b"nobody signed this")

    assert main(["edge", "reload", "--config", str(site.write())]) == 5

    assert "the agent goes on as it was: " in capsys.readouterr().err
    assert inferred(site).keys() == {CAMERA, "ramp"}
    assert "settings_reloaded" not in ended(site)


def test_classes_that_no_student_finds_are_taken_with_a_warning_that_names_the_key(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    started(site)
    triangle = [[0, 0], [1, 0], [1, 1]]
    site.settings["camera"][1]["zone"] = [{"name": "yard", "polygon": triangle, "classes": ["person", "unicorn"]}]

    assert main(["edge", "reload", "--config", str(site.write())]) == 0

    said = capsys.readouterr().out.splitlines()
    assert said[0] == "changed ramp"
    assert said[1].startswith("warning: camera.1.zone.0.classes: no student here finds unicorn; known are bicycle, ")
    assert '"classes_unknown"' in ended(site)


def test_sections_that_an_agent_reads_only_at_its_start_are_named(site: Site) -> None:
    started(site)
    site.settings["spool"] = {"queue": 8}
    site.write()

    said = ask(site.folder / "state")

    assert said == "no camera changed; [spool] changed too, which an agent reads only when it starts: restart it"


def test_reload_without_an_agent_says_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edge", "reload", "--config", str(site.write())]) == 3

    assert "no agent runs on" in capsys.readouterr().err


def test_an_agent_whose_terminal_is_closed_ends_as_it_did_before(site: Site) -> None:
    command = ["-m", "culling.common.cli", "edge", "run", "--config", str(site.write())]
    holder = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(inferred(site)) == 2)

    status, _ = holder.communicate(timeout=30)

    assert int(status) in (0, signal.SIGHUP)


def test_what_changes_is_told_by_camera_and_section(site: Site) -> None:
    old = load_settings(site.write(), {})
    site.settings["camera"] = [camera(site, CAMERA, max_fps=5.0), camera(site, "yard"), camera(site, "hall")]
    site.settings["selector"] = {"window_s": 60.0}

    change = compare(old, load_settings(site.write(), {}))

    assert str(change) == (
        "added hall, yard; changed gate; removed ramp; "
        "[selector] changed too, which an agent reads only when it starts: restart it"
    )
    assert str(compare(old, old)) == "no camera changed"


def test_an_agent_that_ends_or_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        with only_one(tmp_path / LOCK, "agent"), pytest.raises(CullingError, match="no answer within"):
            ask(tmp_path, within_s=0.1)
        answer(tmp_path, "an older answer")
        with only_one(tmp_path / LOCK, "agent"), pytest.raises(CullingError, match="no answer within"):
            ask(tmp_path, within_s=0.1)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert (tmp_path / ANSWER).stat().st_mode & 0o077 == 0
