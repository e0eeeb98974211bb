"""A file is replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from culling.common.atomic import write_all_atomic, write_atomic
from culling.common.errors import StorageError


def test_writes_a_new_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "state.json", b"{}")
    assert (tmp_path / "state.json").read_bytes() == b"{}"


def test_replaces_the_whole_of_a_longer_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"x" * 1000)
    write_atomic(path, b"short")
    assert path.read_bytes() == b"short"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_sets_the_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "key", b"k", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == mode


def test_leaves_no_temporary_file_behind(tmp_path: Path) -> None:
    write_atomic(tmp_path / "state.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_missing_folder_is_a_storage_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*state\.json: No such file"):
        write_atomic(tmp_path / "gone" / "state.json", b"{}")


def test_a_folder_in_the_way_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(StorageError):
        write_atomic(tmp_path / "state.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_at_any_step_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, b"old")

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["state.json"]


def test_files_are_on_disk_before_their_names_and_the_names_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(old: str, new: Path) -> None:
        steps.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_all_atomic({tmp_path / name: name.encode() for name in ("one", "two")})
    assert steps == ["file", "file", "rename", "rename", "folder"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one": b"one", "two": b"two"}
    steps.clear()
    write_atomic(tmp_path / "state.json", b"{}")
    assert steps == ["file", "rename", "folder"]


def test_when_one_of_several_cannot_be_written_no_temporary_file_stays(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*two"):
        write_all_atomic({tmp_path / name: b"new" for name in ("one", "two", "three")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_file_that_does_not_fit_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*two"):
            write_all_atomic({tmp_path / "one": b"fits", tmp_path / "two": b"x" * 4000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_closed_while_it_is_still_being_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == 1:
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        failed.wait()  # the others are at it when the first one fails
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(StorageError, match=r"cannot write .*one"):
        write_all_atomic({tmp_path / name: data for name, data in (("one", b"1"), ("two", b"22"), ("three", b"333"))})
    assert sorted(synced) == [2, 3]
    assert list(tmp_path.iterdir()) == []
