from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from culling.cloud.control.executor import check_executor
from culling.cloud.control.ray.cluster import require_reach
from culling.cloud.settings import CloudSettings, load_settings, to_toml
from culling.common.errors import SettingsError, StorageError
from support.ray_head import RayHead

POSTGRES = "postgresql+psycopg://culling@db/culling"


def settings_of(folder: Path, **sections: dict[str, object]) -> CloudSettings:
    (folder / "cloud.toml").write_text("")
    given = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
    return load_settings(folder / "cloud.toml", {"service.data_dir": str(folder / "data"), **given})


def check(folder: Path, address: str) -> None:
    """Do what a service does when it starts."""
    settings = settings_of(folder, executor={"kind": "ray", "address": address})
    (folder / "round.toml").write_bytes(to_toml(settings))
    check_executor(folder / "round.toml", settings)


def use(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_cluster_that_asks_for_a_token_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: RayHead
) -> None:
    use(monkeypatch, head.environment)
    check(tmp_path, head.address)


@pytest.mark.parametrize("mode", ["", "disabled"])
def test_a_service_that_would_show_no_token_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: RayHead, mode: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(SettingsError, match=r"executor.kind is ray, but RAY_AUTH_MODE is not token: whoever .*"):
        check(tmp_path, head.address)


def test_a_cluster_that_asks_nobody_for_a_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = RayHead(token=False)
    use(monkeypatch, open_to_all.environment)
    with pytest.raises(SettingsError, match=r"the cluster at .* asks for no token"):
        check(tmp_path, open_to_all.address)
    open_to_all.close()


def test_a_cluster_of_this_machine_alone_reaches_the_data_folder(tmp_path: Path) -> None:
    require_reach(settings_of(tmp_path), [])


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ({}, "cannot reach the index in the data folder: set store.url to a PostgreSQL, or run the cluster on this"),
        ({"url": POSTGRES}, "cannot reach the pictures in the data folder: set store.objects to a bucket, or run"),
    ],
)
def test_other_machines_need_an_index_and_pictures_that_they_reach(
    tmp_path: Path, store: dict[str, object], told: str
) -> None:
    with pytest.raises(SettingsError, match=rf"the cluster has other nodes \(10.0.0.1, .*3, …\), .*{told}"):
        require_reach(settings_of(tmp_path, store=store), [f"10.0.0.{number}" for number in range(1, 5)])


def test_with_both_elsewhere_any_machine_will_do(tmp_path: Path) -> None:
    require_reach(settings_of(tmp_path, store={"url": POSTGRES, "objects": "s3://bucket/a"}), ["10.0.0.1"])


def test_a_head_that_takes_the_connection_and_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32})
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings = settings_of(tmp_path, executor={"kind": "ray", "address": f"127.0.0.1:{mute.getsockname()[1]}"})
        (tmp_path / "round.toml").write_bytes(to_toml(settings))
        script = """
import sys
from pathlib import Path
from culling.cloud.control.ray import cluster
from culling.cloud.settings import load_settings
cluster.JOIN_S = 1.0
with cluster.joined(load_settings(Path(sys.argv[1]), {})):
    pass
"""
        command = [sys.executable, "-c", script, str(tmp_path / "round.toml")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == StorageError.exit_code, ended.stderr
    assert "within 1 s" in ended.stdout + ended.stderr
