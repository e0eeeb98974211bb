from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from culling.cloud.query.cascade import Cascade, Levels, Sample
from culling.cloud.query.difference import Standing
from culling.cloud.query.eyes import Footage, Sight
from culling.cloud.query.told import Found, found, lines, middles
from culling.cloud.teacher.remembered import Remembered
from culling.common.frame import Detections

NUMBERS = (*range(10), *range(12, 22))
"""Frames 10 and 11 are lost."""
SAMPLE = Sample(np.arange(3), np.arange(3, 10))


TIMES = tuple(number / 10 for number in NUMBERS)


def told(
    tmp_path: Path,
    *yes: int,
    certified: bool = True,
    sample: Sample = SAMPLE,
    times: tuple[float, ...] = TIMES,
) -> Found:
    """What is told of 20 frames at 10 a second, of which those numbers are yes; the teacher looked at ten of them."""
    greys = np.zeros((20, 1, 1), np.uint8)
    footage = Footage(Path("yard.mp4"), NUMBERS, greys, times, 10.0, (160, 128), 2, 0.001)
    remembered = Remembered(lambda frames: [], tmp_path / "seen.jsonl", "teacher", 1)
    sight = Sight(footage, lambda frame: Detections.empty(), lambda seen: 0.0, remembered, lambda seen: False)
    sight.by_student.score, sight.by_student.seconds = dict.fromkeys(range(10), 0.0), [0.5, 0.02, 0.02]
    sight.by_teacher.score, sight.by_teacher.seconds = dict.fromkeys(range(10), 0.0), [1.0]
    cascade = Cascade(Standing(2.5, np.arange(20) // 2 * 2), Levels(0.1, 0.9), 1, 0) if certified else None
    said = np.isin(NUMBERS, yes)
    return found("car > 1", footage, sight, sample, cascade, said, 0.25)


def test_frames_in_a_row_are_one_interval_and_a_lost_one_does_not_end_it(tmp_path: Path) -> None:
    one = told(tmp_path, 0, 1, 8, 9, 12, 21)
    spans = [(each.first, each.last, each.start_s, each.end_s) for each in one.intervals]
    assert spans == [(0, 1, 0.0, 0.2), (8, 12, 0.8, 1.3), (21, 21, 2.1, 2.2)]
    assert one.yes == 6
    assert middles(one) == [0, 10, 21]
    assert told(tmp_path).intervals == []


def test_times_are_those_of_the_frames_where_the_recording_has_a_gap(tmp_path: Path) -> None:
    times = tuple(at + 60 * (at > 0.55) for at in TIMES)
    one = told(tmp_path, 4, 5, 6, 7, 20, times=times)
    assert [(each.start_s, each.end_s) for each in one.intervals] == [(0.4, 60.8), (62.0, 62.1)]


def test_the_cost_is_looks_times_the_median_of_a_look(tmp_path: Path) -> None:
    one = told(tmp_path, 5)
    assert one.seconds == 20 * 0.001 + 10 * 0.02 + 10 * 1.0
    assert one.teacher_seconds == 20.0
    assert one.speedup == 1.96
    assert one.unchanged == 10


def test_a_person_reads_when_who_how_sure_and_at_what_cost(tmp_path: Path) -> None:
    text = "\n".join(lines(told(tmp_path, *range(4, 10))))
    assert text == (
        "car > 1 in yard.mp4: 6 of 20 frames, 2 more could not be decoded\n"
        "  0:00:00.4 to 0:00:01.0   6 frames from 4\n"
        "looked at: difference 20 frames, 10 of them hardly changed; student 10; teacher 10, 10 of them the sample\n"
        "bounds: with 95 % confidence at most 25 % of the frames are yes where the teacher says no, and at most 25 % "
        "no where it says yes; in 7 frames drawn to certify 1 and 0 were\n"
        "cost: 10.2 s beside 20.0 s for the teacher on every frame, 2.0 times as fast (frames x median of a look: "
        "difference 1.00 ms, student 20 ms, teacher 1,000 ms; decoding left out of both)"
    )


def test_answers_that_are_all_the_teachers_are_told_as_such(tmp_path: Path) -> None:
    one = told(tmp_path, 5, certified=False)
    assert one.cascade is None
    assert one.error == 0
    assert "bounds: the teacher looked at every frame" in "\n".join(lines(one))


def test_a_sample_of_all_frames_leaves_nothing_to_certify_and_that_is_told(tmp_path: Path) -> None:
    one = told(tmp_path, 5, certified=False, sample=Sample(np.arange(6), np.arange(6, 20)))
    text = "\n".join(lines(one))
    assert "bounds: the teacher looked at every frame, since the sample is all of them; a smaller --sample" in text
    assert "drawn to certify" not in text


def test_everything_is_in_the_json(tmp_path: Path) -> None:
    one = told(tmp_path, 5)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Found) == one
