from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from culling.cloud.link.deltas import Delta, Deltas
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.store.registry import ModelFiles
from culling.common.wire.delta import apply, make
from support.s3 import S3
from support.waiting import wait_until

NOISE = np.random.default_rng(0).bytes(50_000)
OLD, NEW = NOISE, NOISE[:30_000] + b"changed" + NOISE[30_007:]


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path / "models")


@pytest.fixture
def deltas(files: ModelFiles) -> Iterator[Deltas]:
    made = Deltas(files)
    yield made
    made.close()


def find(deltas: Deltas, target: str, *bases: str) -> Delta | None:
    """Return the answer as soon as it is there."""
    got: list[Delta | None] = []
    wait_until(lambda: (found := deltas.find(target, bases)) != "coming" and not got.append(found))  # type: ignore[arg-type]
    return got[0]


def whole(deltas: Deltas, delta: Delta) -> bytes:
    got: list[bytes] = []

    def read() -> bool:
        piece = deltas.piece(delta, 0, delta.total)
        assert piece is not None
        return piece != "coming" and not got.append(piece)  # type: ignore[arg-type]

    wait_until(read)
    return got[0]


def rebuilt(changes: bytes, base: bytes) -> bytes:
    made = io.BytesIO()
    apply(io.BytesIO(changes), io.BytesIO(base), made)
    return made.getvalue()


def test_it_is_made_by_a_thread_and_then_kept_beside_the_model(
    deltas: Deltas, files: ModelFiles, tmp_path: Path
) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    found = find(deltas, target, base)
    assert found is not None
    assert found.total < 1000
    assert rebuilt(whole(deltas, found), OLD) == NEW
    assert (tmp_path / "models" / f"{target}.{base}.delta").stat().st_size == found.total
    assert deltas.piece(found, 10, 5) == whole(deltas, found)[10:15]


def test_one_that_is_kept_is_not_made_again(deltas: Deltas, files: ModelFiles) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    found = find(deltas, target, base)
    after = Deltas(files)
    with capture_logs() as logs:
        assert find(after, target, base) == found
    assert not [one for one in logs if one["event"] == "delta_made"]
    after.close()


def test_the_first_base_that_is_still_stored_is_taken(deltas: Deltas, files: ModelFiles) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    found = find(deltas, target, "0" * 64, base)
    assert found is not None
    assert found.base == base
    assert deltas.find(target, [base]) == found, "so it is asked for from now on"


def test_there_is_none_without_a_base_that_is_stored(deltas: Deltas, files: ModelFiles) -> None:
    assert find(deltas, files.add(NEW, "onnx"), "0" * 64) is None


def test_one_that_is_no_shorter_than_the_model_is_not_kept(deltas: Deltas, files: ModelFiles, tmp_path: Path) -> None:
    base, target = files.add(OLD, "onnx"), files.add(np.random.default_rng(1).bytes(40_000), "onnx")
    assert find(deltas, target, base) is None
    assert not list((tmp_path / "models").glob("*.delta"))


def test_a_model_that_is_damaged_has_none(deltas: Deltas, files: ModelFiles) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    files.path(target, "onnx").write_bytes(b"rot")
    assert find(deltas, target, base) is None


def test_a_kept_one_that_is_of_other_models_is_made_again(deltas: Deltas, files: ModelFiles, tmp_path: Path) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    (tmp_path / "models" / f"{target}.{base}.delta").write_bytes(b"\x00" * 50)
    found = find(deltas, target, base)
    assert found is not None
    assert rebuilt(whole(deltas, found), OLD) == NEW


def of_another(good: bytes) -> bytes:
    """Return what says that it makes `NEW`, and makes other bytes."""
    other = NEW[::-1]
    named, meant = (hashlib.sha256(data).hexdigest().encode() for data in (other, NEW))
    return make(OLD, other).replace(named, meant)


@pytest.mark.parametrize(
    "rot",
    [lambda good: good[:-1], lambda good: good[:-9] + b"\xff" + good[-8:], of_another],
    ids=["torn", "a byte", "another model's"],
)
def test_a_kept_one_that_rotted_is_made_again(
    deltas: Deltas, files: ModelFiles, tmp_path: Path, rot: Callable[[bytes], bytes]
) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    found = find(deltas, target, base)
    path = tmp_path / "models" / f"{target}.{base}.delta"
    good = path.read_bytes()
    path.write_bytes(rot(good))
    after = Deltas(files)
    with capture_logs() as logs:
        assert find(after, target, base) == found
    assert [one["event"] for one in logs] == ["delta_damaged", "delta_made"]
    assert path.read_bytes() == good
    after.close()


def test_one_that_is_gone_since_is_told_so_and_made_again(deltas: Deltas, files: ModelFiles, tmp_path: Path) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    found = find(deltas, target, base)
    assert found is not None
    (tmp_path / "models" / f"{target}.{base}.delta").unlink()
    assert deltas.piece(found, 0, 10) is None
    assert find(deltas, target, base) == found
    assert rebuilt(whole(deltas, found), OLD) == NEW


def test_it_goes_with_the_model_that_it_makes(deltas: Deltas, files: ModelFiles, tmp_path: Path) -> None:
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    find(deltas, target, base)
    assert files.prune({target}, 1e12) == 1, "the base"
    assert len(list((tmp_path / "models").iterdir())) == 2
    assert files.prune(set(), 1e12) == 2


def test_in_a_bucket_it_is_kept_for_all_services(bucket: str, tmp_path: Path, s3: S3) -> None:
    objects = open_objects(bucket, tmp_path)
    first, second = (ModelFiles(tmp_path / name / "models", objects) for name in ("one", "two"))
    base, target = first.add(OLD, "onnx"), first.add(NEW, "onnx")
    one, two = Deltas(first), Deltas(second)
    made = find(one, target, base)
    with capture_logs() as logs:
        found = find(two, target, base)
    assert made == found is not None
    assert not [each for each in logs if each["event"] == "delta_made"]
    assert rebuilt(whole(two, found), OLD) == NEW
    assert not list((tmp_path / "two").rglob("*"))
    second.prune(set(), 1e12)
    assert not [item.name for item in objects.list("models")]
    for each in (one, two):
        each.close()


def test_a_bucket_that_does_not_answer_has_none_and_is_asked_again(bucket: str, tmp_path: Path, s3: S3) -> None:
    files = ModelFiles(tmp_path / "models", open_objects(bucket, tmp_path))
    base, target = files.add(OLD, "onnx"), files.add(NEW, "onnx")
    found = Deltas(files)
    s3.err("503")
    assert find(found, target, base) is None
    s3.err("")
    assert find(found, target, base) is not None
    found.close()


def test_where_there_is_no_memory_for_one_the_whole_is_sent_and_it_is_tried_again(
    deltas: Deltas, files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(base: bytes, target: bytes) -> bytes:
        raise MemoryError

    old, new = (files.add(data, "onnx") for data in (OLD, NEW))
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr("culling.cloud.link.deltas.make", exhausted)
        assert find(deltas, new, old) is None
    assert [entry["event"] for entry in logs] == ["delta_failed"]
    assert find(deltas, new, old) is not None
