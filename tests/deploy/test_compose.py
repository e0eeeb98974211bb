"""Both compose files, as Docker Compose reads them, beside the images and programs that they start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from culling.common.config import load
from culling.edge.settings import EdgeSettings
from support.deployed import composed, needs_compose, unknown_variables, unknown_words
from support.images import ROOT, image

pytestmark = needs_compose

SECRETS = dict.fromkeys(("POSTGRES_PASSWORD", "S3_KEY", "S3_SECRET", "RAY_TOKEN", "GRAFANA_PASSWORD"), "open")
FILES = ("compose.yaml", "compose.cluster.yaml")


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def whole(file: str) -> dict[str, Any]:
    return composed(file, SECRETS)


def ours(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in whole["services"].items() if one["image"].startswith("culling-")}


def side(service: dict[str, Any]) -> str:
    return "edge" if service["image"].startswith("culling-edge") else "cloud"


def commands(service: dict[str, Any]) -> list[list[str]]:
    """What a service runs of our program, each as its arguments."""
    built = image(side(service))
    line = (service["entrypoint"] or built.entrypoint) + (service["command"] or built.command)
    if line[0] == built.entrypoint[0]:
        return [line[1:]]
    return [found.split() for found in re.findall(r"/opt/culling/bin/culling ([^;\n]+)", line[-1])]


def test_our_containers_run_with_a_read_only_root_and_no_privileges(whole: dict[str, Any]) -> None:
    assert len(ours(whole)) >= 3
    for name, one in ours(whole).items():
        assert one["read_only"], name
        assert one["tmpfs"] == ["/tmp"], name
        assert one["init"], f"{name}: children that end would stay as zombies"
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert "user" not in one, f"{name}: the image's"


def test_what_they_run_are_commands_and_what_they_are_told_are_settings(whole: dict[str, Any]) -> None:
    for name, one in ours(whole).items():
        for arguments in commands(one):
            assert unknown_words(arguments) == [], name
        assert unknown_variables(side(one), one.get("environment", {})) == [], name


def test_volumes_lie_where_the_image_made_a_folder_for_its_user(whole: dict[str, Any]) -> None:
    for name, one in ours(whole).items():
        named = [volume["target"] for volume in one.get("volumes", []) if volume["type"] == "volume"]
        assert set(named) <= image(side(one)).folders, f"{name}: it would belong to root"


def test_files_that_are_bound_are_there_and_read_only(whole: dict[str, Any]) -> None:
    bound = [volume for one in whole["services"].values() for volume in one.get("volumes", [])]
    for volume in bound:
        if volume["type"] == "bind":
            assert Path(volume["source"]).exists(), volume
            assert volume["read_only"], volume


def test_what_has_no_password_is_published_to_this_host_alone(whole: dict[str, Any]) -> None:
    for name, one in whole["services"].items():
        for port in one.get("ports", []):
            assert port["target"] == 5577 or port["host_ip"] == "127.0.0.1", f"{name} {port}"


def test_what_a_service_waits_for_can_come_true(whole: dict[str, Any]) -> None:
    for name, one in whole["services"].items():
        for other, wanted in one.get("depends_on", {}).items():
            awaited = whole["services"][other]
            if wanted["condition"] == "service_completed_successfully":
                assert awaited["restart"] == "no", f"{name} waits for the end of {other}"
            elif wanted["condition"] == "service_healthy":
                assert "healthcheck" in awaited or awaited in ours(whole).values(), f"{name} waits for {other}"


def test_the_cluster_has_several_of_what_must_not_fail_and_no_secret_of_its_own() -> None:
    whole = composed("compose.cluster.yaml", SECRETS)
    replicas = {name: one["deploy"]["replicas"] for name, one in ours(whole).items() if "deploy" in one}
    assert replicas == {"ingest": 3, "control": 2, "page": 2, "ray-worker": 2}
    for name in SECRETS:
        with pytest.raises(ValueError, match=name):
            composed("compose.cluster.yaml", {**SECRETS, name: ""})


def test_every_role_has_the_same_keys_and_the_same_store() -> None:
    whole = composed("compose.cluster.yaml", SECRETS)["services"]
    for name in ("ingest", "control", "page", "migrate"):
        assert [one["source"] for one in whole[name]["volumes"]] == ["keys"]
    for name in ("control", "page", "migrate", "ray-head", "ray-worker"):
        assert whole["ingest"]["environment"].items() <= whole[name]["environment"].items(), name


def test_what_is_written_into_other_programs_parses() -> None:
    contents = {name: one["content"] for name, one in composed("compose.cluster.yaml", SECRETS)["configs"].items()}
    [identity] = json.loads(contents["s3"])["identities"]
    assert identity["credentials"] == [{"accessKey": "open", "secretKey": "open"}]
    [source] = yaml.safe_load(contents["datasource"])["datasources"]
    dashboard = json.loads((ROOT / "deploy/grafana/culling.json").read_text())
    assert source["type"] in {one.get("query") for one in dashboard["templating"]["list"]}
    assert yaml.safe_load(contents["dashboards"])["providers"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="prometheus is not installed")
def test_prometheus_reads_what_it_is_given_for_the_cluster() -> None:
    config = ROOT / "deploy/prometheus/cluster.yml"
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [job] = yaml.safe_load(config.read_text())["scrape_configs"]
    [found] = job["dns_sd_configs"]
    assert found["port"] in image("cloud").ports
    assert set(found["names"]) <= composed("compose.cluster.yaml", SECRETS)["services"].keys()


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service `kit` lays into the edge's volume, when it runs twice; of the small student, to be quick."""
    folder = tmp_path_factory.mktemp("compose")
    kit = folder / "kit"
    kit.mkdir()
    script = composed("compose.yaml", {})["services"]["kit"]["command"][-1].replace("/var/lib/culling-edge", str(kit))
    script = script.replace("/opt/culling/bin/culling", f"{sys.executable} -m culling.common.cli")
    told = {"CULLING_SERVICE__DATA_DIR": str(folder / "cloud"), "CULLING_STUDENT__FAMILY": "yolox"}
    seen = []
    for _ in range(2):
        subprocess.run(["/bin/sh", "-euc", script], env={**os.environ, **told}, check=True, cwd=folder)
        seen.append((kit / "edge.toml").read_text())
    assert seen[0] == seen[1], "a new key would end the old one"
    return kit


@pytest.mark.parametrize("url", ["", "rtsp://user:password@10.0.0.21/stream1"])
def test_the_edge_takes_the_kit_and_plays_what_it_is_told_to(
    url: str, kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = composed("compose.yaml", {"CAMERA_URL": url} if url else {})["services"]["edge"]
    for name, value in edge["environment"].items():
        monkeypatch.setenv(name, value)

    settings = load(EdgeSettings, kit / "edge.toml")

    [camera] = settings.camera
    [clip] = [one for one in edge["volumes"] if one["target"] == "/clip"]
    assert settings.cloud.endpoint == "tcp://cloud:5577"
    assert camera.url == (url or "/clip/campus.mp4")
    assert (Path(clip["source"]) / "campus.mp4").is_file()
