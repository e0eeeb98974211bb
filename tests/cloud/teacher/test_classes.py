from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from culling.cloud.model.coco import COCO_80, COCO_91
from culling.cloud.teacher.classes import Translated, translation
from culling.cloud.teacher.interface import Picture
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError, SettingsError
from culling.common.frame import Detections

VOC = ("aeroplane", "bicycle", "bus", "car", "motorbike", "person", "pickup truck")


def test_both_numberings_of_coco_cover_our_classes_by_name() -> None:
    for names in (COCO_80, COCO_91):
        table = translation(names, CLASSES, {}, CLASSES)
        assert [names[table.index(label)] for label in range(len(CLASSES))] == list(CLASSES)
        assert table.count(-1) == len(names) - len(CLASSES)


def test_a_list_says_which_names_mean_a_class() -> None:
    table = translation(VOC, CLASSES, {"truck": ["pickup truck"]}, CLASSES)
    assert {name: CLASSES[label] for name, label in zip(VOC, table, strict=True) if label >= 0} == {
        "bicycle": "bicycle", "bus": "bus", "car": "car", "motorbike": "motorcycle", "person": "person",
        "pickup truck": "truck",
    }  # fmt: skip


def test_a_class_of_anybodys_own_may_gather_several_names() -> None:
    assert translation(("car", "bus", "cat"), ("vehicle",), {"vehicle": ("car", "bus")}, ("vehicle",)) == [0, 0, -1]


def test_a_listed_class_no_longer_means_its_own_name() -> None:
    assert translation(("car", "van"), ("car",), {"car": ("van",)}, ("car",)) == [-1, 0]


def test_missing_classes_are_named_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"no name for truck: for truck, nearest are pickup truck") as refused:
        translation(VOC, CLASSES, {}, CLASSES)
    assert "[teacher.map]" in str(refused.value)
    with pytest.raises(ModelError, match=r"no name for bus, truck"):
        translation(("person", "bicycle", "car", "motorbike"), CLASSES, {}, CLASSES)


def test_only_classes_of_interest_must_be_covered() -> None:
    assert translation(("person", "cat"), CLASSES, {}, ("person",)) == [0, -1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lorry": ("truck",)}, "lorry is none of the classes"),
        ({"truck": ("pick-up trucks",)}, "never says 'pick-up trucks'; nearest are pickup truck"),
        ({"truck": ("car",), "bus": ("car",)}, "truck and teacher.map.bus both list 'car'"),
    ],
)
def test_a_map_that_does_not_fit_is_named_by_its_key(given: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(SettingsError, match=f"teacher.map.*{said}"):
        translation(VOC, CLASSES, given, CLASSES)


class Says:
    """A teacher that answers every frame alike."""

    device, batch = "cpu", 4

    def __init__(self, names: tuple[str, ...], *rows: tuple[str, float, float]) -> None:
        self.names = names
        self._rows = rows

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        boxes = np.array([[left, 0, left + 10, 10] for _, _, left in self._rows], np.float32)
        scores = np.array([score for _, score, _ in self._rows], np.float32)
        return [Detections(boxes, scores, np.array([self.names.index(name) for name, *_ in self._rows]))] * len(frames)

    def gflops(self, height: int, width: int) -> float | None:
        return height * width * 1.0


def test_names_that_mean_nothing_are_left_out() -> None:
    teacher = Says(("cat", "person"), ("cat", 0.9, 0), ("person", 0.8, 50))
    ours = Translated(teacher, [-1, 0], ("person",))
    [found] = ours.label([np.zeros((8, 8, 3), np.uint8)])
    assert (found.labels.tolist(), found.boxes[0].tolist()) == ([0], [50, 0, 60, 10])
    assert ours.known == {0}
    assert (ours.names, ours.device, ours.batch, ours.gflops(2, 3)) == (("person",), "cpu", 4, 6)


def test_one_object_under_two_names_of_a_class_is_found_once() -> None:
    teacher = Says(("car", "truck"), ("truck", 0.9, 0), ("car", 0.8, 1), ("car", 0.7, 40))
    [found] = Translated(teacher, [0, 0], ("vehicle",)).label([np.zeros((8, 8, 3), np.uint8)])
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    [apart] = Translated(teacher, [0, 1], ("car", "truck")).label([np.zeros((8, 8, 3), np.uint8)])
    assert len(apart) == 3
