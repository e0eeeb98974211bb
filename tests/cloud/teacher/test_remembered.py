from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.teacher.remembered import Remembered
from culling.common.errors import StorageError
from culling.common.frame import Detections
from support.detectors import picture

PICTURES = [picture(32, 48, seed) for seed in range(5)]


class Eye:
    """Finds as many boxes as a picture's first pixel says, modulo three; remembers how many it was shown at a time."""

    def __init__(self) -> None:
        self.blocks: list[int] = []

    def __call__(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        self.blocks.append(len(frames))
        return [self.find(frame) for frame in frames]

    @staticmethod
    def find(frame: NDArray[np.uint8]) -> Detections:
        count = int(frame[0, 0, 0]) % 3
        boxes = np.linspace(0, 1 / 3, 4 * count, dtype=np.float32).reshape(count, 4)
        return Detections(boxes, np.full(count, 0.1, np.float32), np.arange(count, dtype=np.int64))


def same(one: Detections, other: Detections) -> bool:
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("boxes", "scores", "labels"))


def test_what_was_seen_once_is_never_looked_at_again_and_stays_exact(tmp_path: Path) -> None:
    eye = Eye()
    first = Remembered(eye, tmp_path / "seen.jsonl", "eye", block=2).label(PICTURES)
    assert eye.blocks == [2, 2, 1]
    again = Remembered(eye, tmp_path / "seen.jsonl", "eye", block=2)
    assert all(map(same, again.label(PICTURES[::-1]), first[::-1]))
    assert eye.blocks == [2, 2, 1]
    assert all(map(same, first, map(Eye.find, PICTURES)))


def test_the_seconds_of_the_first_look_are_kept(tmp_path: Path) -> None:
    first = Remembered(Eye(), tmp_path / "seen.jsonl", "eye", block=5).see(PICTURES, 5)
    again = Remembered(Eye(), tmp_path / "seen.jsonl", "eye", block=1).see(PICTURES, 5)
    assert [seen.seconds for seen in again] == pytest.approx([seen.seconds for seen in first], abs=1e-6)
    assert len({seen.seconds for seen in first}) == 1, "a block shares its time"


def test_a_picture_shown_twice_in_a_block_is_looked_at_once(tmp_path: Path) -> None:
    eye = Eye()
    assert len(Remembered(eye, tmp_path / "seen.jsonl", "eye", block=4).label([PICTURES[0]] * 4)) == 4
    assert eye.blocks == [1]


def test_a_line_that_a_kill_has_torn_is_seen_again(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    Remembered(Eye(), path, "eye", block=1).label(PICTURES)
    path.write_bytes(path.read_bytes()[:-9])
    eye = Eye()
    Remembered(eye, path, "eye", block=1).label(PICTURES)
    assert eye.blocks == [1]
    Remembered(eye, path, "eye", block=1).label(PICTURES)
    assert eye.blocks == [1], "the new line stands by itself"


def test_a_damaged_file_and_one_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "seen.jsonl").write_text('{"picture": 3}\n')
    with pytest.raises(StorageError, match=r"seen\.jsonl:1: damaged"):
        Remembered(Eye(), tmp_path / "seen.jsonl", "eye", block=1)
    with pytest.raises(StorageError, match=r"cannot write .*seen\.jsonl"):
        Remembered(Eye(), tmp_path / "no" / "seen.jsonl", "eye", block=1).label(PICTURES)
