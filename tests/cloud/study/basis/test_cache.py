from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from culling.cloud.study.basis.cache import Memo
from culling.common.errors import StorageError


class Answer(msgspec.Struct, frozen=True):
    value: float
    size: tuple[int, int]


def test_a_result_is_made_once_for_all_that_decides_it(tmp_path: Path) -> None:
    made: list[float] = []

    def make() -> Answer:
        made.append(len(made) / 3)
        return Answer(made[-1], (1, 2))

    first = Memo(tmp_path).once("answer", {"seed": 1, "frames": [1, 2]}, Answer, make)
    assert Memo(tmp_path).once("answer", {"frames": [1, 2], "seed": 1}, Answer, make) == first
    assert Memo(tmp_path).once("answer", {"seed": 2, "frames": [1, 2]}, Answer, make) != first
    assert Memo(tmp_path).once("other", {"seed": 1, "frames": [1, 2]}, Answer, make) != first
    assert len(made) == 3


def test_a_result_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Answer:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Memo(tmp_path).once("answer", {}, Answer, fail)
    assert not list(tmp_path.iterdir())


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    memo.path("answer", {}).write_text("{}")
    with pytest.raises(StorageError, match=r"answer-.*\.json: cannot be read .*remove it"):
        memo.once("answer", {}, Answer, lambda: Answer(1.0, (1, 2)))
