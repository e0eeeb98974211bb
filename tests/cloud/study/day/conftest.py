from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.study.day.cast import Cast, load_cast
from culling.cloud.weights.classes import CLASSES
from support.scenes import boxes_at

FRAMES, WIDTH, HEIGHT, FPS = 40, 160, 120, 10
CAR, PERSON = CLASSES.index("car"), CLASSES.index("person")
PARKED = (100.0, 20.0, 130.0, 40.0)


def street(number: int) -> tuple[NDArray[np.uint8], list[tuple[float, float, float, float, float, int]]]:
    """Return a frame of a street and its boxes: a parked car, one that crosses to the right, and one who walks down."""
    rgb = np.full((HEIGHT, WIDTH, 3), (92, 98, 90), np.uint8)
    rgb[20:40, 100:130] = (150, 150, 160)
    x, y = 6 + 3 * number, 8 + 2 * number
    rgb[80:104, x : x + 34] = (190, 40, 40)
    rgb[y : y + 26, 20:31] = (30, 60, 150)
    boxes = [(*PARKED, 0.9, CAR), (float(x), 80.0, float(min(WIDTH, x + 34)), 104.0, 0.9, CAR)]
    return rgb, [*boxes, (20.0, float(y), 31.0, float(min(HEIGHT, y + 26)), 0.9, PERSON)]


@pytest.fixture(scope="session")
def street_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clip of the street, and labels of every fourth frame."""
    folder = tmp_path_factory.mktemp("street")
    clip, labels, rows = folder / "street.mp4", folder / "street.jsonl", []
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            rgb, boxes = street(number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            if number % 4 == 0:
                rows.append(Label("street.mp4", number, WIDTH, HEIGHT, boxes_at(*boxes), ""))
        container.mux(stream.encode(None))
    write_labels(labels, rows)
    return clip, labels


@pytest.fixture(scope="session")
def cast(street_files: tuple[Path, Path]) -> Cast:
    return load_cast(*street_files, CLASSES)
