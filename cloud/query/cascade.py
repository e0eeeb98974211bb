"""Who answers which frame: levels of difference and student are chosen on one sample and certified on another.

    wanted      no more than the share `error` of the frames is yes where the teacher says no, and no more the other way
    choosing    a third of the sample, all of it labelled: which frames stand for others, and between which two scores
                the student is not believed. Below both it says no, above both yes; between them the teacher is asked
    certifying  the rest, drawn apart, judged end to end: frames that were left out count with the answer that stands

Several levels are tried on the certifying sample, in an order fixed beforehand, from cautious to bold; the first that
is not certified ends it, and the one before is taken. So each is tested at full confidence, and the chance to take a
wrong one stays 5 % ("fixed sequence testing", Angelopoulos et al., Learn then Test, 2021). Where not even the first is
certified, the teacher looks at every frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from culling.cloud.query.bound import CONFIDENCE, certified, needed
from culling.cloud.query.difference import Standing
from culling.common.errors import SettingsError

Indices = NDArray[np.int64]
Answers = NDArray[np.bool_]

SPARE = (3, 2, 1, 0)
"""Wrong answers that the certifying sample may hold, the most for which it is still cheap; with more, bolder levels
pass, with none, the sample is smallest."""
CHEAP = 0.2
"""The share of the frames that the whole sample may be for that."""
CAUTION = (0.25, 0.5, 0.75, 1.0)
"""How far each of the first levels goes from asking the teacher always to the levels that the choosing sample bears."""
FEW = 10
"""With fewer frames of one answer in the choosing sample, nothing is known of where their scores lie."""
UNSURE = 0.4
"""Then a student is not believed when it speaks for that answer with this much or more."""

_SURE = f"{100 * CONFIDENCE:g} % confidence"


class Eyes(Protocol):
    """What looks at frames, given by index; each is looked at once, however often it is asked for."""

    def student(self, frames: Indices) -> NDArray[np.float64]:
        """Return the score in [0, 1] by which the student would say yes."""
        ...

    def teacher(self, frames: Indices) -> Answers:
        """Return the answer by the teacher."""
        ...

    def price(self) -> tuple[float, float]:
        """Return the seconds that a look of student and of teacher takes."""
        ...


@dataclass(frozen=True)
class Levels:
    """The scores below which the student's no, and from which its yes is believed."""

    low: float
    high: float

    def unsure(self, scores: NDArray[np.float64]) -> Answers:
        """Return which frames the teacher is asked about."""
        return (scores >= self.low) & (scores < self.high)


@dataclass(frozen=True)
class Sample:
    """Frames to choose by and to certify by, indices; both in no order."""

    choose: Indices
    certify: Indices

    @property
    def both(self) -> Indices:
        """All frames drawn."""
        return np.concatenate([self.choose, self.certify])


@dataclass(frozen=True)
class Tried:
    """What may be certified: which frames stand for others, and the levels; whether it is `cautious`."""

    standing: Standing
    levels: Levels
    cautious: bool


@dataclass(frozen=True)
class Cascade:
    """What was certified: which frames stand for others, and the levels; and what the certifying sample showed.

    `wrong_yes` and `wrong_no` count answers that were not the teacher's.
    """

    standing: Standing
    levels: Levels
    wrong_yes: int
    wrong_no: int


def sizes(total: int, error: float, wanted: int | None = None, cut: bool = False) -> tuple[int, int]:
    """Return how many of `total` frames to choose by and to certify by, so that `error` can be certified.

    `wanted` is how many both are to be; of a video that is `cut` no more than `total` frames were asked for. Raises
    SettingsError where that, or the video, does not suffice for `error`.
    """
    allowed = int(error * total)
    plans = [_split(needed(allowed, total, spare)) for spare in SPARE]
    choose, certify = next((plan for plan in plans if sum(plan) <= CHEAP * total), plans[-1])
    if wanted is not None:
        drawn = min(wanted, total)
        choose, certify = drawn // 3, drawn - drawn // 3
    least = sum(_split(needed(allowed, total)))
    if least > total or not allowed:
        there = "--frames leaves" if cut else "the video has"
        takes = f"with {_SURE} that takes a sample of {least} frames" if allowed else "that is less than one frame"
        raise SettingsError(
            f"--error {error:g}: {takes}, and {there} {total} that can be decoded; it is certain only from the teacher "
            f"on every frame, or raise it to {_least_error(total):.3g}"
        )
    if choose + certify < least:
        raise SettingsError(
            f"--sample {wanted}: for an error of {error:g} with {_SURE} the teacher has to label {least} of the "
            f"{total} frames; raise --sample to that, or raise --error"
        )
    return choose, min(certify, total - choose)


def draw(total: int, choose: int, certify: int, seed: int) -> Sample:
    """Return frames drawn evenly from all of them, none twice."""
    drawn = np.random.default_rng(seed).permutation(total)
    return Sample(drawn[:choose], drawn[choose : choose + certify])


def find(eyes: Eyes, ways: Sequence[Standing], sample: Sample, error: float) -> Cascade | None:
    """Return the cascade that is certified to keep to `error`; None where none is. `ways` are all that may be taken.

    The first of `ways` leaves out no frame.
    """
    chosen = _choose_way(eyes, ways, sample.choose, error)
    tried = list(_sequence(eyes, chosen, sample.choose, error))
    if chosen is not ways[0]:
        # Should the frames that stand for others break the bound, what is wrong is that and not the student.
        tried = [one for one in _sequence(eyes, ways[0], sample.choose, error) if one.cautious] + tried
    return _certify(eyes, tried, sample, error)


