from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from culling.cloud.annotations.lines import read_labels, write_labels
from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.evaluation.matching import ClassPrecision
from culling.cloud.settings import CloudSettings, load_settings
from culling.cloud.study.day.cast import Cast
from culling.cloud.study.day.check import CLOSE, Checked, Shown, check, clear_frames, real_frames, table
from culling.cloud.study.day.compose import Composed, Composer
from culling.cloud.weights.classes import CLASSES
from culling.common.clock import DAY_S
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.video import read_frames
from support.days import small_cast, under

Picture = NDArray[np.uint8]
BACKWARDS = CLASSES[::-1]
AP = st.floats(0, 1)


class Knowing:
    """A detector that knows what pictures show; of each it finds a `share`, and nothing in one that it was not told."""

    names, device, batch = CLASSES, "cpu", 1

    def __init__(self, told: Sequence[Shown], share: float = 1.0) -> None:
        self._known: Mapping[bytes, Detections] = {picture.tobytes(): labels for picture, labels in told}
        self._draw, self._share = np.random.default_rng(0), share

    def __call__(self, picture: Picture) -> Detections:
        found = self._known.get(picture.tobytes(), Detections.empty())
        return found.where(self._draw.random(len(found)) < self._share)

    def label(self, frames: Sequence[Picture]) -> list[Detections]:
        return [self(frame) for frame in frames]


class Both:
    """Answers with the first of several detectors that finds anything."""

    def __init__(self, *detectors: Knowing) -> None:
        self._detectors = detectors

    def __call__(self, picture: Picture) -> Detections:
        found = [detector(picture) for detector in self._detectors]
        return next((one for one in found if len(one)), Detections.empty())


def result(ap50: float, frames: int = 20, **classes: float) -> EvaluationResult:
    return EvaluationResult(
        ap50, 0.3, 0.5, {name: ClassPrecision(ap, 0.3, 0.5, 9) for name, ap in classes.items()}, frames
    )


@pytest.fixture(scope="module")
def composer() -> Composer:
    return under(Composer(small_cast(), 3))


@pytest.fixture
def cloud_settings(tmp_path: Path) -> CloudSettings:
    return load_settings(None, {"service.data_dir": tmp_path / "cache"})


def judge(monkeypatch: pytest.MonkeyPatch, small: object, large: Knowing, own: tuple[str, ...] = CLASSES) -> None:
    """Let the check look with these detectors; the small one tells classes by the list `own`."""
    here = "culling.cloud.study.day.check."
    monkeypatch.setattr(here + "first_student", lambda settings, classes: (None, own))
    monkeypatch.setattr(here + "student", lambda model, long_side: small)
    monkeypatch.setattr(here + "load_teacher", lambda settings: large)


@given(AP, AP)
def test_it_is_close_where_the_two_differ_by_no_more_than_the_limit(real: float, composed: float) -> None:
    assume(abs(abs(real - composed) - CLOSE) > 1e-9)
    one = Checked("student", result(real), result(composed))
    assert one.close == (abs(real - composed) < CLOSE)
    assert one.close == Checked("student", result(composed), result(real)).close, "too easy is as bad as too hard"


@pytest.mark.parametrize(
    ("real", "composed", "apart", "close"),
    [
        (0.80, 0.76, "-0.040", "yes"),
        (0.76, 0.80, "+0.040", "yes"),
        (0.80, 0.74, "-0.060", "no"),
        (0.5, 0.9, "+0.400", "no"),
    ],
)
def test_the_table_says_how_far_apart_they_are_and_whether_that_is_too_far(
    real: float, composed: float, apart: str, close: str
) -> None:
    shown = table([Checked("teacher", result(real, 12), result(composed, 15))])
    (row,) = shown.rows
    assert row["AP50, real"] == f"{real:.3f}"
    assert row["AP50, composed"] == f"{composed:.3f}"
    assert (row["apart"], row[f"within {CLOSE}"]) == (apart, close)
    assert shown.note == "12 real and 15 composed frames of clear day"


def test_the_table_has_each_class_of_either_kind() -> None:
    shown = table([Checked("student", result(0.7, person=0.5, car=0.9), result(0.7, car=0.8, bus=0.25))])
    told = shown.rows[0]["by class, real / composed"]
    assert sorted(told.split(", ")) == ["bus - / 0.250", "car 0.900 / 0.800", "person 0.500 / -"]


