"""How much faster a camera's student runs when its profile spares it frames, and what that loses: Chameleon's saving.

The student looks at every frame of the clip, as an edge would by the profile of every frame. On the first part each
labelled frame is an audit with its echo, and by these a profile is chosen as the service chooses one (`[profile]`). On
the rest every profile is played, frame by frame, as an edge follows it: what stands for a labelled frame is its answer.

Labels are those of the file; where it has none in the first part, the teacher's on the frames to learn from. A clip has
a minute, not days: blocks of time are `STRETCHES` of its first part, and all of it is one hour. Each profile is played
from `STARTS` moments, since labels at even times would else meet its looks at even times always, or never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from culling.cloud.annotations.lines import read_labels
from culling.cloud.evaluation.accuracy import pooled
from culling.cloud.evaluation.evaluate import select
from culling.cloud.evaluation.matching import compare
from culling.cloud.evaluation.tally import Tally, rank, tally
from culling.cloud.profile.choose import choose
from culling.cloud.profile.options import FULL, OPTIONS
from culling.cloud.profile.score import Audit, Trial, lacks
from culling.cloud.sheet import Row
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.results import Results, ResultTable, text
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.graph import to_frame
from culling.common.profile.looks import Looks
from culling.common.scaler import resize
from culling.common.selection.selector import THUMBNAIL
from culling.common.video import FED, count_frames, frame_rate, read_frames
from culling.common.wire.echo import AGES
from culling.common.wire.profile import Profile

STRETCHES = 10
STARTS = 8

Truth = Mapping[int, Detections]


@dataclass(frozen=True)
class Shown:
    """One frame of the clip: its number, its time in seconds, its thumbnail, and what the student finds in it."""

    number: int
    at: float
    thumbnail: NDArray[np.uint8]
    found: Detections


def profile(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for a look at every frame and for each profile, whatever `counts` and `seeds` are.

    Raises InputError where the labels of the first part are too few to choose by, or the rest has nothing to lose.
    """
    border, settings, judge = round(FED * count_frames(corpus.video)), corpus.settings.profile, _Judge(corpus)
    truth = _truth(corpus, FED, 1.0)
    if not any(judge.objects(labels) for labels in truth.values()):
        raise _nothing(corpus)
    known = _early_truth(corpus)
    heard = [at for at in known if at >= AGES[-1] * frame_rate(corpus.video)]
    _refuse_few(corpus, [STRETCHES * at // border for at in heard])  # before the student watches the whole clip
    shown = _watch(corpus)
    early, late = ([one for one in shown if (one.number < border) == first] for first in (True, False))
    audits = _audits(early, judge, known)
    _refuse_few(corpus, [audit.block for audit in audits])  # some of those frames may not be decoded
    choice = choose(audits, settings.tolerance, settings.least)
    assert choice is not None, "they suffice"
    trial, full = Trial(audits), _play(late, judge, truth, FULL)
    if np.isnan(full.ap50):
        raise _nothing(corpus)
    rows = []
    for one in (FULL, *OPTIONS):
        told, played = trial.score(one), _play(late, judge, truth, one)
        rows.append(
            {
                "profile": str(one),
                "chosen": one == choice.whole.profile,
                "believed_share": told.share,
                "believed_change": told.change,
                "believed_low": told.low,
                "share": played.share,
                "faster": 1 / played.share,
                "ap50": played.ap50,
                "change": played.ap50 - full.ap50,
            }
        )
    facts = {"audits": len(audits), "labels_measured": len(truth), "why": choice.why, "fps": frame_rate(corpus.video)}
    return Results(
        rows, [_table(rows, settings.tolerance, choice.why, len(truth))], (lambda axes: _plot(axes, rows),), facts
    )


def _refuse_few(corpus: Corpus, blocks: Sequence[int]) -> None:
    """Raise InputError where labelled frames of those stretches are too few to choose by."""
    if (what := lacks(blocks, corpus.settings.profile.least)) is None:
        return
    raise InputError(
        f"{corpus.label_file}: too few labels to choose by in the first {FED:.0%} of {corpus.video.name}: {what}, a "
        f"block being a {STRETCHES}th of that; those of its first two seconds do not count; label more, or lower "
        "profile.least"
    )


def _nothing(corpus: Corpus) -> InputError:
    return InputError(
        f"{corpus.label_file}: no object to lose in the last {1 - FED:.0%} of {corpus.video.name}: its labels there "
        f"have none with a score from teacher.true_score ({corpus.settings.teacher.true_score:g}) on; label a part "
        "that has some"
    )


@dataclass(frozen=True)
class Played:
    """What a profile came to: the share of frames that were looked at, and the AP50 of what stood."""

    share: float
    ap50: float


class _Judge:
    """Says what of detections is right, as measured accuracy does."""

    def __init__(self, corpus: Corpus) -> None:
        self._teacher, self._classes = corpus.settings.teacher, len(corpus.graph.info.classes)
        self._labels = range(self._classes) if corpus.interest is None else sorted(corpus.interest)
        self._known: dict[tuple[int, int], Tally] = {}

    def stood(self, answer: Shown, labelled: Shown, truth: Truth) -> Tally:
        """Return the tally of an answer that stood for a labelled frame; profiles have many of them in common."""
        pair = answer.number, labelled.number
        if pair not in self._known:
            self._known[pair] = self.tally(answer.found, truth[labelled.number])
        return self._known[pair]

    def objects(self, truth: Detections) -> int:
        """Return how many objects labels have, of those classes."""
        return int(np.isin(truth.above(self._teacher.true_score).labels, list(self._labels)).sum())

    def tally(self, found: Detections, truth: Detections) -> Tally:
        compared = compare(found, truth, self._teacher.true_score, self._teacher.min_score)
        return pooled(tally(compared, self._classes), self._labels)


def _watch(corpus: Corpus) -> list[Shown]:
    """Return every frame of the clip; the student looks at each once, and is remembered."""
    rate, seen = frame_rate(corpus.video), list[tuple[int, NDArray[np.uint8]]]()
    total = count_frames(corpus.video)

    def pictures() -> Any:
        for number, rgb in read_frames(corpus.video, range(total)):
            seen.append((number, resize(rgb, *THUMBNAIL)[..., 1]))
            yield rgb

    found = corpus.student.see(pictures(), total)
    return [Shown(number, number / rate, small, one.found) for (number, small), one in zip(seen, found, strict=True)]


def _truth(corpus: Corpus, first: float, last: float) -> Truth:
    """Return the labels of the file between two fractions of the clip. Raises InputError where it has none."""
    rows = select(
        read_labels(corpus.label_file, corpus.settings.default_classes),
        corpus.video,
        count_frames(corpus.video),
        first,
        last,
    )
    size = corpus.height, corpus.width
    return {row.frame: to_frame(row.detections, (row.height, row.width), size) for row in rows.values()}


def _early_truth(corpus: Corpus) -> Truth:
    try:
        return _truth(corpus, 0.0, FED)
    except InputError:
        numbers = [shot.number for shot in corpus.shots]
        return dict(zip(numbers, (seen.found for seen in corpus.labels(range(len(numbers)))), strict=True))


def _audits(shown: Sequence[Shown], judge: _Judge, truth: Truth) -> list[Audit]:
    """Return every labelled frame as an audit; those of the first seconds have no echo, and are none."""
    looks, found = Looks(), []
    looks.follow(FULL)
    for place, one in enumerate(shown):
        looks.skips(one.thumbnail, one.at)
        looks.found(one.found)
        if one.number in truth and (echo := looks.echo()) is not None:
            tallies = [judge.tally(answer, truth[one.number]) for answer in (one.found, *echo.found)]
            found.append(Audit(STRETCHES * place // len(shown), 0, 1.0, echo, tallies))
    return found


def _play(shown: Sequence[Shown], judge: _Judge, truth: Truth, by: Profile) -> Played:
    looked, came, tallies = 0, 0, []
    for start in range(STARTS):
        looks, standing = Looks(), shown[start]
        looks.follow(by)
        for one in shown[start:]:
            came += 1
            if looks.skips(one.thumbnail, one.at - shown[start].at) is None:
                looks.found(one.found)
                standing, looked = one, looked + 1
            if one.number in truth:
                tallies.append(judge.stood(standing, one, truth))
    ap50 = rank(tallies, 0).precision(np.ones((1, len(tallies))))
    return Played(looked / came, float(ap50[0]))


def _table(rows: Sequence[Row], tolerance: float, why: str, measured: int) -> ResultTable:
    fair = [row for row in rows if row["change"] >= -tolerance]
    named = {
        "every frame": rows[0],
        "chosen": next(row for row in rows if row["chosen"]),
        "in hindsight": min(fair, key=lambda row: row["share"]),
    }
    lines = [
        {
            "": name,
            "profile": row["profile"],
            "believed": f"{row['believed_share']:.0%}, {row['believed_change']:+.3f} ({row['believed_low']:+.3f})",
            "looked at": f"{row['share']:.0%}",
            "times faster": text(row["faster"], ".2f"),
            "AP50": text(row["ap50"]),
            "change": f"{row['change']:+.3f}",
        }
        for name, row in named.items()
    ]
    note = (
        f"chosen: {why}, which are the labelled frames of the first part; believed by them: share of looks, change of "
        f"AP50 and its lower bound; the rest is measured on {measured} of the last; in hindsight: the cheapest that "
        f"lost at most {tolerance:g}"
    )
    return ResultTable("Profiles: looks that are spared, and what that loses", lines, note)


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    axes.axhline(0.0, color="grey", linewidth=0.5)
    axes.plot([row["share"] for row in rows], [row["change"] for row in rows], "o", label="each profile")
    for row in rows:
        if row["chosen"]:
            axes.plot(row["share"], row["change"], "s", markersize=9, label=f"chosen: {row['profile']}")
    axes.set(
        title="What profiles cost and lose", xlabel="share of frames looked at", ylabel="change of AP50", xlim=(0, None)
    )
    axes.legend()
