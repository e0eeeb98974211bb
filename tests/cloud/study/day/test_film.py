from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from culling.cloud.annotations.lines import read_labels
from culling.cloud.study.day import film
from culling.cloud.study.day.cast import Cast
from culling.cloud.study.day.compose import Composed, Composer
from culling.cloud.study.day.film import DayRecord, claim, write_film
from culling.common.errors import SettingsError
from culling.common.video import count_frames, frame_rate, read_frames

RECORD = DayRecord("street.mp4", "a", "b", 5, 36_060, 4)


class Counting(Composer):
    """A composer that notes which frames it was asked for, and ends the run at one of them."""

    def __init__(self, cast: Cast, dies_at: int | None = None) -> None:
        super().__init__(cast, 5)
        self.asked: list[int] = []
        self._dies_at = dies_at

    def frame(self, number: int) -> Composed:
        if number == self._dies_at:
            raise KeyboardInterrupt
        self.asked.append(number)
        return super().frame(number)


def test_the_film_shows_each_frame_with_its_labels_at_its_time_of_day(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "PART", 5)
    write_film(Composer(cast, 5), DayRecord("street.mp4", "a", "b", 5, 48, 4), tmp_path)
    assert count_frames(tmp_path / "day.mp4") == 12
    assert frame_rate(tmp_path / "day.mp4") == pytest.approx(0.25)
    labels = read_labels(tmp_path / "labels.jsonl")
    assert [label.frame for label in labels] == list(range(12))
    assert {label.source for label in labels} == {"day.mp4"}
    composer = Composer(cast, 5)
    for number, shown in read_frames(tmp_path / "day.mp4", {0, 4, 5, 11}):
        made = composer.frame(4 * number)
        assert np.abs(shown.astype(int) - made.picture).mean() < 6
        assert np.allclose(labels[number].detections.boxes, made.labels.boxes, atol=0.01)
    assert {path.name for path in tmp_path.iterdir()} == {"day.mp4", "labels.jsonl"}


def test_a_killed_run_goes_on_after_its_last_part_and_a_complete_one_does_nothing(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "PART", 4)
    record = DayRecord("street.mp4", "a", "b", 5, 12, 1)
    with pytest.raises(KeyboardInterrupt):
        write_film(Counting(cast, dies_at=6), record, tmp_path)
    again = Counting(cast)
    write_film(again, record, tmp_path)
    assert again.asked == list(range(4, 12))
    assert count_frames(tmp_path / "day.mp4") == 12
    idle = Counting(cast)
    write_film(idle, record, tmp_path)
    assert not idle.asked


def test_a_folder_is_for_one_day_alone_once_a_part_is_composed(tmp_path: Path) -> None:
    other = msgspec.structs.replace(RECORD, seed=RECORD.seed + 1)
    claim(other, tmp_path)
    claim(RECORD, tmp_path)
    (tmp_path / "part-000000.jsonl").touch()
    claim(RECORD, tmp_path)
    with pytest.raises(SettingsError, match=r"holds another day .*day\.json"):
        claim(other, tmp_path)
    claim(msgspec.structs.replace(RECORD, frames=0), tmp_path)
    with pytest.raises(SettingsError, match="holds another day"):
        claim(msgspec.structs.replace(other, frames=0), tmp_path)
    (tmp_path / "day.json").write_bytes(b"{}")
    with pytest.raises(SettingsError, match="holds another day"):
        claim(RECORD, tmp_path)


def test_parts_that_a_killed_run_left_beside_its_film_are_removed(tmp_path: Path, cast: Cast) -> None:
    for name in ("day.mp4", "labels.jsonl", "part-000000.mp4"):
        (tmp_path / name).touch()
    write_film(Counting(cast), RECORD, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"day.mp4", "labels.jsonl"}
