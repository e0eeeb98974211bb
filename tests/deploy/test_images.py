"""The Dockerfiles, without an engine: what they copy and install is there, and what they start runs as they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.cloud.settings import CloudSettings
from culling.common.config import load
from culling.common.process.health import HealthServer
from culling.edge.settings import EdgeSettings
from support.images import DOCKER, ROOT, Image, image, let_through
from support.site import free_port
from support.units import require_namespaces, script, unit
from support.waiting import wait_until

SIDES = ("edge", "cloud")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


@pytest.fixture(params=SIDES)
def built(request: pytest.FixtureRequest) -> Image:
    return image(request.param)


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
@pytest.mark.parametrize("side", SIDES)
def test_hadolint_finds_nothing(side: str) -> None:
    done = subprocess.run([str(HADOLINT), DOCKER / f"{side}.Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_that_is_copied_is_there_and_reaches_the_build(built: Image) -> None:
    copied = [path for line in built.all("COPY", stage=False) if "--from" not in line for path in line.split()[:-1]]
    for path in copied:
        assert (ROOT / path).exists(), path
        assert let_through(path), path
    packages = {where.partition("/")[0] for where in PROJECT_FOLDERS}
    assert {*packages, "pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]} <= set(copied)


PROJECT_FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()


@pytest.mark.parametrize(
    "path", [".git/config", "kit/edge.toml", "runs/demo/cloud/keys/signing.secret", ".venv/bin/pip"]
)
def test_no_secret_reaches_the_build(path: str) -> None:
    assert not let_through(path)
    assert not let_through("cloud/__pycache__/service.cpython-311.pyc")
    assert let_through("cloud/store/index.py")


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_it_installs_extras_that_there_are(built: Image, variant: str) -> None:
    [run] = [line for line in built.all("RUN", stage=False) if "pip install" in line]
    named = re.findall(r"(cpu|gpu)\) extra=([\w-]+)", run)
    extras = [dict(named)[variant], *filter(None, built.arguments().get("EXTRAS", "").split(","))]
    assert built.arguments()["VARIANT"] == "cpu"
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    assert "-c constraints.txt" in run


def test_it_takes_a_python_that_the_package_names(built: Image) -> None:
    assert f"Programming Language :: Python :: {built.arguments()['PYTHON']}" in PROJECT["classifiers"]


def test_it_is_not_root_and_owns_its_volume_alone(built: Image) -> None:
    assert built.all("USER") == ["10001:10001"]
    assert set(built.all("VOLUME")) <= built.folders
    assert built.environment["HOME"] in built.all("VOLUME")


def test_its_program_is_the_command_that_is_installed(built: Image) -> None:
    assert built.entrypoint == ["/opt/culling/bin/culling"]
    assert "culling" in PROJECT["scripts"]
    assert "python -m venv /opt/culling" in " ".join(built.all("RUN", stage=False))
    assert "--from=build /opt/culling /opt/culling" in built.all("COPY")


def test_its_variables_are_settings_and_its_ports_those_of_the_settings(
    built: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in built.environment.items():
        if name.startswith("CULLING_"):
            monkeypatch.setenv(name, value)
    if built.side == "edge":
        assert built.ports == {EdgeSettings.model_fields["metrics"].default.port}
        assert built.environment["CULLING_METRICS__PORT"] == str(*built.ports)
        return
    settings = load(CloudSettings, None)
    link = int(settings.service.endpoint.rpartition(":")[2])
    assert built.ports == {link, settings.metrics.port, settings.page.port}
    plain = CloudSettings(service={"data_dir": "."})
    assert (link, settings.metrics, settings.page) == (
        int(plain.service.endpoint.rpartition(":")[2]),
        plain.metrics.model_copy(update={"host": "0.0.0.0"}),
        plain.page.model_copy(update={"host": "0.0.0.0"}),
    )


def test_its_health_is_what_the_process_says_of_itself(built: Image) -> None:
    answers = iter([(True, "detecting"), (False, "stuck")])
    server = HealthServer("127.0.0.1", 0, CollectorRegistry(), lambda: next(answers))
    try:
        assert [healthy(built, server.port), healthy(built, server.port)] == [True, False]
    finally:
        server.close()
    assert not healthy(built, server.port), "nothing listens there any more"


def healthy(built: Image, port: int) -> bool:
    """Run the command of HEALTHCHECK as it stands, but for the interpreter."""
    python, *rest = built.health
    assert python == "/opt/culling/bin/python"
    told = {**os.environ, **built.environment, "PATH": os.environ["PATH"], "CULLING_METRICS__PORT": str(port)}
    return subprocess.run([sys.executable, *rest], env=told, capture_output=True, check=False).returncode == 0


def test_the_edge_starts_as_its_unit_does_which_a_test_runs_in_its_sandbox() -> None:
    started = unit("culling-edge")["ExecStart"].replace("%S", "/var/lib")
    assert started.split() == [*image("edge").entrypoint, *image("edge").command]


def test_the_cloud_starts_with_a_read_only_root_and_is_healthy(tmp_path: Path) -> None:
    require_namespaces()
    built, port = image("cloud"), free_port()
    state, etc = tmp_path / "state", tmp_path / "etc"
    state.mkdir(mode=0o700)
    etc.mkdir()
    told = {
        **{name: value for name, value in built.environment.items() if name != "PATH"},
        "CULLING_SERVICE__ENDPOINT": "tcp://*:0",
        "CULLING_METRICS__PORT": str(port),
        "CULLING_PAGE__PORT": "0",
        "CULLING_LABELLING__PER_DAY": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = " ".join(built.entrypoint + built.command)
    with (tmp_path / "log").open("w") as log:
        line = script(SANDBOX, state, etc, command)
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", line], cwd="/", env={**os.environ, **told}, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: healthy(built, port) or process.poll() is not None, 90)
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert (state / "index.sqlite").exists()
    finally:
        process.terminate()
        assert process.wait(30) == 0


SANDBOX = {
    **{"ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "NoNewPrivileges": "yes"},
    **{"StateDirectory": "culling", "StateDirectoryMode": "0700", "UMask": "0022"},
}
"""`--read-only --tmpfs /tmp` with a volume at /var/lib/culling, in the words of a unit."""