def answers(eyes: Eyes, cascade: Cascade | None, sample: Sample, total: int) -> Answers:
    """Return the answer of each of `total` frames: the teacher's own in the sample, without a cascade everywhere."""
    if cascade is None:
        return eyes.teacher(np.arange(total))
    looked, back = np.unique(cascade.standing.by, return_inverse=True)
    found = np.asarray(_answered(eyes, cascade.levels, looked)[back], bool)
    found[sample.both] = eyes.teacher(sample.both)
    return found


def levels(scores: NDArray[np.float64], truth: Answers, spare: int) -> Levels:
    """Return the boldest levels by which the student is wrong at most `spare` times either way.

    `scores` and `truth` `(N,)` are the student's and the teacher's word of the same frames.
    """
    yes, no = np.sort(scores[truth]), np.sort(scores[~truth])[::-1]
    # Of the rarer answer only a tenth may be lost, however few all of its frames are beside the bound.
    low = float(yes[min(spare, len(yes) // FEW)]) if len(yes) >= FEW else UNSURE
    high = float(np.nextafter(no[min(spare, len(no) // FEW)], 2)) if len(no) >= FEW else 1 - UNSURE
    if len(yes) < FEW:
        high = 2.0
    if len(no) < FEW:
        low = 0.0
    return Levels(low, high) if low <= high else Levels((low + high) / 2, (low + high) / 2)


def _choose_way(eyes: Eyes, ways: Sequence[Standing], frames: Indices, error: float) -> Standing:
    """Return the cheapest way to leave out frames that costs the choosing sample at most half of the error."""
    truth, most = eyes.teacher(frames), error * len(frames) / 2
    eyes.student(np.concatenate([way.by[frames] for way in ways]))  # all at once: each call plays the video
    for way in sorted(ways, key=lambda way: _cost(eyes, way, frames, truth, error)):
        scores = eyes.student(way.by[frames])
        tried = levels(scores, truth, _spare(error, len(frames)))
        said = _end_to_end(eyes, tried, way.by[frames], frames, truth)
        if max(int((said & ~truth).sum()), int((~said & truth).sum())) <= max(most, _spare(error, len(frames))):
            return way
    return ways[0]


def _cost(eyes: Eyes, way: Standing, frames: Indices, truth: Answers, error: float) -> float:
    """Return about how many seconds all looks of student and teacher will take."""
    by = way.by[frames]
    tried = levels(eyes.student(by), truth, _spare(error, len(frames)))
    own = by[by == frames]  # those that are looked at themselves, a sample of all that are
    asked = float(tried.unsure(eyes.student(own if len(own) >= FEW else by)).mean())
    student_s, teacher_s = eyes.price()
    return len(way.looked) * (student_s + asked * teacher_s)


def _sequence(eyes: Eyes, way: Standing, frames: Indices, error: float) -> Iterator[Tried]:
    """Yield levels from cautious to bold, each within the one before."""
    scores, truth = eyes.student(way.by[frames]), eyes.teacher(frames)
    spare, most = _spare(error, len(scores)), int(error * len(scores))
    base = levels(scores, truth, spare)
    found = [Levels(base.low * part, 1 - (1 - base.high) * part) for part in CAUTION]
    found += [levels(scores, truth, bolder) for bolder in range(spare + 1, most + 1)]
    for number, one in enumerate(_narrowing(found)):
        yield Tried(way, one, cautious=number < len(CAUTION) - 1)


def _narrowing(tried: Sequence[Levels]) -> Iterator[Levels]:
    """Yield each that differs from the one before, never wider than that."""
    last = Levels(0.0, 2.0)
    for one in tried:
        low, high = max(last.low, one.low), min(last.high, one.high)
        if low <= high and (low, high) != (last.low, last.high):
            last = Levels(low, high)
            yield last


def _certify(eyes: Eyes, sequence: Sequence[Tried], sample: Sample, error: float) -> Cascade | None:
    """Return the last of a sequence, fixed beforehand, before the first that the sample does not certify."""
    total = len(sequence[0].standing.by)
    left, allowed = total - len(sample.choose), int(error * total)
    truth, best = eyes.teacher(sample.certify), None
    for one in sequence:
        by = one.standing.by[sample.certify]
        said = _end_to_end(eyes, one.levels, by, sample.certify, truth)
        wrong_yes, wrong_no = int((said & ~truth).sum()), int((~said & truth).sum())
        if not certified(max(wrong_yes, wrong_no), len(by), allowed, left):
            break
        best = Cascade(one.standing, one.levels, wrong_yes, wrong_no)
    return best


def _end_to_end(eyes: Eyes, tried: Levels, by: Indices, frames: Indices, truth: Answers) -> Answers:
    """Return what the cascade answers for `frames`, for which those in `by` stand and whose own answer is `truth`."""
    scores = eyes.student(by)
    said, unsure = scores >= tried.high, tried.unsure(scores)
    own = by == frames
    said[unsure & own] = truth[unsure & own]
    asked = unsure & ~own
    said[asked] = eyes.teacher(by[asked])
    return np.asarray(said, bool)


def _answered(eyes: Eyes, tried: Levels, frames: Indices) -> Answers:
    scores = eyes.student(frames)
    said, unsure = scores >= tried.high, tried.unsure(scores)
    said[unsure] = eyes.teacher(frames[unsure])
    return np.asarray(said, bool)


def _spare(error: float, frames: int) -> int:
    """Return how often the student may be wrong in the choosing sample, so that standing answers may be, too."""
    return int(error * frames / 3)


def _split(certify: int) -> tuple[int, int]:
    return (certify + 1) // 2, certify


def _least_error(total: int) -> float:
    """Return the least share that a sample of the whole video can certify."""
    return next((allowed / total for allowed in range(1, total) if sum(_split(needed(allowed, total))) <= total), 1.0)
