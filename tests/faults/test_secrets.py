"""A11: after every error path, no secret stands in a log, a metric, a crash, a print, or a file others may read."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from culling.common.cli import main
from culling.common.wire.messages import Ack, Nack, Refused
from culling.common.wire.transport import new_keypair
from support.cloud import CAMERA, CloudState, Edge, ServiceProcess, hard_frame
from support.http import Stream, fetch
from support.rtsp import RtspServer
from support.scrape import Scrape
from support.site import Site, free_port, moving_clip
from support.waiting import wait_until

pytestmark = pytest.mark.fault
PASSWORD = "hunter2/p@ss"
TOKEN = "t0k3n-of-a-camera"


@pytest.fixture
def culling(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command; returns all that it printed."""

    def run(*arguments: str, **environment: str) -> str:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            main(list(arguments))
        told = capfd.readouterr()
        return told.out + told.err

    return run


def apart(*arguments: str) -> str:
    """As `culling`, in a process of its own, for what takes over signals and threads."""
    command = [sys.executable, "-m", "culling.common.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode
    return done.stdout + done.stderr


def assert_private(folder: Path, secrets: set[str]) -> None:
    """Fail where a file that others may read holds a secret."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".mp4":
            data = path.read_bytes()
            if any(secret.encode() in data for secret in secrets):
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a11_nothing_an_edge_says_or_writes_holds_a_secret(
    tmp_path: Path, culling: Callable[..., str], new_site: Callable[..., Site]
) -> None:
    moving_clip(tmp_path / "clip.mp4", 40)
    site = new_site(tmp_path)
    site.install_student()
    site.install_student("dead")
    for name in ("mute", "broken", "web"):
        site.install_student(name)
    said: list[str] = []
    with RtspServer("mute") as mute, RtspServer("garbage") as broken:
        nobody = f"127.0.0.1:{free_port()}"
        site.settings["agent"]["log_level"] = "debug"
        site.settings["camera"] = [
            {"name": CAMERA, "url": str(tmp_path / "clip.mp4"), "loop": True},
            {"name": "dead", "url": f"rtsp://admin:{PASSWORD}@{nobody}/stream", "open_timeout_s": 0.5},
            {"name": "mute", "url": mute.url.replace("s3cret", PASSWORD), "open_timeout_s": 0.5},
            {"name": "broken", "url": broken.url.replace("s3cret", PASSWORD.replace("/", "").replace("@", ""))},
            {"name": "web", "url": f"http://{nobody}/video.mjpeg?token={TOKEN}"},
        ]
        hook = f"http://user:{PASSWORD.replace('/', '').replace('@', '')}@{nobody}/hook?token={TOKEN}"
        site.settings["output"] = [
            {"kind": "webhook", "url": hook, "secret": f"{TOKEN}-key"},
            {"kind": "mqtt", "url": f"mqtt://yard@{nobody}", "secret": TOKEN},
        ]
        site.settings["cloud"]["server_key"] = new_keypair()[0]  # another cloud's
        site.cloud().close()
        agent = site.start()
        wait_until(lambda: "agent_started" in site.log())
        health = Scrape.of_agent(tmp_path / "agent.log")
        wait_until(lambda: health.sum("reconnects_total", camera="mute") >= 1)
        wait_until(lambda: health.sum("reconnects_total", camera="dead") >= 1)
        said += [health.text("/metrics"), repr(health.ready()), health.text("/healthz")]
        toml = str(site.folder / "edge.toml")
        said.append(culling("edge", "status", "--config", toml, "--set", f"metrics.port={health.address[-5:]}"))
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0
        said.append(culling("edge", "check", "--config", toml))
    said.append(culling("print-config", "edge", "--config", toml))
    said.append(apart("edge", "run", "--config", toml, "--set", "agent.state_dir=/proc/nowhere"))
    said.append(culling("edge", "run", "--config", toml, "--set", "cloud.secret_key=not-" + site.secret))
    said.append(culling("edge", "run", "--config", toml, "--set", "cloud.secret_kee=" + site.secret))
    said.append(culling("edge", "run", "--config", toml, CULLING_CLOUD__SECRET_KEY=site.secret + "x"))
    said.append(culling("edge", "run", "--config", toml, CULLING_CLOUD='{"secret_key": "' + site.secret))
    (tmp_path / "edge.toml").chmod(0o644)
    said.append(culling("edge", "run", "--config", toml))
    assert "chmod 600" in said[-1]
    (tmp_path / "edge.toml").chmod(0o600)

    secrets = {site.secret, PASSWORD, "hunter2", "p@ss", TOKEN}
    for text in (site.log(), *said):
        assert text
        for secret in secrets:
            assert secret not in text, text[max(0, text.index(secret) - 300) :][:600]
    assert "***" in site.log(), "the addresses themselves are told"
    assert_private(tmp_path, secrets)


def page_says(cloud: CloudState) -> list[str]:
    """Return all that the page says, to whoever holds its token and to whoever does not."""
    url = (cloud.data_dir / "page").read_text().strip()
    token = (cloud.data_dir / "page.token").read_text().strip()
    mine = f"/api/cameras/{CAMERA}"
    paths = ("/", "/api/fleet", mine, f"{mine}/frames", f"{mine}/models", "/api/rounds", "/api/actions", "/api/none")
    answers = [fetch(f"{url}{path}") for path in paths]
    for given in (token, token + "x", ""):
        bearer = {"Authorization": f"Bearer {given}"}
        answers.append(fetch(f"{url}/api/actions", **bearer))
        answers.append(fetch(f"{url}/api/actions", "POST", {"kind": "hold", "camera": "nobody"}, **bearer))
        answers.append(fetch(f"{url}/api/actions", "POST", b"{" + token.encode(), **bearer))
    assert {answer.status for answer in answers} >= {200, 401, 404, 422}
    stream = Stream(url)
    told = repr(stream.next())
    stream.close()
    return [told, *(repr(answer.headers) + answer.body.decode() for answer in answers)]


def test_a11_nothing_the_cloud_says_or_writes_holds_a_secret(tmp_path: Path, culling: Callable[..., str]) -> None:
    page = {"port": 0, "actions": True}
    cloud = CloudState(tmp_path, schedule={"hold": True}, service={"log_level": "debug"}, page=page)
    secret = cloud.enroll()
    cloud.publisher.publish(CAMERA, cloud.artefact(), "base")
    config = ("--config", str(cloud.toml))
    said: list[str] = []
    with ServiceProcess(cloud) as service:
        stranger = Edge(service.endpoint, cloud.keys.curve_public, new_keypair()[1])
        wait_until(lambda: stranger.socket.poll(0.05) is not None or stranger.socket.failure == "refused")
        edge = Edge(service.endpoint, cloud.keys.curve_public, secret)
        frame, jpeg = hard_frame(1)
        edge.ask(frame, Ack, payload=jpeg)
        edge.ask(frame, Nack, payload=jpeg + secret.encode())
        edge.send_parts([b"\x01" + secret.encode()])
        edge.receive(Refused)
        health = Scrape((cloud.data_dir / "metrics").read_text().strip())
        said += [health.text("/metrics"), repr(health.ready()), *page_says(cloud)]
        for command in (
            ("status",),
            ("rounds",),
            ("rollback", CAMERA),
            ("publish", CAMERA, str(cloud.toml)),
            ("serve",),
        ):
            said.append(culling("cloud", *command, *config))
        (cloud.data_dir / "index.sqlite").chmod(0o600)
        edge.close()
        stranger.close()
        assert service.terminate() == 0
    said.append(culling("cloud", "fsck", *config))
    said.append(culling("print-config", "cloud", *config, CULLING_STORE__URL=f"postgresql://u:{PASSWORD}@db/x"))
    said.append(culling("cloud", "status", *config, "--set", f"store.url=postgresql://u:{PASSWORD}@127.0.0.1:1/x"))
    said.append(culling("cloud", "status", *config, "--set", f"store.url=nonsense://u:{PASSWORD}@127.0.0.1:1/x"))
    keys = cloud.data_dir / "keys"
    secrets = {secret, PASSWORD, "hunter2", *((keys / f"{name}.secret").read_text() for name in ("curve", "signing"))}
    secrets.add((cloud.data_dir / "page.token").read_text().strip())
    for name in ("curve", "signing"):
        path = keys / f"{name}.secret"
        path.chmod(0o640)
        said.append(apart("cloud", "serve", *config))
        assert "chmod 600" in said[-1]
        path.chmod(0o600)
        kept = path.read_text()
        path.write_text(kept[:-3] + "~~~")
        said.append(apart("cloud", "serve", *config))
        assert kept[:-3] not in said[-1]
        path.write_text(kept)
    for text in (service.log(), *said):
        assert text
        for one in secrets:
            assert one not in text, text[max(0, text.index(one) - 300) :][:600]
    assert_private(tmp_path, secrets)
    cloud.close()
