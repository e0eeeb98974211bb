from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.query.difference import GRID, candidates, standing


def greys(*levels: float) -> NDArray[np.uint8]:
    return np.stack([np.full(GRID, level, np.uint8) for level in levels])


def test_a_frame_is_compared_with_the_last_one_looked_at_not_with_its_neighbour() -> None:
    drifting = greys(100, 102, 104, 106, 100, 100)
    assert standing(drifting, 3).by.tolist() == [0, 0, 2, 2, 4, 4]
    assert standing(drifting, 3).looked.tolist() == [0, 2, 4]


def test_darker_counts_as_much_as_brighter() -> None:
    assert standing(greys(10, 200, 10), 5).by.tolist() == [0, 1, 2]


def test_without_a_level_every_frame_is_looked_at_even_a_repeated_one() -> None:
    assert standing(greys(5, 5, 5), 0).by.tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_levels_leave_out_more_and_more_the_first_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.integers(90, 110, (300, *GRID)).astype(np.uint8)
    moved = np.cumsum(rng.random(300) < 0.2).astype(np.uint8)
    looked = [len(one.looked) for one in candidates(noise + moved[:, None, None])]
    assert looked[0] == 300
    assert looked == sorted(set(looked), reverse=True)
    assert looked[-1] <= 30


def test_a_picture_that_never_changes_has_one_level_besides() -> None:
    assert [len(one.looked) for one in candidates(greys(*[7] * 20))] == [20, 1]
