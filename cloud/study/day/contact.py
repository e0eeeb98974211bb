"""The contact sheet of a day: one frame of each half-hour, to be looked at."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from culling.cloud.study.day.compose import Composer
from culling.common.errors import StorageError

HALF_HOURS = 48
COLUMNS = 8
WIDTH = 320
QUALITY = 90


def write_contact(composer: Composer, path: Path) -> None:
    """Write the sheet of the first day to `path`: eight frames a row, four hours, each taken in mid half-hour.

    Raises StorageError.
    """
    height, width = composer.cast.plate.shape[:2]
    tall = round(WIDTH * height / width)
    sheet = Image.new("RGB", (COLUMNS * WIDTH, HALF_HOURS // COLUMNS * tall))
    for place in range(HALF_HOURS):
        frame = Image.fromarray(composer.frame(1800 * place + 900).picture)
        left, top = place % COLUMNS * WIDTH, place // COLUMNS * tall
        sheet.paste(frame.resize((WIDTH, tall), Image.Resampling.LANCZOS), (left, top))
        text = f"{place // 2:02}:{15 + 30 * (place % 2)}"
        ImageDraw.Draw(sheet).text((left + 5, top + 4), text, (255, 255, 0), stroke_width=1, stroke_fill=(0, 0, 0))
    try:
        sheet.save(path, quality=QUALITY)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
