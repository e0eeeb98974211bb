from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.changed.differ import LEAST, MOST, OF_BLOCK, Pair, difference, most_different
from culling.common.frame import Detections
from support.cloud import detections

PARTS = ("boxes", "scores", "labels")
PLACES = [(0, 0, 10, 10), (0, 0, 10, 9), (40, 0, 60, 30), (42, 2, 60, 30), (80, 80, 90, 99)]
BOXES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from([0.2, 0.35, 0.5, 0.9]), st.integers(0, 1)), max_size=5
).map(lambda rows: detections(*((*place, score, label) for place, score, label in rows)))
PAIRS = st.lists(st.tuples(st.integers(0, 5), BOXES, BOXES), max_size=20).map(
    lambda rows: [Pair(f"{at:032x}", block, before, after) for at, (block, before, after) in enumerate(rows)]
)


@given(BOXES)
def test_a_student_does_not_differ_from_itself(found: Detections) -> None:
    assert difference(found, found) == 0


@given(BOXES, BOXES)
def test_what_both_find_bounds_it_and_a_box_of_one_alone_counts_in_full(before: Detections, after: Detections) -> None:
    told = difference(before, after)
    assert 0 <= told <= float(before.scores.sum() + after.scores.sum()) + 1e-5
    far = detections((500, 500, 520, 520, 0.7, 0))
    more = Detections(
        *(np.concatenate([getattr(one, name) for one in (after, far)]) for name in ("boxes", "scores", "labels"))
    )
    assert abs(difference(before, more) - told - 0.7) < 1e-5


def test_one_object_with_another_score_differs_by_that_and_another_class_by_both() -> None:
    person = detections((0, 0, 10, 10, 0.9, 0))
    assert difference(person, detections((0, 0, 10, 9, 0.4, 0))) == 0.5
    assert difference(person, detections((0, 0, 10, 9, 0.4, 2))) == 1.3


@given(PAIRS)
def test_the_most_different_come_first_few_of_each_block_and_none_that_matters_more_is_left_out(
    pairs: list[Pair],
) -> None:
    found = most_different(pairs)
    told = [one.difference for one in found]
    assert told == sorted(told, reverse=True)
    assert len(found) <= MOST
    assert all(one.difference >= LEAST for one in found)
    blocks = [one.pair.block for one in found]
    assert all(blocks.count(block) <= OF_BLOCK for block in blocks)
    chosen = {one.pair.frame for one in found}
    for pair in pairs:
        mine = difference(pair.before, pair.after)
        if pair.frame not in chosen and mine >= LEAST:
            full = len(found) == MOST and mine <= told[-1]
            rivals = [one for one in found if one.pair.block == pair.block and one.difference >= mine]
            assert full or len(rivals) == OF_BLOCK
    assert most_different(reversed(pairs)) == found
