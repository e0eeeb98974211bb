from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from culling.cloud.store.folders import alone, is_held, make_folder, only_one
from culling.common.errors import StorageError


def test_every_folder_that_got_a_name_in_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def spying(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spying)
    make_folder(tmp_path / "frames" / "gate")
    assert synced == [str(tmp_path), str(tmp_path / "frames")]
    make_folder(tmp_path / "frames" / "gate")
    assert len(synced) == 2, "once is enough"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("in the way")
    with pytest.raises(StorageError, match="frames"):
        make_folder(tmp_path / "frames" / "gate")


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with alone(lock), lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    said: list[str] = []
    with alone(lock, said.append):
        pass
    assert said == [], "nobody is waited for"


def test_one_holds_the_folder_until_it_is_done(tmp_path: Path) -> None:
    with only_one(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(StorageError, match="another service runs"), only_one(tmp_path):
            pass
    assert not is_held(tmp_path)


def test_a_folder_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot lock"), only_one(tmp_path / "none"):
        pass
