from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.link import pieces
from culling.cloud.link.pieces import Pieces
from culling.cloud.store.objects.objects import Objects, open_objects
from culling.cloud.store.registry import ModelFiles
from culling.common.errors import ModelError, StorageError
from support.s3 import S3
from support.waiting import wait_until


@pytest.fixture
def objects(bucket: str, tmp_path: Path) -> Objects:
    return open_objects(bucket, tmp_path)


def add(objects: Objects, folder: Path, data: bytes) -> str:
    """Have another service add a model."""
    return ModelFiles(folder / "other" / "models", objects).add(data, "onnx")


def get(found: Pieces, sha256: str, offset: int = 0, length: int = 1 << 20) -> bytes:
    """Return a piece as soon as it is there."""
    got: list[bytes] = []
    wait_until(lambda: (piece := found.get(sha256, offset, length)) is not None and not got.append(piece))
    return got[0]


def test_a_model_of_a_bucket_is_fetched_once_and_leaves_no_copy(objects: Objects, tmp_path: Path) -> None:
    sha256 = add(objects, tmp_path, b"0123456789")
    found = Pieces(ModelFiles(tmp_path / "models", objects))
    assert found.get(sha256, 2, 3) is None, "it is on its way"
    assert get(found, sha256, 2, 3) == b"234"
    objects.delete([f"models/{sha256}.onnx"])
    assert (found.get(sha256, 0, 4), found.get(sha256, 8, 4)) == (b"0123", b"89")
    assert not (tmp_path / "models").exists()
    found.close()


def test_a_model_that_is_gone_or_another_is_told_so(objects: Objects, tmp_path: Path) -> None:
    found = Pieces(ModelFiles(tmp_path / "models", objects))
    with pytest.raises(ModelError, match="no such object"):
        get(found, "0" * 64)
    objects.put({f"models/{'1' * 64}.onnx": b"rot"})
    with pytest.raises(ModelError, match="damaged"):
        get(found, "1" * 64)
    found.close()


def test_a_bucket_that_does_not_answer_is_asked_again(
    objects: Objects, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = add(objects, tmp_path, b"0123456789")
    found = Pieces(ModelFiles(tmp_path / "models", objects))
    s3.err("503")
    with pytest.raises(StorageError) as failed:
        wait_until(lambda: found.get(sha256, 0, 1) is not None)
    assert not isinstance(failed.value, ModelError), "nobody withdraws a model for that"
    s3.err("")
    assert get(found, sha256) == b"0123456789"
    found.close()


def test_memory_holds_the_models_that_were_asked_for_last(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "MOST_BYTES", 15)
    first, second = add(objects, tmp_path, b"0123456789"), add(objects, tmp_path, b"9876543210")
    found = Pieces(ModelFiles(tmp_path / "models", objects))
    assert (get(found, first), get(found, second)) == (b"0123456789", b"9876543210")
    assert found.get(second, 0, 1) == b"9"
    assert found.get(first, 0, 1) is None, "it has to be fetched again"
    found.close()


def test_a_file_of_the_data_folder_is_read_at_once(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models")
    found = Pieces(files)
    assert found.get(files.add(b"0123456789", "onnx"), 8, 5) == b"89"
    found.close()
