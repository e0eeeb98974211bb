from __future__ import annotations

import base64
import stat
import threading
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest

from culling.cloud.settings import ServiceSettings, load_settings, to_toml
from culling.cloud.store.keys import (
    CloudKeys,
    curve_secret_of,
    keys_of,
    load_keys,
    page_token_of,
    signing_key_of,
)
from culling.common.config import print_config
from culling.common.errors import SettingsError, StorageError


def test_keys_are_made_once_and_stay(tmp_path: Path) -> None:
    first, second = load_keys(tmp_path), load_keys(tmp_path)
    assert first.curve_secret == second.curve_secret
    assert first.signing_public == second.signing_public
    assert len(base64.b64decode(first.signing_public)) == 32


@pytest.mark.parametrize("name", ["curve.secret", "signing.secret"])
def test_a_byte_order_mark_before_a_key_is_no_damage(tmp_path: Path, name: str) -> None:
    made, path = load_keys(tmp_path), tmp_path / "keys" / name
    path.write_bytes(BOM_UTF8 + path.read_bytes())
    again = load_keys(tmp_path)
    assert (again.curve_secret, again.signing_public) == (made.curve_secret, made.signing_public)


def test_key_files_are_their_owners_alone(tmp_path: Path) -> None:
    load_keys(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert modes == {"curve.secret": 0o600, "signing.secret": 0o600}


@pytest.mark.parametrize("name", ["curve.secret", "signing.secret"])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, name: str) -> None:
    load_keys(tmp_path)
    (tmp_path / "keys" / name).chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_keys(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("curve.secret", "short"), ("signing.secret", "AAAA"), ("curve.secret", "\xff")]
)
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path, name: str, content: str) -> None:
    load_keys(tmp_path)
    path = tmp_path / "keys" / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError):
        load_keys(tmp_path)
    assert path.read_bytes() == content.encode("latin-1")


def test_no_secret_is_in_what_a_log_would_show(tmp_path: Path) -> None:
    keys = load_keys(tmp_path)
    assert keys.curve_secret not in repr(keys)
    assert str(keys) == f"CloudKeys({keys.curve_public})"


def test_two_first_uses_at_once_end_with_one_pair(tmp_path: Path) -> None:
    found: list[CloudKeys] = []
    threads = [threading.Thread(target=lambda: found.append(load_keys(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({keys.curve_secret for keys in found}) == 1
    assert len({keys.signing_public for keys in found}) == 1


def test_a_folder_that_cannot_hold_keys_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(StorageError, match="keys"):
        load_keys(tmp_path)


# Keys that the settings name


def service(folder: Path, **given: Any) -> ServiceSettings:
    return ServiceSettings(data_dir=folder, **given)


def test_keys_come_from_files_or_the_settings_and_else_from_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "of").mkdir()
    shared, own = load_keys(tmp_path), load_keys(tmp_path / "of")
    files = {f"{kind}_key_file": tmp_path / "keys" / f"{kind}.secret" for kind in ("curve", "signing")}
    named = keys_of(service(tmp_path / "of", **files))
    assert (named.curve_public, named.signing_public) == (shared.curve_public, shared.signing_public)
    signing = (tmp_path / "keys" / "signing.secret").read_text()
    mixed = keys_of(service(tmp_path / "of", signing_key=signing))
    assert (mixed.curve_public, mixed.signing_public) == (own.curve_public, shared.signing_public)
    given = service(tmp_path / "none", curve_key=shared.curve_secret, signing_key=signing)
    assert (curve_secret_of(given), keys_of(given).signing_public) == (shared.curve_secret, shared.signing_public)
    assert not (tmp_path / "none").exists(), "nothing was made"


def test_a_role_apart_makes_no_key(tmp_path: Path) -> None:
    for read in (curve_secret_of, signing_key_of):
        with pytest.raises(SettingsError, match="from the keys of the data folder"):
            read(service(tmp_path))
    assert list(tmp_path.iterdir()) == []
    made = load_keys(tmp_path)
    assert curve_secret_of(service(tmp_path)) == made.curve_secret


def test_a_given_key_that_is_none_is_refused_without_repeating_it(tmp_path: Path) -> None:
    for given in ({"curve_key": "hunter2"}, {"signing_key": "hunter2"}):
        with pytest.raises(SettingsError, match="holds no key") as refused:
            keys_of(service(tmp_path, **given))
        assert "hunter2" not in str(refused.value)


def test_a_file_that_the_settings_name_may_be_read_by_its_group(tmp_path: Path) -> None:
    load_keys(tmp_path)
    path = tmp_path / "keys" / "curve.secret"
    path.chmod(0o440)  # as a cluster mounts it
    assert curve_secret_of(service(tmp_path / "of", curve_key_file=path))
    path.chmod(0o444)
    with pytest.raises(SettingsError, match="others may read it"):
        curve_secret_of(service(tmp_path / "of", curve_key_file=path))


def test_no_key_is_in_the_settings_of_a_child(tmp_path: Path) -> None:
    of = {"service.data_dir": str(tmp_path), "service.curve_key": "hunter2", "service.signing_key": "hunter2"}
    settings = load_settings(None, of)
    assert b"hunter2" not in to_toml(settings)
    assert "hunter2" not in print_config(settings)
    (tmp_path / "child.toml").write_bytes(to_toml(settings))
    assert load_settings(tmp_path / "child.toml", {}).service.curve_key is None


def test_all_pages_may_have_one_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one for all\n")
    path.chmod(0o400)
    of = {"service.data_dir": str(tmp_path / "data"), "page.token_file": str(path)}
    assert page_token_of(load_settings(None, of)) == "one for all"
    assert not (tmp_path / "data" / "page.token").exists()
