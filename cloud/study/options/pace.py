"""Does it pay to ask the teacher less while the student is right? JITNet's pace beside fixed budgets: day, night, day.

A camera goes through nine windows, three in each light. In each the student in use is measured on frames of that light
which no round is fed, then so many frames are forwarded, the teacher labels all of them, and a round of the loop runs.

fixed     n frames in every window
paced     n at first; halved and doubled as a camera's are (`[pace]`, `control/steering/pace.py`) by how right the
          student is on what was forwarded of it
as many   as many labels as the paced one had, spread evenly over the windows

Accuracy is Ekya's measure: the mean over time, of the student that was in use in each window. What counts is what the
paced one has beside `as many`, and what `fixed` pays for being as right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from statistics import mean
from typing import Any

import msgspec

from culling.cloud.control.steering.pace import Fresh, decide
from culling.cloud.evaluation.accuracy import Estimate
from culling.cloud.evaluation.holdout import HeldOut
from culling.cloud.sheet import Row
from culling.cloud.store.desired import Paced
from culling.cloud.study.basis.camera import StudiedCamera, studied_identity, studied_settings
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.lights import Fed, Light, LightName, fed, lights, measured
from culling.cloud.study.basis.phases import Phases, shade_nights
from culling.cloud.study.basis.results import Results, ResultTable, text
from culling.cloud.study.basis.strategy import evenly
from culling.cloud.study.basis.training import MEASURED, Scores
from culling.common.errors import SettingsError
from culling.common.progress import say

COURSE = Phases(rounds=3)

FIXED, PACED, AS_MANY = "fixed", "paced", "as many"


class Window(msgspec.Struct, frozen=True):
    """What was forwarded in a window, how right the student in use was in it, and what its round came to.

    `believed` is its AP50 as the labels of what was forwarded tell it, with its interval; `paced` is the pace from then
    on, and `unjudged` how many labels of the student came since that was judged.
    """

    number: int
    light: str
    model: str
    forwarded: int
    scores: Scores
    believed: Estimate | None
    paced: Paced
    unjudged: int
    outcome: str


def pace(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n, seed, way and window; n frames are forwarded in a window at the pace of 1.

    Raises SettingsError where accuracy is judged by more frames than n, for then no pace would ever change.
    """
    found = lights(corpus.video)
    held_out = {name: measured(corpus, light) for name, light in found.items()}
    rows = []
    for n in counts:
        if n < (least := corpus.settings.pace.audits):
            raise SettingsError(f"--n {n}: a pace is judged by {least} frames (pace.audits); raise the one or lower it")
        for seed in seeds:

            def way(name: str, budgets: Sequence[int | None], n: int = n, seed: int = seed) -> list[Window]:
                return _Way(corpus, found, held_out, n, seed, name, budgets).windows()

            paced = way(PACED, [None] * COURSE.total)
            share, rest = divmod(sum(window.forwarded for window in paced), COURSE.total)
            ways = {FIXED: way(FIXED, [n] * COURSE.total), PACED: paced}
            ways[AS_MANY] = way(AS_MANY, [share + (at < rest) for at in range(COURSE.total)])
            for name, windows in ways.items():
                rows += [{"way": name, "n": n, "seed": seed} | _row(window) for window in windows]
    return Results(rows, [_summary(rows), _table(rows)], [partial(_plot, rows=rows)], {"course": asdict(COURSE)})


