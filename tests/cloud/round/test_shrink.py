from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.tally import Tally, tallies
from culling.cloud.round.shrink import LEAST_FRAMES, SizeComparison, SizeLoss, SizeVerdict, enough, smallest, told
from culling.common.frame import Detections

CLASSES = 2
NAMES = {0: "person", 1: "bus"}
FRAMES = 40
BLOCKS = [at // 4 for at in range(FRAMES)]
CROWD = 12
Looked = list[list[Tally]]


def crowd(off: float, label: int = 0, found: int = CROWD, noise: Sequence[float] = (), alarm: bool = False) -> Compared:
    """A frame of people, of which a student found so many, each box `off` of its width beside the truth."""
    left = np.arange(CROWD, dtype=np.float32) * 50
    true = np.stack([left, np.zeros(CROWD), left + 20, np.full(CROWD, 40)], 1).astype(np.float32)
    moved = true.copy()
    moved[:, [0, 2]] += 20 * off
    scores = np.linspace(0.9, 0.4, CROWD).astype(np.float32)
    for at, by in enumerate(noise):
        scores[at % CROWD] = np.clip(scores[at % CROWD] + by, 0.05, 1.0)
    labels = np.full(CROWD, label)
    seen = Detections(moved[:found], scores[:found], labels[:found])
    if alarm:
        extra = np.float32([[900, 0, 940, 40]])
        seen = Detections(
            np.vstack([seen.boxes, extra]), np.append(seen.scores, np.float32(0.5)), np.append(seen.labels, 1)
        )
    return Compared(seen, Detections(true, np.ones(CROWD, np.float32), labels))


def looked(frames: Sequence[Compared]) -> Looked:
    return [tallies(frame, CLASSES) for frame in frames]


def compared(full: Looked, tolerance: float = 0.01) -> SizeComparison:
    return SizeComparison(full, BLOCKS[: len(full)], NAMES, tolerance)


FULL = looked([crowd(0.02, found=CROWD - at % 3) for at in range(FRAMES)])


def test_an_input_at_which_nothing_changes_loses_nothing() -> None:
    verdict = compared(FULL, tolerance=0.0).verdict(FULL)
    assert verdict.passed
    assert (verdict.ap50, verdict.ap50_95) == (0, 0)
    assert all(loss.low == 0 for loss in verdict.losses)


def test_a_crowd_whose_boxes_go_wrong_is_caught_although_its_scores_and_so_its_loss_stay() -> None:
    beside = [crowd(0.5, found=CROWD - at % 3) for at in range(FRAMES)]  # an overlap of a third
    verdict = compared(FULL).verdict(looked(beside))
    assert not verdict.passed
    assert verdict.ap50 < -0.5


def test_boxes_that_only_get_less_exact_are_caught_by_the_stricter_overlaps() -> None:
    looser = [crowd(0.12, found=CROWD - at % 3) for at in range(FRAMES)]
    verdict = compared(FULL).verdict(looked(looser))
    assert verdict.ap50 == 0
    assert not verdict.passed
    assert verdict.losses[0].name == "AP50:95 of person"


def test_a_loss_in_one_rare_moment_is_told_by_its_bound() -> None:
    once = [crowd(0.02, found=0 if at < 4 else CROWD - at % 3) for at in range(FRAMES)]
    verdict = compared(FULL, tolerance=0.12).verdict(looked(once))
    assert -0.12 < verdict.ap50 < 0
    assert not verdict.passed, "a tenth of the frames are lost, and it may be two tenths"


def test_false_alarms_of_a_class_that_is_not_there_count() -> None:
    alarmed = [crowd(0.02, found=CROWD - at % 3, alarm=at % 2 == 0) for at in range(FRAMES)]
    verdict = compared(FULL).verdict(looked(alarmed))
    assert verdict.losses[0].name == "frames without a false bus"
    assert not verdict.passed


def test_a_class_of_few_objects_may_lose_more_since_its_figure_is_less_certain() -> None:
    (person, *_) = [loss for loss in compared(FULL).verdict(FULL).losses if loss.name == "AP50 of person"]
    few = looked(
        [crowd(0.02, found=CROWD) if at < 2 else Compared(Detections.empty(), Detections.empty()) for at in range(30)]
    )
    (fewer, *_) = [
        loss for loss in SizeComparison(few, BLOCKS[:30], NAMES, 0.01).verdict(few).losses if "AP50 of" in loss.name
    ]
    assert person.least == -0.01
    assert fewer.least == -0.01 * (100 / (2 * CROWD)) ** 0.5


NOISE = st.lists(st.floats(-0.3, 0.3), min_size=FRAMES, max_size=FRAMES)


@settings(max_examples=6, deadline=None)
@given(NOISE, st.lists(st.integers(0, CROWD), min_size=FRAMES, max_size=FRAMES), st.floats(0, 0.2), st.floats(0, 0.2))
def test_who_tolerates_more_never_gets_a_larger_input(
    noise: list[float], found: list[int], one: float, other: float
) -> None:
    smaller = looked([crowd(0.1, found=count, noise=[by]) for count, by in zip(found, noise, strict=True)])
    chosen = []
    for tolerance in sorted((one, other)):
        comparison = compared(FULL, tolerance)
        chosen.append(smallest([comparison.verdict(each) for each in (FULL, smaller)] * 2))
    assert chosen[0] <= chosen[1]


@settings(max_examples=6, deadline=None)
@given(NOISE, st.floats(0.0, 0.1))
def test_a_clear_loss_never_passes(noise: list[float], tolerance: float) -> None:
    missing = looked([crowd(0.02, found=(CROWD - at % 3) // 2, noise=[by]) for at, by in enumerate(noise)])
    verdict = compared(FULL, tolerance).verdict(missing)
    assert all(loss.low <= loss.change for loss in verdict.losses)
    assert not verdict.passed


def verdict(*lows: float) -> SizeVerdict:
    return SizeVerdict(0.01, 0.02, tuple(SizeLoss("AP50 of person", low, low, -0.01) for low in lows))


def test_a_scale_that_passes_beyond_one_that_failed_is_chosen_and_without_any_the_full_one() -> None:
    assert smallest([verdict(0), verdict(-0.5), verdict(0), verdict(-0.5)]) == 2
    assert smallest([verdict(0), verdict(-0.5)]) == 0
    assert smallest([verdict(0), verdict(0), verdict(0)]) == 2
    assert smallest([]) == 0


def test_few_frames_and_frames_of_few_moments_are_not_enough() -> None:
    assert enough([at // 4 for at in range(LEAST_FRAMES)])
    assert not enough([at // 2 for at in range(LEAST_FRAMES - 1)])
    assert not enough([at // 10 for at in range(40)])
    nothing = [Compared(Detections.empty(), Detections.empty())] * FRAMES
    assert not compared(looked(nothing)).enough
    assert not SizeComparison([], [], NAMES, 0.01).enough


def test_the_choice_is_told_in_words() -> None:
    assert told([1.0], [], 0, 12).startswith("full size: 12 frames, of few moments or few objects, cannot tell")
    assert (
        told([1.0], [verdict(0)], 0, 40) == "full size: at every smaller one the confidence loss is another altogether"
    )
    assert told([1.0, 0.9], [verdict(0), verdict(0)], 1, 40) == (
        "scale 0.90: AP50 +0.010, AP50:95 +0.020 on 40 labelled frames"
    )
    assert told([1.0, 0.9, 0.81], [verdict(0), verdict(-0.5), verdict(-0.2)], 0, 40) == (
        "full size: at scale 0.81 AP50 of person changes by -0.200 on 40 labelled frames, which may be -0.200, "
        "and -0.010 is allowed"
    )
