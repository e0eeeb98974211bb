from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from culling.cloud.store.folders import only_one
from culling.cloud.store.fsck import fsck
from culling.cloud.store.index import frames
from culling.cloud.store.migrations import downgrade as module
from culling.cloud.store.migrations.downgrade import downgrade
from culling.cloud.store.picture import unseal
from culling.common.cli import main
from culling.common.errors import StorageError
from support.cloud import CAMERA, CloudState, hard_frame

pytestmark = pytest.mark.embedded  # 0.2.0 knows the data folder alone

EDGE = "e" * 40


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    """One camera with five frames."""
    state = CloudState(tmp_path)
    state.enroll()
    state.publisher.publish(CAMERA, state.artefact(), "base")
    for seq in range(1, 6):
        state.frames.add(EDGE, *hard_frame(seq))
    yield state
    state.close()


def rows(cloud: CloudState) -> dict[Path, tuple[str, int]]:
    """Return by path what the index says of each picture: its hash and its size in bytes."""
    with cloud.index.read() as connection:
        found = connection.execute(sa.select(frames.c.camera, frames.c.id, frames.c.sha256, frames.c.bytes))
        return {cloud.frames.path(row.camera, row.id): (row.sha256, row.bytes) for row in found}


def as_0_2_0_reads(cloud: CloudState) -> list[bool]:
    """Return of each frame whether version 0.2.0 takes its file for what was stored."""
    files = [(path.read_bytes(), told) for path, told in rows(cloud).items()]
    return [(hashlib.sha256(data).hexdigest(), len(data)) == told for data, told in files]


def test_pictures_are_files_that_0_2_0_reads_and_this_version_too(
    cloud: CloudState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    assert as_0_2_0_reads(cloud) == [False] * 5
    assert downgrade(cloud.settings) == 5
    assert as_0_2_0_reads(cloud) == [True] * 5
    assert fsck(cloud.settings).findings == (), "also the totals"


def test_a_backup_that_is_links_keeps_its_records(cloud: CloudState, tmp_path: Path) -> None:
    path = next(iter(rows(cloud)))
    os.link(path, tmp_path / "copy.jpg")
    downgrade(cloud.settings)
    assert unseal((tmp_path / "copy.jpg").read_bytes())[1] is not None


def test_one_that_was_cut_short_is_done_again(cloud: CloudState) -> None:
    first, second, *_ = rows(cloud)
    first.write_bytes(unseal(first.read_bytes())[0])  # the power went before its row was changed
    second.unlink()
    assert downgrade(cloud.settings) == 3
    with cloud.index.read() as connection:
        size = connection.execute(sa.select(frames.c.bytes).where(frames.c.id == first.stem)).scalar()
    assert size == first.stat().st_size
    assert [finding.what for finding in fsck(cloud.settings).findings] == [f"frame {CAMERA}/{second.stem}"]
    assert downgrade(cloud.settings) == 0


def test_it_is_refused_while_a_service_runs_and_where_0_2_0_could_not_read(cloud: CloudState, tmp_path: Path) -> None:
    with only_one(cloud.data_dir), pytest.raises(StorageError):
        downgrade(cloud.settings)
    bucket = cloud.settings.store.model_copy(update={"objects": f"file://{tmp_path}/bucket"})
    with pytest.raises(StorageError, match="a data folder alone"):
        downgrade(cloud.settings.model_copy(update={"store": bucket}))


def test_the_command_says_how_many_and_knows_one_version(cloud: CloudState, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cloud", "downgrade", "0.2.0", "--config", str(cloud.toml)]) == 0
    assert "took the records off 5 pictures" in capsys.readouterr().out
    assert main(["cloud", "downgrade", "0.2.1", "--config", str(cloud.toml)]) != 0
    assert "install it as the runbook says" in capsys.readouterr().err