class _Way:
    """The windows of one way, on a camera of its own; `budgets` are frames of each window, None: as paced."""

    def __init__(
        self,
        corpus: Corpus,
        found: Mapping[LightName, Light],
        held_out: Mapping[LightName, HeldOut],
        n: int,
        seed: int,
        name: str,
        budgets: Sequence[int | None],
    ) -> None:
        self._corpus, self._lights, self._held_out, self._n = corpus, found, held_out, n
        self._title, self._budgets = f"{name}, n = {n}, seed {seed}", budgets
        self._decided = studied_identity(corpus, COURSE, found, n, seed, ("round", "gate", "pace"))
        self._decided |= {"budgets": list(budgets)}
        self._settings = studied_settings(corpus, corpus.memo.path("pace", self._decided, "camera"), n, seed)

    def windows(self) -> list[Window]:
        """Return what happened in every window."""
        done: list[Window] = []
        for number in COURSE:
            told, before = self._decided | {"window": number}, done[-1] if done else None
            done.append(self._corpus.memo.once("window", told, Window, partial(self._window, number, before)))
        return done

    def _window(self, number: int, before: Window | None) -> Window:
        say(f"{self._title}: window {number} of {COURSE.total}")
        paced = before.paced if before else Paced()
        with StudiedCamera(self._settings, self._corpus.artefact, self._corpus.files) as studied:
            light, frames = self._forwarded(number, paced)
            model, times = studied.live, COURSE.times(number, len(frames))
            found = self._held_out[light].score(studied.live_file, model.artefact.scale, model.artefact.long_side)
            studied.feed(f"window-{number}", frames, times)
            waited = before.unjudged if before and before.model == model.model_id else 0
            accuracy, fresh = studied.accuracy, Fresh(waited + len(frames), times[-1])
            judged = accuracy and decide(paced, accuracy, fresh, times[-1], self._settings.pace)
            done = studied.turn(number)
            studied.settle(done, gated=True)
            studied.tidy()
        return Window(
            number,
            light,
            model.model_id,
            len(frames),
            Scores(found.teacher, found.labels),
            accuracy.now.ap50 if accuracy else None,
            judged or paced,
            0 if judged else fresh.audits,
            done.stages.get("gate", {}).get("outcome", "refused"),
        )

    def _forwarded(self, number: int, paced: Paced) -> tuple[LightName, list[Fed]]:
        """Return the light of a window, and the frames that are forwarded in it, of as many as the pace may ask for."""
        light, place, places = COURSE.place(number)
        most = round(self._n * self._settings.pace.most)
        seen = fed(self._corpus, self._lights[light], most, place, places)
        count = self._budgets[number - 1] or max(1, round(self._n * paced.times))
        return light, [seen[at] for at in evenly(len(seen), count)]


def _row(window: Window) -> dict[str, Any]:
    facts = {name: getattr(window, name) for name in ("number", "light", "model", "forwarded", "outcome")}
    believed = window.believed
    facts |= {"believed": None if believed is None else believed.value, "pace": window.paced.times}
    facts |= {"low": None if believed is None else believed.low, "high": None if believed is None else believed.high}
    return facts | {name: value for name, value in window.scores.flat().items() if not name.endswith("voc07")}


def _summary(rows: Sequence[Row]) -> ResultTable:
    lines = []
    for n, seed, way in dict.fromkeys((row["n"], row["seed"], row["way"]) for row in rows):
        own = [row for row in rows if (row["n"], row["seed"], row["way"]) == (n, seed, way)]
        fixed = sum(row["forwarded"] for row in rows if (row["n"], row["seed"], row["way"]) == (n, seed, FIXED))
        labels = sum(row["forwarded"] for row in own)
        lines.append(
            {
                "way": way,
                "n": str(n),
                "seed": str(seed),
                "labels": f"{labels} ({labels / fixed - 1:+.0%})",
                **{title: text(_mean(own, key)) for title, key in MEASURED.items()},
                "worst window, teacher": text(min((row["teacher_ap50"] for row in own), key=_or_least)),
                "published": str(sum(row["outcome"] == "published" for row in own)),
            }
        )
    note = "AP50 and AP50:95 of the student in use, mean over the windows; labels: beside the fixed budget's"
    return ResultTable("Pace: how right the student was over time, and what it cost", lines, note)


def _table(rows: Sequence[Row]) -> ResultTable:
    lines = [
        {
            "way": row["way"],
            "n": str(row["n"]),
            "seed": str(row["seed"]),
            "window": f"{row['number']}, {row['light']}",
            "student": row["model"],
            "forwarded": str(row["forwarded"]),
            "AP50, teacher": text(row["teacher_ap50"]),
            "AP50, labels": text(row["labels_ap50"]),
            "by what was forwarded": f"{text(row['believed'])} ({text(row['low'])} to {text(row['high'])})",
            "pace after": f"{row['pace']:g}",
            "gate": row["outcome"],
        }
        for row in rows
    ]
    return ResultTable("Pace, by window", lines)


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows]
    return None if None in values else mean(values)


def _or_least(value: float | None) -> float:
    return -1.0 if value is None else value


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    n, seed = rows[0]["n"], rows[0]["seed"]
    for way in (FIXED, PACED, AS_MANY):
        own = [row for row in rows if (row["n"], row["seed"], row["way"]) == (n, seed, way)]
        if _mean(own, "teacher_ap50") is not None:
            axes.plot(
                [row["number"] for row in own],
                [row["teacher_ap50"] for row in own],
                marker="o",
                label=f"{way}: {sum(row['forwarded'] for row in own)} labels",
            )
    shade_nights(axes, COURSE)
    axes.set(title=f"Pace, n = {n}, seed {seed}", xlabel="window", ylabel="AP50 by the teacher", ylim=(0, 1))
