from __future__ import annotations

from typing import Any

import pytest

from culling.cloud.page.why import why

PERSON = [0.0, 0.0, 20.0, 40.0, 0.9, "person"]
DOUBTED = [50.0, 0.0, 70.0, 40.0, 0.5, "person"]
CAR = [100.0, 0.0, 180.0, 40.0, 0.9, "car"]


@pytest.mark.parametrize(
    ("reason", "student", "teacher", "told"),
    [
        ("hard", [PERSON], None, "the teacher has not looked yet"),
        ("hard", [DOUBTED, PERSON], [PERSON, DOUBTED], "1 box between 0.4 and 0.6; both see the same"),
        ("hard", [PERSON], [PERSON, CAR, CAR], "the teacher sees 2 cars more"),
        ("hard", [PERSON, CAR], [PERSON], "the student sees 1 car that the teacher does not"),
        ("hard", [[*PERSON[:5], "car"]], [PERSON], "the teacher sees 1 person more; the student sees 1 car that the"),
        ("audit", [], [], "drawn at random, to see what is missed; both see nothing"),
        ("manual", [], None, "somebody asked for it; the teacher has not looked yet"),
    ],
)
def test_why_a_frame_was_hard_is_said_in_words(reason: str, student: Any, teacher: Any, told: str) -> None:
    assert why({"reason": reason, "student": student, "teacher": teacher}).startswith(told)


def test_one_box_is_matched_once() -> None:
    told = why({"reason": "hard", "student": [PERSON], "teacher": [PERSON, PERSON]})
    assert told == "the teacher sees 1 person more"
