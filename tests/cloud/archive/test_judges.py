from __future__ import annotations

from collections import Counter

from culling.cloud.archive.day import hour_of
from culling.cloud.archive.judges import Archived, in_order

PERSON, BUS = 0, 4


def frame(at: float, *classes: int, drawn: bool = False, block_s: float = 300.0) -> Archived:
    return Archived(f"{at:010.0f}", at, int(at // block_s), drawn, frozenset(classes))


def hours(names: list[str]) -> Counter[int]:
    return Counter(hour_of(float(name)) for name in names)


def test_every_hour_judges_although_the_newest_frames_are_all_of_one() -> None:
    day = [frame(3600.0 * 12 + at, PERSON) for at in range(600)]
    night = [frame(3600.0 * 2 + at, PERSON) for at in range(3)]
    assert hours(in_order([*day, *night])[:8]) == {12: 5, 2: 3}


def test_a_rare_class_judges_beside_a_common_one() -> None:
    people = [frame(at, PERSON) for at in range(50)]
    buses = [frame(100 + at, PERSON, BUS) for at in range(2)]
    chosen = in_order([*people, *buses])[:4]
    assert sum(name in {bus.name for bus in buses} for name in chosen) == 2


def test_what_was_drawn_at_random_goes_before_what_was_chosen() -> None:
    frames = [frame(at, PERSON, drawn=at in (3, 5)) for at in range(10)]
    assert {int(name) for name in in_order(frames)[:2]} == {3, 5}


def test_blocks_of_time_take_turns_and_the_newest_goes_first() -> None:
    frames = [frame(at, PERSON, block_s=10.0) for at in range(30)]
    assert [int(name) for name in in_order(frames)[:4]] == [29, 19, 9, 28]


def test_newer_frames_take_the_place_of_older_ones_of_their_hour_alone() -> None:
    old = [frame(3600.0 * 2 + at, PERSON) for at in range(4)] + [frame(3600.0 * 12 + at, PERSON) for at in range(4)]
    new = [frame(3600.0 * 36 + at, PERSON) for at in range(4)]
    chosen = [float(name) for name in in_order([*old, *new])[:4]]
    assert sorted(hour_of(at) for at in chosen) == [2, 2, 12, 12]
    assert [at for at in chosen if at > 3600.0 * 24] == [3600.0 * 36 + 3]


def test_no_frames_are_in_no_order() -> None:
    assert in_order([]) == []
    assert len(in_order([frame(1.0), frame(2.0)])) == 2
