"""Class lists: what one may be, and how detections of one are read by another."""

from __future__ import annotations

import numpy as np
import pytest

from culling.common.frame import Detections
from culling.common.wire.classes import MOST, check_classes

SIX = ("person", "bicycle", "car", "motorcycle", "bus", "truck")


@pytest.mark.parametrize("names", [("person",), ("traffic light", "t-shirt"), tuple(f"c{at}" for at in range(MOST))])
def test_a_list_of_names(names: tuple[str, ...]) -> None:
    assert check_classes(names) == names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "needs a name"),
        (("car", "bus", "car"), "car is there twice"),
        (("car", "Car"), "differ by case alone"),
        (("car", ""), "name 2 is empty"),
        (("car", "  "), "name 2 is empty"),
        (("a,b",), "'a,b' is no name of a class"),
        ((" car",), "no space at either end"),
        (("bo\nttle",), "printable"),
        (("x" * 65,), "1 to 64"),
        (tuple(f"c{at}" for at in range(257)), "257 classes; a model has at most 256"),
    ],
)
def test_no_list(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_classes(names)


def found(*labels: int) -> Detections:
    boxes = np.arange(4 * len(labels), dtype=np.float32).reshape(-1, 4)
    return Detections(boxes, np.linspace(0.9, 0.1, len(labels), dtype=np.float32), np.array(labels, np.int64))


def test_detections_of_one_list_are_read_by_another() -> None:
    told = found(0, 2, 5, 2).among(SIX, ("car", "person"))
    assert told.labels.tolist() == [1, 0, 0]
    assert told.boxes[:, 0].tolist() == [0, 4, 12], "what is no class of the other list is left out"
    assert found(1, 0).among(SIX, SIX).labels.tolist() == [1, 0]


@pytest.mark.parametrize("wanted", [SIX, ("car",)])
def test_a_label_that_its_own_list_has_no_name_for_is_left_out(wanted: tuple[str, ...]) -> None:
    assert found(2, 200).among(SIX, wanted).labels.tolist() == [wanted.index("car")]
    assert len(found(2).among((), wanted)) == 0
