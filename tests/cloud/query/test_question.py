from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from culling.cloud.query.question import Question, parse
from culling.common.errors import SettingsError
from culling.common.frame import Detections

CLASSES = ("person", "car", "traffic light")


def boxes(*rows: tuple[str, float]) -> Detections:
    scores = np.array([score for _, score in rows], np.float32)
    labels = np.array([CLASSES.index(name) for name, _ in rows], np.int64)
    return Detections(np.zeros((len(rows), 4), np.float32), scores, labels)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("car >= 2", {2, 3, 4}),
        ("car > 2", {3, 4}),
        ("car <= 2", {0, 1, 2}),
        ("car < 2", {0, 1}),
        ("car == 2", {2}),
        ("car==0", {0}),
        (" car < 1 or car > 3 ", {0, 4}),
        ("car >= 1 and car <= 3", {1, 2, 3}),
        ("traffic light == 0 and car > 3", {4}),
        ("car == 0 or car > 1 and person > 0 or car == 1", {0, 1}),
    ],
)
def test_a_query_holds_for_the_numbers_that_it_says(text: str, counts: set[int]) -> None:
    question = parse(text)
    assert {n for n in range(5) if question.answer(boxes(*[("car", 0.9)] * n), CLASSES)} == counts


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("car", "character 1: 'car' is not CLASS OP NUMBER"),
        ("", "character 1: '' is not CLASS OP NUMBER"),
        ("car = 3", "character 1: 'car = 3' is not CLASS OP NUMBER, OP being one of >= > <= < ==; e.g."),
        ("car => 3", "character 1: 'car => 3' is not"),
        ("car >= three", "character 1: 'car >= three' is not"),
        ("car >= -1", "character 1: 'car >= -1' is not"),
        ("car >= 3.5", "character 1: 'car >= 3.5' is not"),
        (">= 3", "character 1: '>= 3' is not"),
        ("car >= 3 and", "character 13: '' is not"),
        ("car >= 3 or  person", "character 14: 'person' is not"),
        ("car >= 3 person > 1", "character 1: 'car >= 3 person > 1' is not"),
        ("person > 1 and car >= 0", "character 16: it is true of every frame"),
        ("person > 1 and car < 0", "character 16: it is true of no frame"),
        ("car >= 2 and car <= 1", "character 1: no frame has 2 or more and 1 or fewer of car"),
        ("car > 0 or person == 1 and car > 0 and person > 3", "character 12: no frame has 4 or more and 1 or fewer"),
        ("car > 5000", "character 7: 5000 are more than any detector finds"),
    ],
)
def test_a_bad_query_names_the_place(text: str, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(text)
    assert told in str(refused.value)


def test_a_class_that_nobody_knows_is_refused_and_the_known_ones_are_listed() -> None:
    parse("person > 0 and car > 1").check(CLASSES)
    with pytest.raises(
        SettingsError, match="nobody knows a class cars; did you mean car\\? known: person, car, traffic"
    ):
        parse("person > 0 or cars > 1").check(CLASSES)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("car >= 1", 0.9),
        ("car >= 3", 0.25),
        ("car > 3", 0.0),
        ("car <= 2", 0.75),
        ("car == 2", 0.5),
        ("person == 0", 1.0),
        ("car >= 3 or person == 0", 1.0),
        ("car >= 3 and person == 0", 0.25),
    ],
)
def test_the_score_is_that_of_the_box_that_decides(text: str, score: float) -> None:
    found = boxes(("car", 0.9), ("traffic light", 0.8), ("car", 0.5), ("car", 0.25))
    assert parse(text).score(found, CLASSES) == pytest.approx(score)


TERMS = st.tuples(st.sampled_from(["person", "car"]), st.sampled_from([">=", "==", "<="]), st.integers(1, 3))
QUERIES = st.lists(TERMS, min_size=1, max_size=4).map(lambda rows: [f"{name} {op} {n}" for name, op, n in rows])


@given(QUERIES, st.lists(st.tuples(st.sampled_from(CLASSES), st.floats(0, 1, width=32)), max_size=8), st.booleans())
def test_the_score_is_high_where_the_answer_is_yes_whatever_score_makes_an_object(
    terms: Sequence[str], rows: list[tuple[str, float]], either: bool
) -> None:
    try:
        question: Question = parse((" or " if either else " and ").join(terms))
    except SettingsError as refused:
        assume("no frame has" not in str(refused))
        raise
    found, score = boxes(*rows), question.score(boxes(*rows), CLASSES)
    for sure in (0.3, 0.5, 0.7):
        certain = Detections(found.boxes, np.float32(found.scores >= sure), found.labels)
        assert question.answer(certain.above(1), CLASSES) == (question.score(certain, CLASSES) >= 1)
    assert 0 <= score <= 1
