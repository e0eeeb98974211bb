from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from culling.common.cli import main
from culling.common.wire.messages import HardFrame
from culling.common.wire.transport import public_key
from support.site import CloudEnd, Site, free_port, moving_clip
from support.waiting import wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.settings["metrics"]["port"] = free_port()
    moving_clip(tmp_path / "clip.mp4", frames=10)
    site.install_student()
    yield site
    site.close()


@pytest.fixture
def cloud(site: Site) -> Iterator[CloudEnd]:
    cloud = site.cloud()
    yield cloud
    cloud.close()


@pytest.fixture
def edge(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run `culling edge …` in this process; returns the exit code, what it printed, and its error line."""

    def edge(command: str, *flags: str) -> tuple[int, str, str]:
        code = main(["edge", command, "--config", str(site.write()), *flags])
        out, err = capsys.readouterr()
        assert site.secret not in out + err
        return code, out, err

    monkeypatch.setattr("culling.edge.cli.LOOK_S", 0.3)
    monkeypatch.setattr("culling.edge.check.MEASURE_S", 0.3)
    return edge


Edge = Callable[..., tuple[int, str, str]]


def test_check_tries_everything_and_says_ok(site: Site, cloud: CloudEnd, edge: Edge) -> None:
    code, out, _ = edge("check")

    assert code == 0
    tried = [line.split(maxsplit=1) for line in out.splitlines()]
    assert [result for result, _ in tried] == ["ok"] * 8
    assert [what.split(":")[0] for _, what in tried] == [
        "settings",
        "state",
        "provider",
        "student of gate",
        "camera gate",
        "pace",
        "families",
        "cloud",
    ]
    assert "160x128" in out


def test_check_goes_on_after_a_failure_and_ends_with_the_code_of_the_first(
    site: Site, cloud: CloudEnd, edge: Edge
) -> None:
    site.settings["camera"][0]["url"] = "rtsp://user:hunter2@127.0.0.1:1/none"
    site.settings["camera"].append({"name": "yard", "url": str(site.folder / "clip.mp4")})

    code, out, _ = edge("check")

    failed = [line for line in out.splitlines() if line.startswith("failed")]
    assert code == 4
    assert failed[0].startswith("failed  camera gate: rtsp://***@127.0.0.1:1/none: ")
    assert len(failed) == 1
    assert "student of yard: none installed" in out, "it has no manifest: the cloud will send one"
    assert "hunter2" not in out
    assert out.splitlines()[-1].startswith("ok      cloud")


def test_check_says_that_nothing_can_be_kept(site: Site, cloud: CloudEnd, edge: Edge) -> None:
    in_the_way = site.folder / "file"
    in_the_way.touch()
    for folder in (in_the_way, in_the_way / "state", Path("/proc/none")):
        code, out, _ = edge("check", "--set", f"agent.state_dir={folder}")
        assert code == 7
        assert f"failed  state: agent.state_dir: {folder} is not writable" in out


def test_check_warns_of_a_place_whose_classes_no_student_finds(site: Site, cloud: CloudEnd, edge: Edge) -> None:
    place = {"polygon": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], "classes": ["person", "unicorn"]}
    site.settings["camera"][0] |= {"ignore": [place], "zone": [{"name": "yard", **place}]}

    code, out, _ = edge("check")

    warned = [line for line in out.splitlines() if line.startswith("warning")]
    assert code == 0
    assert [line.partition(": ")[0] for line in warned] == [
        "warning camera.0.ignore.0.classes",
        "warning camera.0.zone.0.classes",
    ]
    assert all(": no student here finds unicorn; known are bicycle, " in line for line in warned)


def test_check_says_beforehand_that_a_student_is_too_slow_for_its_cameras(
    site: Site, cloud: CloudEnd, edge: Edge
) -> None:
    site.install_student(turns=4000)

    code, out, _ = edge("check", "--set", "agent.threads=1")

    [line] = [line for line in out.splitlines() if " pace: " in line]
    assert code == 0, "it detects, if not every frame"
    assert line.startswith("warning pace: keeping up: ")
    assert " of 25 frames/s; a frame takes the student " in line
    assert "max_fps" in line
    assert "student.int8" in line


def test_check_times_both_families_at_the_cameras_size_and_rate_without_a_model_of_either(
    site: Site, cloud: CloudEnd, edge: Edge
) -> None:
    del site.settings["student"]
    moving_clip(site.folder / "clip.mp4", frames=10, width=640, height=480)

    code, out, _ = edge("check", "--set", "agent.threads=1")

    [line] = [line for line in out.splitlines() if " families: " in line]
    assert code == 0
    told = re.match(r"ok      families: faster-rcnn-resnet18 .*frames/s, (\d+) ms a frame; yolox .*, (\d+) ms", line)
    assert told is not None, line
    assert " of 25 frames/s, " in line
    assert int(told[1]) > 3 * int(told[2]), "the small one takes a fraction of the time"


def test_a_camera_that_asks_for_less_is_kept_up_with(site: Site, cloud: CloudEnd, edge: Edge) -> None:
    site.settings["camera"][0]["max_fps"] = 0.5

    _, out, _ = edge("check")

    assert "ok      pace: keeping up: 0.5 of 0.5 frames/s" in out


def test_check_tells_a_key_that_the_cloud_does_not_know_from_a_cloud_that_is_not_there(
    site: Site, cloud: CloudEnd, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.edge.check.HANDSHAKE_S", 0.5)
    cloud.close()
    code, out, _ = edge("check")
    assert (code, out.splitlines()[-1].endswith("and that the service runs")) == (6, True)

    stern = CloudEnd(cloud.endpoint, site.server_secret, edge_key="someone else")
    monkeypatch.setattr("culling.edge.check.HANDSHAKE_S", 10.0)
    code, out, _ = edge("check")
    stern.close()
    assert (code, "refused by the cloud: this edge was revoked" in out.splitlines()[-1]) == (6, True)


def test_check_refuses_the_cpu_where_the_settings_do(
    site: Site, cloud: CloudEnd, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

    code, out, _ = edge("check", "--no-allow-cpu")

    assert code == 5
    assert "failed  provider" in out
    assert "--allow-cpu" in out


def test_check_refuses_a_settings_file_that_others_may_read(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edge", "check", "--config", str(site.write(mode=0o644))]) == 2

    assert "chmod 600" in capsys.readouterr().err


def test_a_wrong_setting_is_one_line_and_code_2(edge: Edge) -> None:
    code, _, err = edge("run", "--set", "agent.trheads=2")

    assert code == 2
    assert len(err.splitlines()) == 1
    assert "agent.trheads" in err


@pytest.mark.parametrize("pair", ["agent.drain_s", "=5", "agent"])
def test_an_override_that_is_no_pair_is_refused(edge: Edge, pair: str) -> None:
    code, _, err = edge("check", "--set", pair)

    assert code == 2
    assert "KEY=VALUE" in err


def test_a_list_is_overridden_as_json(site: Site, edge: Edge) -> None:
    code, _, err = edge("status", "--set", 'confidence.interest=["car", "bus"]')
    assert code == 3, "no agent answers, but the setting is taken"
    assert "interest" not in err

    code, _, err = edge("status", "--set", "confidence.interest=car,bus")
    assert code == 2
    assert "confidence.interest" in err
    assert "JSON" in err


def test_status_of_an_agent_that_does_not_run_says_so(site: Site, edge: Edge) -> None:
    code, _, err = edge("status")

    assert code == 3
    assert "culling edge run" in err


def test_status_shows_what_a_running_agent_has_counted(site: Site, cloud: CloudEnd, edge: Edge) -> None:
    site.settings["camera"][0]["loop"] = True
    site.start()
    cloud.receive(HardFrame)
    wait_until(lambda: "camera_state_changed" in site.log())

    code, out, _ = edge("status", "--json")
    [row] = json.loads(out)
    table = edge("status")[1]

    assert code == 0
    assert row["camera"] == "gate"
    assert row["forwarded"] >= 1
    assert 0 < row["rate"] <= 1
    assert row["inferred"] <= row["seen"]
    assert row["cloud"] == "connected"
    assert row["keeping up"].endswith("frames/s")
    assert table.split()[:2] == ["camera", "gate"]
    site.processes[-1].send_signal(signal.SIGKILL)


def test_status_says_that_a_student_does_not_keep_up_and_what_to_do(site: Site, cloud: CloudEnd, edge: Edge) -> None:
    site.install_student(turns=4000)
    site.settings["camera"][0]["loop"] = True
    site.start()
    cloud.receive(HardFrame, within_s=60)

    taken, came = 1.0, 0.0
    deadline = time.monotonic() + 30
    while taken >= 0.8 * came and time.monotonic() < deadline:
        _, out, _ = edge("status")
        [line] = [line for line in out.splitlines() if line.strip().startswith("keeping up")]
        if " of " in line:
            taken, came = (float(word) for word in line.split() if word.replace(".", "").isdigit())

    assert taken < 0.8 * came, out
    assert "camera gate: the student is too slow for its cameras on this machine: set the camera's max_fps to" in out


def test_keypair_prints_keys_that_an_output_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edge", "keypair"]) == 0
    told = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert told.keys() == {"public", "secret"}
    assert public_key(told["secret"]) == told["public"]
