from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.store import backup as module
from culling.cloud.store.backup import backup, restore
from culling.cloud.store.folders import only_one
from culling.cloud.store.frames import Reconciled
from culling.common.errors import StorageError
from support.cloud import CAMERA, CloudState, hard_frame

EDGE = "e" * 40


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path / "one")
    state.enroll()
    state.publisher.publish(CAMERA, state.artefact(), "base")
    yield state
    state.close()


@pytest.fixture(autouse=True)
def _one_folder(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()


def add(cloud: CloudState, *seqs: int) -> None:
    for seq in seqs:
        assert cloud.frames.add(EDGE, *hard_frame(seq)) == "stored"


def other(tmp_path: Path) -> Path:
    """The data folder of another machine."""
    (folder := tmp_path / "two" / "data").mkdir()
    return folder


def opened(tmp_path: Path) -> CloudState:
    return CloudState(tmp_path / "two")


def test_what_comes_between_the_index_and_the_files_is_not_lost(
    cloud: CloudState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cloud, *range(10))
    copy_files = module._copy_files

    def late(*arguments: object) -> object:
        add(cloud, *range(10, 25))
        return copy_files(*arguments)  # type: ignore[arg-type]

    with only_one(cloud.data_dir):  # as while the service runs
        monkeypatch.setattr(module, "_copy_files", late)
        backup(cloud.data_dir, tmp_path / "copy")
    monkeypatch.setattr(module, "_copy_files", copy_files)
    restore(tmp_path / "copy", other(tmp_path))
    again = opened(tmp_path)
    assert again.frames.counts()[CAMERA].stored == 10
    assert again.frames.reconcile() == Reconciled(reindexed=15)
    assert again.frames.counts()[CAMERA].stored == 25
    again.close()


def test_a_restored_folder_has_models_and_keys(cloud: CloudState, tmp_path: Path) -> None:
    backup(cloud.data_dir, tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    restore(tmp_path / "copy", other(tmp_path))
    again = opened(tmp_path)
    assert again.keys.curve_secret == cloud.keys.curve_secret
    [(camera, model)] = again.registry.live().items()
    assert camera == CAMERA
    assert again.files.read(model.artefact.sha256) == cloud.files.read(model.artefact.sha256)
    again.close()


def test_a_backup_outlives_what_happens_to_the_original(cloud: CloudState, tmp_path: Path) -> None:
    add(cloud, 1, 2)
    backup(cloud.data_dir, tmp_path / "copy")
    for name in [path.stem for path in (cloud.data_dir / "frames" / CAMERA).iterdir()]:
        cloud.frames.remove(CAMERA, [name])
    restore(tmp_path / "copy", other(tmp_path))
    again = opened(tmp_path)
    assert again.frames.reconcile() == Reconciled()
    assert again.frames.counts()[CAMERA].stored == 2
    again.close()


def test_a_backup_wants_an_empty_folder_and_a_restore_one_without_an_index(cloud: CloudState, tmp_path: Path) -> None:
    backup(cloud.data_dir, tmp_path / "copy")
    with pytest.raises(StorageError, match="name a new folder"):
        backup(cloud.data_dir, tmp_path / "copy")
    with pytest.raises(StorageError, match="holds an index already"):
        restore(tmp_path / "copy", cloud.data_dir)
    with pytest.raises(StorageError, match="is no backup"):
        restore(tmp_path / "one", other(tmp_path))


def test_a_restore_wants_the_service_stopped(cloud: CloudState, tmp_path: Path) -> None:
    backup(cloud.data_dir, tmp_path / "copy")
    with only_one(folder := other(tmp_path)), pytest.raises(StorageError, match="stop it first"):
        restore(tmp_path / "copy", folder)
