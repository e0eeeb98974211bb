from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from culling.cloud.settings import TeacherPart, TeacherSettings
from culling.cloud.teacher.bundled import Bundled, open_yolox_nano
from culling.cloud.teacher.classes import Translated
from culling.cloud.teacher.ensemble import Ensemble, open_ensemble, with_views
from culling.cloud.teacher.interface import Picture, Teacher
from culling.cloud.teacher.loading import open_part
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import SettingsError
from culling.common.frame import Detections
from culling.common.video import BUNDLED_CLIP, read_frames
from support.detectors import small_student
from support.graphs import answering

NAMES = ("red", "green")


class Colours:
    """Sees the rectangle of each pure colour, unless it is small for the picture; remembers what it was shown."""

    device, batch, names = "cpu", 2, NAMES

    def __init__(self, score: float = 0.8, least: int = 0, colours: Sequence[int] = (0, 1), scale: float = 1.0) -> None:
        self._told: dict[str, Any] = {"score": score, "least": least, "colours": colours}
        self._scale = scale
        self.shown: list[tuple[int, ...]] = []

    def at(self, scale: float) -> Colours:
        return Colours(**self._told, scale=self._scale * scale)

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        self.shown += [frame.shape[:2] for frame in frames]
        return [self._see(frame) for frame in frames]

    def gflops(self, height: int, width: int) -> float | None:
        return height * width * self._scale

    def _see(self, frame: Picture) -> Detections:
        boxes, labels = [], []
        for label in self._told["colours"]:
            rows, columns = np.nonzero((frame[..., label] == 255) & (frame.sum(2) == 255))
            if len(rows) and (columns.max() + 1 - columns.min()) * self._scale >= self._told["least"]:
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(label)
        scores = np.full(len(labels), self._told["score"], np.float32)
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int64))


