from __future__ import annotations

import base64
import stat
import threading
from codecs import BOM_UTF8
from pathlib import Path

import pytest

from culling.cloud.store.keys import CloudKeys, load_keys
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
