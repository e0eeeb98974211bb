from __future__ import annotations

import pytest

from culling.cloud.archive.zoo import Student, members

HOUR_S = 3600.0


def student(name: str, hour: float, sha256: str = "", state: str = "retired", weights: str | None = "w") -> Student:
    return Student(name, state, hour * HOUR_S, sha256 or name, weights, base=name == "base")


LIVE, BASE = student("live", 47, state="live"), student("base", 0)


def names(*earlier: Student, most: int = 9) -> list[str]:
    return [one.name for one in members([LIVE, *earlier, BASE], most)]


def test_the_last_student_of_each_hour_stays_the_newest_of_them_first() -> None:
    evening, noon, night = student("a", 44), student("b", 36), student("c", 26)
    evening_before = student("d", 20)
    assert names(evening, noon, night, evening_before) == ["a", "b", "c"]
    assert names(evening, noon, night, most=2) == ["a", "b"]
    assert names() == []


@pytest.mark.parametrize("state", ["live", "rejected", "revoked"])
def test_bytes_that_are_in_use_or_were_turned_down_under_any_counter_never_come_back(state: str) -> None:
    assert names(student("b", 40, "same", state=state), student("a", 30, "same")) == []
    assert names(student("b", 40, "same"), student("a", 30, "same", state=state)) == []


def test_a_student_that_was_published_again_is_of_both_hours_but_stays_once() -> None:
    again, between, first = student("c", 44, "same"), student("b", 40), student("a", 26, "same")
    assert names(again, between, first) == ["c", "b"]
    assert names(student("d", 44 + 0.5), again, between, first) == ["d", "b", "a"], "in its other hour"


def test_the_base_and_what_nothing_can_be_trained_from_stay_out() -> None:
    assert names(student("again", 30, "base"), student("onnx", 31, weights=None)) == []
