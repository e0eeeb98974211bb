"""Measured accuracy: on simulated cameras whose every frame is known, by the frames that would have left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from culling.cloud.evaluation.accuracy import (
    LEAST_AUDITS,
    LEAST_OBJECTS,
    MISSED,
    REACH_S,
    Accuracy,
    Forwarded,
    drawn_and_labelled,
    measure,
    most,
)
from culling.cloud.evaluation.evaluate import score
from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.precision import STUDENT_FLOOR, hardness
from culling.common.frame import Detections

CLASSES = ("person", "car")
WINDOW_S = 3600.0


def boxes(places: Sequence[int], scores: Sequence[float], label: int) -> Detections:
    corners = np.array([(20 * place, 0, 20 * place + 10, 10) for place in places], np.float32).reshape(-1, 4)
    return Detections(corners, np.array(scores, np.float32), np.full(len(places), label, np.int64))


def together(*parts: Detections) -> Detections:
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def seen(rng: np.random.Generator, skill: float, objects: float) -> Compared:
    """One frame: the student finds a true object with the chance `skill`, and its scores tell true from false."""
    found, true = [], []
    for label, share in ((0, 0.8), (1, 0.2)):
        count = int(rng.poisson(share * objects))
        hit = rng.random(count) < skill
        wrong = int(rng.poisson(0.3 * share * objects * (1.0 - skill) + 0.02))
        places = [*np.flatnonzero(hit), *range(count, count + wrong)]
        scores = [*rng.beta(6, 2, int(hit.sum())), *rng.beta(2, 4, wrong)]
        found.append(boxes(places, scores, label))
        true.append(boxes(range(count), [1.0] * count, label))
    return Compared(together(*found), together(*true))


def camera(seed: int, hours: int, per_hour: int = 120) -> list[tuple[float, Compared]]:
    """A camera's frames with their times; how hard they are changes by the half hour, as light and crowds do."""
    rng = np.random.default_rng(seed)
    skill = np.repeat(rng.beta(8, 3, 2 * hours), per_hour // 2)
    crowd = np.repeat(rng.gamma(3.0, 0.8, 2 * hours), per_hour // 2)
    return [
        (1e9 + WINDOW_S * index / per_hour, seen(rng, one, many))
        for index, (one, many) in enumerate(zip(skill, crowd, strict=True))
    ]


def leaving(frames: list[tuple[float, Compared]], seed: int, audits: int, hard: int, per_hour: int) -> list[Forwarded]:
    """What an edge forwards: of each window the frames with most doubtful boxes, and audits among the others."""
    rng, left = np.random.default_rng(seed), []
    for start in range(0, len(frames), per_hour):
        window = frames[start : start + per_hour]
        doubt = [float((one.found.scores * (1 - one.found.scores)).sum()) for _, one in window]
        order = np.argsort(doubt)[::-1]
        left += [Forwarded(window[i][1], window[i][0], None) for i in order[:hard]]
        rest = order[hard:]
        left += [
            Forwarded(window[i][1], window[i][0], audits / len(rest)) for i in rng.choice(rest, audits, replace=False)
        ]
    return left


def pooled(frames: Sequence[Compared]) -> float:
    """AP50 over all frames with the classes in one list: each class gets its own place in the frame."""
    far = 1000.0
    one_class = [
        Compared(*(
            Detections(part.boxes + far * part.labels[:, None].astype(np.float32), part.scores, 0 * part.labels)
            for part in (frame.found, frame.true)
        ))
        for frame in frames
    ]  # fmt: skip
    return score(one_class, ("anything",)).ap50


def measured(frames: Sequence[Forwarded], **options: int) -> Accuracy:
    found = measure(frames, CLASSES, **options)
    assert found is not None
    return found


def test_with_every_frame_at_hand_it_is_the_ap50_of_all_of_them() -> None:
    frames = camera(1, 3)
    told = measured([Forwarded(one, at, 1.0) for at, one in frames])
    assert told.ap50 is not None
    assert told.ap50.value == pytest.approx(pooled([one for _, one in frames]), abs=1e-9)
    by_class = score([one for _, one in frames], CLASSES).per_class
    assert {name: one.value for name, one in told.per_class.items()} == pytest.approx(
        {name: one.ap50 for name, one in by_class.items()}, abs=1e-9
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), copies=st.integers(2, 4))
def test_an_audit_stands_for_as_many_frames_as_its_probability_says(seed: int, copies: int) -> None:
    frames = camera(seed, 1, per_hour=30)
    weighted = measured([Forwarded(one, at, 1.0 / copies if i % 2 else 1.0) for i, (at, one) in enumerate(frames)])
    written_out = [one for i, (_, one) in enumerate(frames) for _ in range(copies if i % 2 else 1)]
    assert weighted.ap50 is not None
    one_step = 1 / 101 + 1e-9  # where the recall is exactly one that precision is read at, rounding decides
    assert weighted.ap50.value == pytest.approx(pooled(written_out), abs=one_step)


@pytest.mark.parametrize("draws", [12, pytest.param(40, marks=pytest.mark.soak)])
def test_the_estimate_is_unbiased_and_its_interval_holds(draws: int) -> None:
    per_hour, covered, hard_covered, errors, widths = 60, 0, 0, [], []
    for camera_seed in range(5):
        frames = camera(camera_seed, hours=12, per_hour=per_hour)
        truth = pooled([one for _, one in frames])
        hardnesses = [hardness(replace(one, found=one.found.above(STUDENT_FLOOR))).value >= MISSED for _, one in frames]
        for seed in range(draws):
            told = measured(leaving(frames, seed, audits=4, hard=2, per_hour=per_hour))
            assert told.ap50 is not None
            covered += told.ap50.low <= truth <= told.ap50.high
            errors.append(told.ap50.value - truth)
            widths.append(told.ap50.high - told.ap50.low)
            hard_covered += np.mean(hardnesses) <= told.wrong.high
    print(f"covered {covered}, {hard_covered} of {5 * draws}")
    print(f"error {np.mean(errors):+.4f}, width {np.mean(widths):.3f}")
    assert covered >= 0.93 * 5 * draws
    assert abs(np.mean(errors)) < 0.01
    assert np.mean(widths) < 0.25
    assert hard_covered >= 0.93 * 5 * draws


def test_bootstrap_frames_and_too_few_audits_say_nothing() -> None:
    frames = [Forwarded(one, at, 0.01) for at, one in camera(0, 1, per_hour=LEAST_AUDITS)]
    assert measure(frames, CLASSES) is not None
    assert measure(frames[1:], CLASSES) is None
    hard = [replace(frame, probability=None) for frame in frames]
    assert measure(hard + frames[1:], CLASSES) is None


def test_the_share_of_hard_frames_missed_counts_frames_and_not_audits() -> None:
    right = Compared(boxes([0], [0.9], 0), boxes([0], [1.0], 0))
    wrong = Compared(boxes([], [], 0), boxes([0], [1.0], 0))
    frames = [Forwarded(wrong, 1e9 + 400.0 * i, None) for i in range(30)]
    frames += [Forwarded(wrong if i < 2 else right, 1e9 + 400.0 * i, 0.1 if i < 2 else 0.02) for i in range(20)]
    told = measured(frames)
    assert told.missed is not None
    assert told.missed.value == pytest.approx(20 / (30 + 20)), "two audits stand for 20 frames, 30 were forwarded"
    assert told.wrong.value == pytest.approx((30 + 20) / (30 + 20 + 18 * 50))
    assert told.wrong.value < told.wrong.high


@pytest.mark.parametrize(
    ("seen", "sample", "high"), [(0, 59, 0.0495), (0, 1, 0.95), (1, 10, 0.3942), (10, 10, 1.0), (0, 0, 1.0)]
)
def test_a_share_is_bounded_by_how_few_were_drawn(seen: int, sample: int, high: float) -> None:
    assert most(seen, sample) == pytest.approx(high, abs=1e-4)


def test_where_nothing_was_wrong_the_bound_is_that_of_so_many_independent_frames() -> None:
    right = Compared(boxes([0], [0.9], 0), boxes([0], [1.0], 0))
    apart = [Forwarded(right, 1e9 + 400.0 * i, 0.1) for i in range(59)]
    told = measured(apart).wrong
    assert (told.value, told.high) == (0.0, pytest.approx(0.0495, abs=1e-4))
    together = [replace(frame, at=1e9) for frame in apart]
    assert measured(together).wrong.high == pytest.approx(0.95, abs=1e-4), "minutes that look alike are one frame"


def test_a_record_that_the_teacher_answered_is_not_wrong() -> None:
    right = Compared(boxes([0], [0.9], 0), boxes([0], [1.0], 0))
    wrong = Compared(boxes([], [], 0), boxes([0], [1.0], 0))
    frames = [Forwarded(wrong if i < 4 else right, 1e9 + 400.0 * i, 0.1) for i in range(20)]
    assert measured(frames).wrong.value == pytest.approx(0.2)
    answered = [replace(frame, answered=i < 3) for i, frame in enumerate(frames)]
    told = measured(answered)
    assert told.wrong.value == pytest.approx(0.05)
    assert told.ap50 == measured(frames).ap50, "the student is not better for it"


def test_false_alarms_of_a_class_that_no_label_has_count() -> None:
    people = Compared(boxes([0], [0.8], 0), boxes([0], [1.0], 0))
    bus = Compared(together(people.found, boxes([5], [0.9], 1)), people.true)
    frames = [Forwarded(people, 1e9 + 400.0 * i, 0.1) for i in range(20)]
    both = measured(frames), measured([replace(frame, compared=bus) for frame in frames])
    assert [one.ap50.value for one in both if one.ap50] == pytest.approx([1.0, 0.5])
    only_people = measure([replace(frame, compared=bus) for frame in frames], CLASSES, interest={0})
    assert only_people is not None
    assert only_people.ap50 is not None
    assert only_people.ap50.value == pytest.approx(1.0)


def test_a_class_is_told_by_itself_from_twenty_labels_on() -> None:
    one = Compared(boxes([0], [0.8], 0), boxes([0], [1.0], 0))
    frames = [Forwarded(one, 1e9 + 400.0 * i, 0.1) for i in range(LEAST_OBJECTS)]
    assert list(measured(frames).per_class) == ["person"]
    assert list(measured(frames[1:]).per_class) == []


def test_where_nothing_is_true_there_is_no_precision_but_a_share_of_hard_frames() -> None:
    alarm = Compared(boxes([0], [0.8], 0), boxes([], [], 0))
    told = measured([Forwarded(alarm, 1e9 + 400.0 * i, 0.1) for i in range(12)])
    assert told.ap50 is None
    assert (told.wrong.value, told.wrong.high) == (1.0, 1.0)


def test_a_seed_gives_the_same_interval_again_and_order_does_not_matter() -> None:
    frames = leaving(camera(2, 6, per_hour=30), 0, audits=3, hard=2, per_hour=30)
    assert measured(frames, seed=4) == measured(frames, seed=4)
    told, turned = measured(frames), measured(frames[::-1])
    assert told.ap50 == turned.ap50


def test_a_thousand_frames_take_seconds() -> None:
    frames = [Forwarded(one, at, 0.01) for at, one in camera(3, 10, per_hour=100)]
    started = time.process_time()
    measured(frames)
    assert time.process_time() - started < 10.0


def thinned(drawn: Sequence[Forwarded], seed: int, share: Sequence[float]) -> tuple[list[Forwarded], list[Forwarded]]:
    """Return which audits the teacher saw and which it did not, of each hour so large a share, drawn by chance."""
    rng, start = np.random.default_rng(seed), drawn[0].at
    lucky = [rng.random() < share[int((one.at - start) // WINDOW_S)] for one in drawn]
    return [one for one, seen in zip(drawn, lucky, strict=True) if seen], [
        one for one, seen in zip(drawn, lucky, strict=True) if not seen
    ]


def standing_for_all(seen: Sequence[Forwarded], unseen: Sequence[Forwarded]) -> list[Forwarded]:
    told = [[(one.at, one.probability or 1.0) for one in some] for some in (seen, unseen)]
    return [
        replace(one, probability=each) for one, each in zip(seen, drawn_and_labelled(told[0], told[1]), strict=True)
    ]


def test_audits_that_were_not_labelled_do_not_bias_the_estimate_though_hours_are_thinned_unlike() -> None:
    per_hour, told, plain = 30, [], []
    share = [1.0, 1.0, 0.3, 0.3] * 3
    for seed in range(16):
        skills = np.repeat([0.95, 0.95, 0.4, 0.4] * 3, per_hour)
        rng = np.random.default_rng(seed)
        frames = [(1e9 + WINDOW_S * i / per_hour, seen(rng, skill, 2.0)) for i, skill in enumerate(skills)]
        truth = pooled([one for _, one in frames])
        audits, others = thinned(leaving(frames, seed, audits=6, hard=0, per_hour=per_hour), seed, share)
        for errors, some in ((told, standing_for_all(audits, others)), (plain, audits)):
            found = measured(some)
            assert found.ap50 is not None
            errors.append(found.ap50.value - truth)
    print(f"error {np.mean(told):+.4f}, without {np.mean(plain):+.4f}")
    assert abs(np.mean(told)) < 0.015
    assert np.mean(plain) > 0.04, "hours that the teacher saw little of would not count"


@given(st.lists(st.tuples(st.floats(0, 9e4), st.floats(0.01, 1.0), st.booleans()), min_size=1, max_size=60))
def test_all_audits_are_stood_for_once_but_those_far_from_any_that_was_labelled(
    drawn: list[tuple[float, float, bool]],
) -> None:
    labelled = [(at, probability) for at, probability, seen in drawn if seen]
    others = [(at, probability) for at, probability, seen in drawn if not seen]
    found = drawn_and_labelled(labelled, others)
    near = [p for at, p in others if any(abs(at - other) <= REACH_S for other, _ in labelled)]
    assert sum(1 / p for p in found) == pytest.approx(sum(1 / p for p in [*near, *(p for _, p in labelled)]))
    assert all(one <= p * (1 + 1e-9) for one, (_, p) in zip(found, labelled, strict=True))


def test_one_block_of_time_says_nothing_of_how_far_it_may_be_off() -> None:
    near = [Forwarded(one, 1e9 + 0.1 * index, 0.5) for index, (_, one) in enumerate(camera(3, 1)[:60])]
    told = measured(near).ap50
    assert told is not None
    assert (told.low, told.high) == (0.0, 1.0)