def frame(red: tuple[int, int, int, int], green: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Picture:
    picture = np.zeros((100, 200, 3), np.uint8)
    for channel, (left, top, right, bottom) in enumerate((red, green)):
        picture[top:bottom, left:right, channel] = 255
    return picture


def boxes(found: Detections) -> dict[str, list[float]]:
    return {NAMES[label]: box.tolist() for box, label in zip(found.boxes, found.labels, strict=True)}


@pytest.mark.parametrize("views", [("flip",), ("tiles 2x2",), ("whole", "flip"), ("whole", "tiles 3x2", "scale 2")])
def test_every_view_says_where_things_are_in_the_whole_frame(views: tuple[str, ...]) -> None:
    teacher = with_views(Colours(), views)
    found = teacher.label([frame((30, 20, 50, 40), (150, 60, 170, 90)), frame((5, 5, 25, 25))])
    assert boxes(found[0]) == {"red": [30, 20, 50, 40], "green": [150, 60, 170, 90]}
    assert boxes(found[1]) == {"red": [5, 5, 25, 25]}
    assert found[0].scores.tolist() == pytest.approx([0.8, 0.8])


def test_what_is_cut_in_a_tile_is_found_whole_elsewhere() -> None:
    [found] = with_views(Colours(), ("whole", "tiles 2x2")).label([frame((60, 20, 140, 80))])
    assert boxes(found) == {"red": [60, 20, 140, 80]}


def test_a_larger_view_finds_what_is_too_small_for_the_whole_one() -> None:
    small = frame((30, 20, 40, 30))
    assert len(Colours(least=15).label([small])[0]) == 0
    assert len(with_views(Colours(least=15), ("whole", "scale 2")).label([small])[0]) == 1


def test_no_view_and_the_whole_one_alone_leave_the_teacher_as_it_is() -> None:
    teacher = Colours()
    assert with_views(teacher, ()) is teacher
    assert with_views(teacher, ("whole",)) is teacher


def test_views_cost_what_all_of_them_cost() -> None:
    assert with_views(Colours(), ("whole", "tiles 2x1", "scale 2")).gflops(100, 200) == 20_000 + 2 * 12_000 + 40_000


def test_a_scale_is_refused_where_the_input_has_one_size() -> None:
    with pytest.raises(SettingsError, match=r"teacher\.views"):
        with_views(Fixed(Colours()), ("scale 2",))


class Fixed:
    """A teacher that cannot be scaled."""

    device, batch, names = "cpu", 2, NAMES

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        return self._teacher.label(frames)

    def gflops(self, height: int, width: int) -> float | None:
        return None


def together(*teachers: Teacher, tables: Sequence[Sequence[int]] = ((0, 1), (0, 1))) -> Ensemble:
    return Ensemble([Translated(one, table, NAMES) for one, table in zip(teachers, tables, strict=True)], NAMES)


def test_a_teacher_that_does_not_know_a_class_has_no_say_in_it() -> None:
    ensemble = together(Colours(0.9), Colours(0.7), tables=((0, 1), (0, -1)))
    [found] = ensemble.label([frame((30, 20, 50, 40), (150, 60, 170, 90))])
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert NAMES[found.labels[0]] == "green"


def test_a_class_that_no_member_knows_is_missing_from_the_ensemble() -> None:
    assert together(Colours(), Colours(), tables=((0, -1), (0, -1))).names == ("red", "N/A")


def test_what_fewer_teachers_see_is_worth_less() -> None:
    ensemble = together(Colours(0.9), Colours(0.7, colours=(0,)))
    [found] = ensemble.label([frame((30, 20, 50, 40), (150, 60, 170, 90))])
    assert dict(zip((NAMES[label] for label in found.labels), found.scores.tolist(), strict=True)) == {
        "red": pytest.approx(0.8), "green": pytest.approx(0.45)
    }  # fmt: skip
    assert (ensemble.names, ensemble.batch, ensemble.device) == (NAMES, 2, "cpu")
    assert ensemble.gflops(10, 10) == 200
    assert together(Colours(), Fixed(Colours())).gflops(10, 10) is None


def test_the_bundled_teacher_can_be_scaled() -> None:
    teacher = Bundled(small_student(), short_side=96)
    assert teacher.at(2).input_size(96, 128) == (192, 256)
    assert len(with_views(teacher, ("whole", "scale 1.5")).label([frame((30, 20, 50, 40))])) == 1


def test_members_say_our_classes_whatever_they_call_them(tmp_path: Path) -> None:
    raw = np.zeros((1, 300, 6), np.float32)
    raw[0, 0] = [24, 16, 56, 40, 0.9, 1]
    voc, coco = tmp_path / "voc.onnx", tmp_path / "coco.onnx"
    names = '["person", "motorbike", "bicycle", "car", "bus", "lorry"]'
    voc.write_bytes(answering({"found": raw}, metadata={"names": names}))
    raw = raw.copy()
    raw[0, 0, 5] = 3
    coco.write_bytes(answering({"found": raw}))
    members = (
        TeacherPart(kind="onnx", file=voc, map={"truck": ("lorry",)}),
        TeacherPart(kind="onnx", file=coco, views=("whole", "flip")),
    )
    teacher = open_part(TeacherSettings(kind="ensemble", member=members), CLASSES)
    [found] = teacher.label([np.zeros((64, 96, 3), np.uint8)])
    assert CLASSES[found.labels[0]] == "motorcycle"
    assert found.scores[0] == pytest.approx(0.9)


def test_an_ensemble_of_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"needs two or more \[\[teacher\.member\]\] tables, or none at all"):
        open_ensemble(TeacherSettings(kind="ensemble", member=(TeacherPart(),)), CLASSES)


def test_an_ensemble_without_members_is_both_that_come_with_culling() -> None:
    [(_, frame)] = read_frames(BUNDLED_CLIP, {400})
    both = open_part(TeacherSettings(kind="ensemble", short_side=96), CLASSES)
    assert both.names == CLASSES
    nano = with_views(open_yolox_nano(TeacherPart(kind="yolox-nano"), CLASSES), ("whole", "tiles 2x2"))
    cost, small = both.gflops(96, 128), nano.gflops(96, 128)
    assert cost is not None
    assert small is not None
    assert cost > small + 3
    [found], [seen] = both.label([frame]), nano.label([frame])
    assert 0.25 < found.scores.max() < seen.scores.max(), "the other one sees next to nothing at 96 pixels"
