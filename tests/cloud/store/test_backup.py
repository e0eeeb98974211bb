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
from support.databases import store_url
from support.postgres import Postgres

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


def save(cloud: CloudState, out: Path) -> None:
    backup(cloud.data_dir, out, url=cloud.settings.store.url)


def bring_back(source: Path, tmp_path: Path) -> None:
    """Restore a backup on another machine, and in another database."""
    restore(source, other(tmp_path), url=store_url(tmp_path / "two").get("url"))


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
        save(cloud, tmp_path / "copy")
    monkeypatch.setattr(module, "_copy_files", copy_files)
    bring_back(tmp_path / "copy", tmp_path)
    again = opened(tmp_path)
    assert again.frames.counts()[CAMERA].stored == 10
    assert again.frames.reconcile() == Reconciled(reindexed=15)
    assert again.frames.counts()[CAMERA].stored == 25
    again.close()


def test_a_restored_folder_has_models_and_keys(cloud: CloudState, tmp_path: Path) -> None:
    save(cloud, tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    bring_back(tmp_path / "copy", tmp_path)
    again = opened(tmp_path)
    assert again.keys.curve_secret == cloud.keys.curve_secret
    [(camera, model)] = again.registry.live().items()
    assert camera == CAMERA
    assert again.files.read(model.artefact.sha256) == cloud.files.read(model.artefact.sha256)
    again.close()


def test_a_backup_outlives_what_happens_to_the_original(cloud: CloudState, tmp_path: Path) -> None:
    add(cloud, 1, 2)
    save(cloud, tmp_path / "copy")
    for name in [path.stem for path in (cloud.data_dir / "frames" / CAMERA).iterdir()]:
        cloud.frames.remove(CAMERA, [name])
    bring_back(tmp_path / "copy", tmp_path)
    again = opened(tmp_path)
    assert again.frames.reconcile() == Reconciled()
    assert again.frames.counts()[CAMERA].stored == 2
    again.close()


def test_a_backup_wants_an_empty_folder_and_a_restore_one_without_an_index(cloud: CloudState, tmp_path: Path) -> None:
    save(cloud, tmp_path / "copy")
    with pytest.raises(StorageError, match="name a new folder"):
        save(cloud, tmp_path / "copy")
    with pytest.raises(StorageError, match=r"holds (an index|rows) already"):
        restore(tmp_path / "copy", cloud.data_dir, url=cloud.settings.store.url)
    with pytest.raises(StorageError, match="is no backup"):
        bring_back(tmp_path / "one", tmp_path)


def test_a_restore_wants_the_service_stopped(cloud: CloudState, tmp_path: Path) -> None:
    save(cloud, tmp_path / "copy")
    with only_one(folder := other(tmp_path)), pytest.raises(StorageError, match="stop it first"):
        restore(tmp_path / "copy", folder)


def test_a_service_moves_to_another_database_by_a_backup(cloud: CloudState, tmp_path: Path, postgres: Postgres) -> None:
    add(cloud, *range(1, 5))
    first = cloud.rounds.start(CAMERA, "manual", 1.0)
    save(cloud, tmp_path / "copy")
    before = (tmp_path / "copy" / "index.sqlite").read_bytes()
    restore(tmp_path / "copy", other(tmp_path), url=(url := postgres.empty()))
    moved = CloudState(tmp_path / "two", store={"url": url})
    assert moved.frames.counts() == cloud.frames.counts()
    assert moved.registry.live() == cloud.registry.live()
    assert moved.rounds.start("yard", "manual", 2.0).id == first.id + 1
    assert (tmp_path / "copy" / "index.sqlite").read_bytes() == before
    moved.close()
    postgres.drop(url)
