"""What is asked of each frame: `CLASS OP NUMBER`, joined by `and` and `or`, of which `and` binds more closely.

car >= 3                    three cars or more
person == 0 and truck > 1   nobody, and two trucks or more
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from culling.common.errors import SettingsError
from culling.common.frame import Detections

EXAMPLE = 'e.g. "car >= 3" or "person > 0 and car == 0"'
MOST = 1000
"""The largest number that may be asked for: no detector finds so many objects in a frame."""

_TERM = re.compile(r"(?P<name>[^<>=]*?)\s*(?P<op>>=|<=|==|>|<)\s*(?P<number>\d{1,9})")
_JOIN = re.compile(r"\s+(and|or)(?:\s+|$)")


@dataclass(frozen=True)
class Term:
    """At least `least` and at most `most` objects of the class `name` (None: any number more)."""

    name: str
    least: int
    most: int | None

    def holds(self, count: int) -> bool:
        """Return whether so many objects are what is asked for."""
        return self.least <= count and (self.most is None or count <= self.most)

    def score(self, found: Detections, label: int) -> float:
        """Return in [0, 1] how much a student's boxes, best first, speak for it: as the box does that decides."""
        scores = np.sort(found.scores[found.labels == label])[::-1]
        enough = _of(scores, self.least) if self.least else 1.0
        return enough if self.most is None else min(enough, 1 - _of(scores, self.most + 1))


@dataclass(frozen=True)
class Question:
    """A query as it was written, `text`, and what it says: any of `cases`, of each of which all terms hold."""

    text: str
    cases: tuple[tuple[Term, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that it asks about."""
        return tuple(dict.fromkeys(term.name for case in self.cases for term in case))

    def check(self, known: Sequence[str]) -> None:
        """Raise SettingsError where it asks about a class that is not `known`."""
        for name in self.names:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise SettingsError(
                    f'query "{self.text}": nobody knows a class {name}; {hint}known: {", ".join(known)}'
                )

    def score(self, found: Detections, classes: Sequence[str]) -> float:
        """Return in [0, 1] how likely the answer is yes by a student's boxes, whose labels are indices of `classes`."""
        return max(min(term.score(found, classes.index(term.name)) for term in case) for case in self.cases)

    def answer(self, found: Detections, classes: Sequence[str]) -> bool:
        """Return the answer where all of `found` are objects, their labels indices of `classes`."""
        counts = {name: int((found.labels == classes.index(name)).sum()) for name in self.names}
        return any(all(term.holds(counts[term.name]) for term in case) for case in self.cases)


def parse(text: str) -> Question:
    """Return a query as a question. Raises SettingsError that names the place where it is none."""
    cases: list[list[Term]] = [[]]
    at = began = 0
    for join in (*_JOIN.finditer(text), None):
        end = len(text) if join is None else join.start()
        cases[-1].append(_term(text, at, end))
        if join is not None:
            at = join.end()
        if join is None or join[1] == "or":
            _check_possible(text, began, cases[-1])
            began = at
            cases.append([])
    return Question(text.strip(), tuple(tuple(case) for case in cases[:-1]))


def _check_possible(text: str, start: int, case: Sequence[Term]) -> None:
    """Raise SettingsError where no number of some class makes all terms hold that are joined by `and`."""
    for name in dict.fromkeys(term.name for term in case):
        own = [term for term in case if term.name == name]
        least = max(term.least for term in own)
        most = min((term.most for term in own if term.most is not None), default=least)
        if least > most:
            why = f"no frame has {least} or more and {most} or fewer of {name}: so it is true of none"
            raise _refused(text, start, f"{why}; join them by `or`, or leave one out")


def _term(text: str, start: int, end: int) -> Term:
    part = text[start:end].strip()
    start += len(text[start:end]) - len(text[start:end].lstrip())
    found = _TERM.fullmatch(part)
    if found is None or not found["name"]:
        raise _refused(text, start, f"{part!r} is not CLASS OP NUMBER, OP being one of >= > <= < ==; {EXAMPLE}")
    name, operator, number = found["name"], found["op"], int(found["number"])
    if number > MOST:
        raise _refused(text, start + found.start("number"), f"{number} are more than any detector finds ({MOST})")
    return _sensible(text, start, _bounds(name, operator, number))


def _bounds(name: str, operator: str, number: int) -> Term:
    match operator:
        case ">=":
            return Term(name, number, None)
        case ">":
            return Term(name, number + 1, None)
        case "<=":
            return Term(name, 0, number)
        case "<":
            return Term(name, 0, number - 1)
    return Term(name, number, number)


def _sensible(text: str, start: int, term: Term) -> Term:
    if term.least == 0 and term.most is None:
        raise _refused(text, start, "it is true of every frame; ask for one object or more")
    if term.most is not None and term.most < 0:
        raise _refused(text, start, "it is true of no frame; ask for == 0")
    return term


def _refused(text: str, at: int, why: str) -> SettingsError:
    return SettingsError(f'query "{text}", character {at + 1}: {why}')


def _of(scores: np.typing.NDArray[np.float32], number: int) -> float:
    """Return the `number`-th best score, 0 where there are fewer."""
    return float(scores[number - 1]) if number <= len(scores) else 0.0
