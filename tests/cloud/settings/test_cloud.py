from __future__ import annotations

import stat
from pathlib import Path

import pytest

from culling.cloud.settings import CloudSettings, load_settings, sqlite_url, to_toml
from culling.cloud.store.index import Index
from culling.common.config import print_config
from culling.common.errors import SettingsError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_data_folder_is_all_that_must_be_said(tmp_path: Path) -> None:
    settings = load_settings(None, {"service.data_dir": tmp_path / "state"})
    assert settings.store_url == sqlite_url(tmp_path / "state" / "index.sqlite")
    assert settings.round.kept == 128
    assert not settings.schedule.hold


def test_the_data_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    settings = load_settings(None, {"service.data_dir": tmp_path / "a" / "b"})
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    with pytest.raises(SettingsError, match=r"service\.data_dir: cannot make"):
        load_settings(None, {"service.data_dir": tmp_path / "file" / "state"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "service.data_dir is missing"),
        ('[service]\ndata_dir = "x"\nport = 1', "service.port is not a setting"),
        ('[service]\ndata_dir = "x"\n[round]\nkept = "many"', "round.kept"),
        ('[service]\ndata_dir = "x"\n[round]\ninterest = ["unicorn"]', "round: interest: unicorn"),
        ('[service]\ndata_dir = "x"\n[round]\nreplay_share = 1.0', "round.replay_share"),
        ('[service]\ndata_dir = "x"\n[round]\nheld_out = 3', "gate"),
        ('[service]\ndata_dir = "x"\n[round]\nkept = 129', "kept is 129, but schedule.min_new is 256"),
        ('[service]\ndata_dir = "x"\n[schedule]\nmin_new = 128', "round.kept to 64, or raise schedule.min_new to 256"),
        ('[service]\ndata_dir = "x"\n[round]\nint8_steps = 9', "int8_steps is 9, but students are shipped in floats"),
        ('[service]\ndata_dir = "x"\n[round]\nfactor = 4', "round.factor"),
        ('[service]\ndata_dir = "x"\nendpoint = "udp://*:1"', "service.endpoint"),
        ('[service]\ndata_dir = "x"\nendpoint = "tcp://::1:1"', "service.endpoint"),
        ('[service]\ndata_dir = "x"\n[schedules]\nhold = true', "did you mean schedule?"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(write(tmp_path / "cloud.toml", text), {})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_environment_overrides_the_file_and_flags_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "cloud.toml", f'[service]\ndata_dir = "{tmp_path}"\n[round]\nkept = 1\nbatch = 1')
    monkeypatch.setenv("CULLING_ROUND__KEPT", "2")
    monkeypatch.setenv("CULLING_ROUND__BATCH", "2")
    settings = load_settings(path, {"round.batch": 3})
    assert (settings.round.kept, settings.round.batch) == (2, 3)


def test_what_a_child_process_is_given_reads_back_the_same(tmp_path: Path) -> None:
    flags = {"service.data_dir": tmp_path, "round.lr": 0.003, "store.url": "postgresql://u:secret@db/culling"}
    settings = load_settings(None, flags)
    (tmp_path / "child.toml").write_bytes(to_toml(settings))
    assert load_settings(tmp_path / "child.toml", {}) == settings


def test_printed_settings_hide_the_password_of_the_database(tmp_path: Path) -> None:
    settings = load_settings(None, {"service.data_dir": tmp_path, "store.url": "postgresql://u:secret@db/culling"})
    assert isinstance(settings, CloudSettings)
    assert "secret" not in print_config(settings)


@pytest.mark.parametrize("name", ["da?ta", "a%41#b", "a b&mode=ro", "Überwachung"])
def test_the_index_lies_in_the_data_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    settings = load_settings(None, {"service.data_dir": str(folder)})
    Index(settings.store_url).close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "index.sqlite").stat().st_size > 0


def test_to_distil_without_room_for_features_is_refused(tmp_path: Path) -> None:
    chosen = {"service.data_dir": tmp_path, "store.features_bytes": 0}
    assert load_settings(None, chosen).store.features_bytes == 0
    with pytest.raises(SettingsError, match=r"round: distil is on, but store.features_bytes is 0"):
        load_settings(None, chosen | {"round.distil": True})