def test_detectors_to_which_both_kinds_are_alike_are_close(
    monkeypatch: pytest.MonkeyPatch,
    street_files: tuple[Path, Path],
    composer: Composer,
    cloud_settings: CloudSettings,
) -> None:
    all_frames = real_frames(*street_files, 6, CLASSES) + clear_frames(composer, 6)
    turned = [(picture, replace(labels, labels=len(CLASSES) - 1 - labels.labels)) for picture, labels in all_frames]
    judge(monkeypatch, Knowing(turned), Knowing(all_frames), own=BACKWARDS)
    found = check(composer, *street_files, 6, cloud_settings)
    assert [(one.name, one.real.ap50, one.composed.ap50, one.close) for one in found] == [
        ("student", 1.0, 1.0, True),
        ("teacher", 1.0, 1.0, True),
    ]
    assert {(one.real.frames, one.composed.frames) for one in found} == {(6, 6)}


def test_one_that_a_composed_frame_fools_is_not_and_the_other_one_is(
    monkeypatch: pytest.MonkeyPatch,
    street_files: tuple[Path, Path],
    composer: Composer,
    cloud_settings: CloudSettings,
) -> None:
    real, composed = real_frames(*street_files, 10, CLASSES), clear_frames(composer, 30)
    judge(monkeypatch, Both(Knowing(real), Knowing(composed, share=0.8)), Knowing(real + composed))
    student, teacher = check(composer, *street_files, 30, cloud_settings)
    assert student.real.ap50 == 1.0
    assert 0.6 < student.composed.ap50 < 0.95
    assert [row[f"within {CLOSE}"] for row in table([student, teacher]).rows] == ["no", "yes"]


def test_real_frames_are_labelled_ones_from_first_to_last(street_files: tuple[Path, Path]) -> None:
    clip, labels = street_files
    chosen = real_frames(clip, labels, 3, CLASSES)
    whole, told = dict(read_frames(clip, range(40))), {label.frame: label for label in read_labels(labels)}
    for (picture, found), number in zip(chosen, (0, 16, 36), strict=True):
        assert (picture == whole[number]).all()
        assert (found.boxes == told[number].detections.boxes).all()
    assert len(real_frames(clip, labels, 99, CLASSES)) == 10


def test_real_labels_of_another_size_are_scaled_to_the_clip(street_files: tuple[Path, Path], tmp_path: Path) -> None:
    clip, labels = street_files
    doubled = [
        replace(
            label,
            width=2 * label.width,
            height=2 * label.height,
            detections=replace(label.detections, boxes=2 * label.detections.boxes),
        )
        for label in read_labels(labels)
    ]
    write_labels(tmp_path / "doubled.jsonl", doubled)
    for (_, one), (_, other) in zip(
        real_frames(clip, labels, 4, CLASSES), real_frames(clip, tmp_path / "doubled.jsonl", 4, CLASSES), strict=True
    ):
        assert one.boxes == pytest.approx(other.boxes, abs=0.01)


class Noting(Composer):
    """A composer that notes which frames it was asked for."""

    def __init__(self, cast: Cast, seed: int) -> None:
        super().__init__(cast, seed)
        self.asked: list[int] = []

    def frame(self, number: int) -> Composed:
        self.asked.append(number)
        return super().frame(number)


@pytest.mark.parametrize("seed", [0, 1])
def test_composed_frames_are_of_clear_day_and_spread_over_it(seed: int) -> None:
    noting = Noting(small_cast(), seed)
    made = clear_frames(noting, 12)
    assert len(made) == len(set(noting.asked)) == 12
    assert noting.asked == sorted(noting.asked)
    assert all(noting.weather.clear(float(number)) for number in noting.asked)
    assert DAY_S * 10 / 24 <= noting.asked[0] < noting.asked[-1] <= DAY_S * 16 / 24
    assert noting.asked[-1] - noting.asked[0] > 7200
    one = noting.frame(noting.asked[5])
    assert (one.picture == made[5][0]).all()
    assert (one.labels.boxes == made[5][1].boxes).all()


def test_a_day_that_is_never_clear_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^--seed 3: it rains from ten to four on the first day; check another seed$"):
        clear_frames(under(Composer(small_cast(), 3), rain=0.5), 4)


def test_frames_that_show_nothing_are_one_line(
    monkeypatch: pytest.MonkeyPatch, street_files: tuple[Path, Path], cloud_settings: CloudSettings
) -> None:
    real = real_frames(*street_files, 2, CLASSES)
    judge(monkeypatch, Knowing(real), Knowing(real))
    empty = under(Composer(small_cast(), 3))
    monkeypatch.setattr(empty, "laid", lambda time: [])
    with pytest.raises(InputError, match="none of the 2 labelled frames has an object to measure by"):
        check(empty, *street_files, 2, cloud_settings)
