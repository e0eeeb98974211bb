from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from culling.cloud.study.day.compose import Composed, Composer
from culling.cloud.study.day.contact import write_contact
from culling.common.errors import StorageError
from culling.common.frame import Detections
from support.days import small_cast


class Counting(Composer):
    """A composer that shows of frame `number` a grey level that says which it is, and notes the numbers."""

    def __init__(self) -> None:
        super().__init__(small_cast(), 5)
        self.asked: list[int] = []

    def frame(self, number: int) -> Composed:
        self.asked.append(number)
        grey = np.full(self.cast.plate.shape, 5 * (number // 1800), np.uint8)
        return Composed(grey, Detections.empty())


def test_the_sheet_has_48_half_hours_in_order_eight_a_row(tmp_path: Path) -> None:
    counting = Counting()
    write_contact(counting, tmp_path / "contact.jpg")
    assert counting.asked == list(range(900, 86_400, 1800))
    sheet = Image.open(tmp_path / "contact.jpg")
    assert sheet.size == (8 * 320, 6 * 240)
    middles = np.asarray(sheet)[120::240, 160::320, 0]
    assert middles.reshape(-1) == pytest.approx(5 * np.arange(48), abs=4)


def test_the_sheet_shows_night_and_day(tmp_path: Path) -> None:
    write_contact(Composer(small_cast(), 5), tmp_path / "contact.jpg")
    sheet = np.asarray(Image.open(tmp_path / "contact.jpg"))
    night, noon = (sheet[240 * row : 240 * (row + 1)].mean() for row in (0, 3))
    assert night < 0.6 * noon


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^cannot write .*nowhere/contact\.jpg: No such file or directory$"):
        write_contact(Counting(), tmp_path / "nowhere" / "contact.jpg")
