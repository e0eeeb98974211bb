from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

import pytest

from culling.common.config import print_config
from culling.common.errors import SettingsError
from culling.edge.settings import ConfidenceSettings, EdgeSettings, load_settings
from support.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def refused(site: Site) -> str:
    with pytest.raises(SettingsError) as raised:
        load_settings(site.write(), {})
    assert "\n" not in str(raised.value)
    assert site.secret not in str(raised.value)
    return str(raised.value)


def test_few_settings_are_enough(site: Site) -> None:
    settings = load_settings(site.write(), {})

    assert settings.agent.state_dir == site.folder / "state"
    assert settings.camera[0].name == "gate"
    assert settings.confidence.policy == "paper"
    assert settings.selector.policy == "culling"
    assert settings.student.initial is None
    assert settings.student.manifest("gate") is None


def test_a_flag_wins_over_a_variable_which_wins_over_the_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CULLING_AGENT__DRAIN_S", "7")
    monkeypatch.setenv("CULLING_AGENT__THREADS", "2")

    settings = load_settings(site.write(), {"agent.drain_s": 9, "agent.allow_cpu": None})

    assert settings.agent.drain_s == 9
    assert settings.agent.threads == 2
    assert settings.agent.allow_cpu is True


def test_an_unknown_key_is_named(site: Site) -> None:
    site.settings["agent"]["treads"] = 2

    assert "agent.treads" in refused(site)


@pytest.mark.parametrize("section", ["agent", "cloud", "camera"])
def test_a_missing_section_is_named(site: Site, section: str) -> None:
    del site.settings[section]

    assert section in refused(site)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("agent", "threads", -1),
        ("agent", "log_level", "chatty"),
        ("agent", "drain_s", "soon"),
        ("cloud", "endpoint", "http://cloud:5577"),
        ("cloud", "endpoint", "tcp://cloud"),
        ("cloud", "endpoint", "tcp://::1:5577"),
        ("cloud", "server_key", "short"),
        ("cloud", "signing_keys", []),
        ("cloud", "upload_bytes_per_s", -1),
        ("spool", "max_bytes", 1),
        ("spool", "jpeg_quality", 101),
        ("metrics", "port", 70_000),
        ("confidence", "policy", "guess"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(site: Site, section: str, key: str, value: object) -> None:
    site.settings.setdefault(section, {})[key] = value

    assert f"{section}.{key}" in refused(site)


def test_a_wrong_secret_key_is_named_but_never_shown(site: Site) -> None:
    site.settings["cloud"]["secret_key"] = site.secret = "hunter2-hunter2"

    assert "cloud.secret_key" in refused(site)


def test_a_signing_key_of_another_length_is_refused(site: Site) -> None:
    site.settings["cloud"]["signing_keys"] = ["c2hvcnQ="]

    assert "cloud.signing_keys" in refused(site)


@pytest.mark.parametrize("name", ["a..b", "..", "a/b", "-a", ""])
def test_a_name_that_the_wire_would_refuse_is_refused_here(site: Site, name: str) -> None:
    site.settings["camera"][0]["name"] = name

    assert "camera.0.name" in refused(site)


def test_no_interest_named_is_interest_in_every_class(site: Site) -> None:
    site.settings["confidence"] = {"interest": []}

    assert load_settings(site.write(), {}).confidence == ConfidenceSettings()


def test_two_cameras_may_not_share_a_name(site: Site) -> None:
    site.settings["camera"].append(dict(site.settings["camera"][0]))

    assert "'gate'" in refused(site)


def test_every_camera_has_its_own_manifest_beside_the_initial_model(site: Site) -> None:
    site.settings["student"] = {"initial": "/models/start.onnx"}

    settings = load_settings(site.write(), {})

    assert settings.student.manifest("gate") == Path("/models/start.gate.manifest")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_is_refused(site: Site, mode: int) -> None:
    with pytest.raises(SettingsError, match="chmod 600"):
        load_settings(site.write(mode), {})


def test_a_secret_behind_a_byte_order_mark_is_still_one(site: Site) -> None:
    path = site.write(0o644)
    path.write_bytes(BOM_UTF8 + path.read_bytes())
    with pytest.raises(SettingsError, match="chmod 600"):
        load_settings(path, {})


def test_a_file_without_a_secret_may_be_read_by_all(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CULLING_CLOUD__SECRET_KEY", site.settings["cloud"].pop("secret_key"))

    settings = load_settings(site.write(0o644), {})

    assert settings.cloud.secret_key.get_secret_value() == site.secret


def test_a_cameras_password_is_a_secret_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CULLING_CLOUD__SECRET_KEY", site.settings["cloud"].pop("secret_key"))
    site.settings["camera"][0]["url"] = "rtsp://user:hunter2@gate.local/stream"

    with pytest.raises(SettingsError, match="holds a camera's password but its mode is 0644") as raised:
        load_settings(site.write(0o644), {})

    assert "hunter2" not in str(raised.value)
    assert load_settings(site.write(0o600), {}).camera[0].name == "gate"


def test_no_such_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml", {})


def test_printed_settings_hide_the_secret(site: Site) -> None:
    printed = print_config(load_settings(site.write(), {}))

    assert site.secret not in printed
    assert "**********" in printed


def test_nothing_changes_after_loading(site: Site) -> None:
    settings: EdgeSettings = load_settings(site.write(), {})

    with pytest.raises(ValueError, match="frozen"):
        settings.agent.threads = 5


def test_a_teacher_that_is_asked_about_records_wants_an_output_that_has_them(site: Site) -> None:
    site.settings["cascade"] = {"per_minute": 20}
    assert "cascade.per_minute" in refused(site)
    site.settings["output"] = [{"name": "records", "kind": "jsonl", "path": str(site.folder / "records.jsonl")}]
    assert load_settings(site.write(), {}).cascade.per_minute == 20
