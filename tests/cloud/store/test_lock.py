from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.store.lock import is_held, only_one
from culling.common.errors import StorageError


def test_one_holds_the_folder_until_it_is_done(tmp_path: Path) -> None:
    with only_one(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(StorageError, match="another service runs"), only_one(tmp_path):
            pass
    assert not is_held(tmp_path)


def test_a_folder_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot lock"), only_one(tmp_path / "none"):
        pass
