from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from culling.common.errors import ProtocolError
from culling.common.wire.delta import make
from culling.common.wire.manifest import Manifest
from culling.edge.model.rebuild import copy, rebuild, resumable
from support import tiny
from support.swapping import KEY

OLD, NEW = tiny.student(), tiny.student(tag="new")
BASE = hashlib.sha256(OLD).hexdigest()
MANIFEST: Manifest = tiny.ship(NEW, KEY).manifest


@pytest.fixture
def here(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "old.onnx").write_bytes(OLD)
    (tmp_path / "new.delta").write_bytes(make(OLD, NEW))
    return {BASE: tmp_path / "old.onnx"}


def built(folder: Path, here: dict[str, Path], manifest: Manifest = MANIFEST, base: str = BASE) -> bytes:
    rebuild(folder / "new.delta", base, here, folder / "new.part", manifest)
    return (folder / "new.part").read_bytes()


def test_a_model_is_made_of_one_that_is_here(tmp_path: Path, here: dict[str, Path]) -> None:
    assert built(tmp_path, here) == NEW


def test_without_its_base_there_is_none(tmp_path: Path, here: dict[str, Path]) -> None:
    here[BASE].unlink()
    for left in (here, {}):
        with pytest.raises(ProtocolError) as caught:
            built(tmp_path, left)
        assert caught.value.reason == "base-missing"


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"size": 10}])
def test_a_delta_of_another_model_is_refused(tmp_path: Path, here: dict[str, Path], change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        built(tmp_path, here, msgspec.structs.replace(MANIFEST, **change))
    assert caught.value.reason == "delta-wrong"


def test_a_delta_from_another_base_than_it_was_said_to_be_is_refused(tmp_path: Path, here: dict[str, Path]) -> None:
    with pytest.raises(ProtocolError) as caught:
        built(tmp_path, {"1" * 64: here[BASE]}, base="1" * 64)
    assert caught.value.reason == "delta-wrong"


def test_a_part_of_a_delta_is_gone_on_with(tmp_path: Path, here: dict[str, Path]) -> None:
    path = tmp_path / "new.delta"
    whole = path.read_bytes()
    assert resumable(path, MANIFEST, here) == (BASE, len(whole))
    path.write_bytes(whole[:-7])
    assert resumable(path, MANIFEST, here) == (BASE, len(whole))
    assert resumable(path, MANIFEST, {}) is None, "its base is gone"
    assert resumable(path, msgspec.structs.replace(MANIFEST, sha256="0" * 64), here) is None
    assert resumable(path, msgspec.structs.replace(MANIFEST, size=len(whole)), here) is None
    for spoilt in (whole + b"x", whole[:20], b""):
        path.write_bytes(spoilt)
        assert resumable(path, MANIFEST, here) is None
    path.unlink()
    assert resumable(path, MANIFEST, here) is None


def test_a_model_that_is_here_is_copied(tmp_path: Path, here: dict[str, Path]) -> None:
    copy(here[BASE], tmp_path / "same.part")
    assert (tmp_path / "same.part").read_bytes() == OLD
