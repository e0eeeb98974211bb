"""The loop through a day, as it goes by, beside what else people do with the same frames.

A day of a camera, filmed or composed (`culling study day`), is cut into windows of four hours. In each the student in
use is measured, then n frames are forwarded and labelled, and a round runs, whose student is in use from the next
window on. So what is measured holds the waiting, too: Ekya's accuracy, the mean over time.

none        no adaptation: the first student throughout
loop        the frames of the highest loss and the audits, as the edge's selector chooses them, and the loop's rounds
paced       the same, with more or fewer frames by how right the student is (`[pace]`)
random      as many frames, drawn, and the same rounds
interval    as many frames, at even distances, and the same rounds
continual   as many frames, drawn; rounds without replay, on a share of the weights, always published (after AMS)
teacher     the teacher's own answer on every frame

What each round made is measured beside what it would replace on a later part of the clip that no window reaches: by
that it is said whether the gate was right. And what the audits told of the student in use is held against how right it
was in those windows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import msgspec
import numpy as np

from culling.cloud.bill.count import student_cost
from culling.cloud.control.steering.accuracy import AUDITS
from culling.cloud.control.steering.pace import Fresh, decide
from culling.cloud.evaluation.accuracy import Estimate
from culling.cloud.evaluation.holdout import HeldOut, plan
from culling.cloud.sheet import Row
from culling.cloud.store.desired import Paced
from culling.cloud.store.rounds import Round
from culling.cloud.study.basis.camera import StudiedCamera, studied_settings
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.lights import Fed
from culling.cloud.study.basis.phases import DAY_ZERO
from culling.cloud.study.basis.results import Results, ResultTable, merged, text, with_spread
from culling.cloud.study.basis.strategy import evenly
from culling.cloud.study.basis.training import TRUTHS, Scores, Trainer
from culling.cloud.study.studies.online import replay
from culling.common.errors import SettingsError
from culling.common.progress import say
from culling.common.selection.selector import SelectorSettings
from culling.common.video import count_frames, frame_rate

WINDOW_S = 4 * 3600.0

NONE, TEACHER = "none", "teacher"

SECTIONS = ("round", "gate", "pace", "resolution")
"""The settings that decide what becomes of a day."""


@dataclass(frozen=True)
class Way:
    """How frames are chosen, and what becomes of what a round makes."""

    policy: Literal["culling", "random", "interval"]
    paced: bool = False
    gated: bool = True
    replay: bool = True
    share: float = 1.0


WAYS = {
    "loop": Way("culling"),
    "paced": Way("culling", paced=True),
    "random": Way("random"),
    "interval": Way("interval"),
    "continual": Way("random", gated=False, replay=False, share=0.05),
}


class Passed(msgspec.Struct, frozen=True):
    """A window that has passed: how right the student in use was in it, what was forwarded, and what its round made.

    `gain` is what the made one has more of AP50, by the labels of the later part, than the one that it would replace;
    None where there is none of either. `later` is how right the student in use is there after the round. `believed` is
    the AP50 of the student in use by its newest `audits`, of each class that they tell of.
    """

    number: int
    model: str
    scores: Scores
    forwarded: int = 0
    size: int = 0
    steps: int = 0
    outcome: str = ""
    gain: float | None = None
    paced: Paced = Paced()
    unjudged: int = 0
    later: Scores = Scores(None, None)
    audits: int = 0
    believed: dict[str, Estimate] = {}


def live(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each n, seed, way and window; n frames are forwarded in a window.

    Raises SettingsError for a clip that is shorter than two windows.
    """
    windows = [_Window(corpus, number) for number in range(int(corpus.shots[-1].at / WINDOW_S + 0.01))]
    if len(windows) < 2:
        raise SettingsError(f"{corpus.video}: two windows of four hours are needed; `culling study day` makes a day")
    learn = student_cost(Trainer(corpus).start(), corpus.settings.round.frozen).learn.gflops(corpus.size(corpus.scale))
    days = {
        (n, seed, name): _way(windows, n, seed, name)
        for n, seed, name in product(counts, seeds, (NONE, *WAYS, TEACHER))
    }
    told = sorted({each for day in days.values() for one in day for each in one.believed})
    rows = [
        {"n": n, "seed": seed, "way": name} | _row(one, corpus.settings.round.batch * learn, told)
        for (n, seed, name), day in days.items()
        for one in day
    ]
    tables = [_summary(rows), _verdicts(rows), _audited(rows, told), _table(rows)]
    return Results(rows, tables, [partial(_plot, rows=rows)])


def _way(windows: Sequence[_Window], n: int, seed: int, name: str) -> list[Passed]:
    trainer = Trainer(windows[0].corpus)
    if name == NONE:
        later = trainer.score(None, trainer.corpus.scale)
        return [Passed(one.number, "base", one.base, later=later) for one in windows]
    if name == TEACHER:
        later = trainer.score_teacher()
        return [Passed(one.number, "teacher", one.teacher, later=later) for one in windows]
    return _Day(windows, n, seed, name).windows()


class _Window:
    """One window of the clip: its frames, and what is measured on in it."""

    def __init__(self, corpus: Corpus, number: int) -> None:
        self.corpus, self.number = corpus, number
        self.indices = [at for at, shot in enumerate(corpus.shots) if shot.at // WINDOW_S == number]

    @cached_property
    def held_out(self) -> HeldOut:
        """What students are measured on: as many frames as on the later part."""
        corpus, whole = self.corpus, count_frames(self.corpus.video) / frame_rate(self.corpus.video)
        first, last = (place * WINDOW_S / whole for place in (self.number, self.number + 1))
        count = len(corpus.measured.numbers)
        chosen = plan(corpus.video, first, count, corpus.label_file, min(last, 1.0), corpus.measured.classes)
        return HeldOut(chosen, corpus.labeller, corpus.interest)

    @property
    def base(self) -> Scores:
        """How right the first student is."""

        def measure() -> Scores:
            corpus = self.corpus
            return _scores(self.held_out, corpus.files.path(corpus.artefact.sha256, "onnx"), 1.0, corpus)

        return self.corpus.memo.once("window", self._decided | {"judged": "base"}, Scores, measure)

    @property
    def teacher(self) -> Scores:
        """How right the teacher is by the labels."""

        def measure() -> Scores:
            return Scores(None, self.held_out.score_teacher(self.corpus.labeller, self.corpus.measured.classes))

        return self.corpus.memo.once("window", self._decided | {"judged": "teacher"}, Scores, measure)

    @property
    def _decided(self) -> dict[str, Any]:
        return self.corpus.identity | self.corpus.truth | {"live": self.number, "window_s": WINDOW_S}


class _Day:
    """The windows of one way and seed, on a camera of its own."""

    def __init__(self, windows: Sequence[_Window], n: int, seed: int, name: str) -> None:
        self._corpus, self._windows, self._n, self._seed, self._name = windows[0].corpus, windows, n, seed, name
        self._way, corpus = WAYS[name], self._corpus
        chosen = {part: getattr(corpus.settings, part).model_dump(mode="json") for part in SECTIONS}
        told = {"n": n, "seed": seed, "way": asdict(self._way), "window_s": WINDOW_S}
        self._decided = corpus.identity | corpus.truth | chosen | told
        settings = studied_settings(corpus, corpus.memo.path("live", self._decided, "camera"), n, seed)
        changes: dict[str, float] = {"trained_share": self._way.share}
        if not self._way.replay:
            changes["replay_share"] = 0.0
        self._settings = settings.model_copy(update={"round": settings.round.model_copy(update=changes)})

    def windows(self) -> list[Passed]:
        """Return what happened in every window."""
        done: list[Passed] = []
        for window in self._windows:
            told, before = self._decided | {"passed": window.number}, done[-1] if done else None
            done.append(self._corpus.memo.once("passed", told, Passed, partial(self._pass, window, before)))
        return done

    def _pass(self, window: _Window, before: Passed | None) -> Passed:
        say(f"{self._name}, n = {self._n}, seed {self._seed}: window {window.number + 1} of {len(self._windows)}")
        paced = before.paced if before else Paced()
        with StudiedCamera(self._settings, self._corpus.artefact, self._corpus.files) as studied:
            model = studied.live
            scores = _scores(window.held_out, studied.live_file, model.artefact.scale, self._corpus)
            frames, times = self._forwarded(window, studied, paced)
            studied.feed(f"window-{window.number}", frames, times)
            waited = before.unjudged if before and before.model == model.model_id else 0
            fresh = Fresh(waited + sum(one.probability is not None for one in frames), times[-1])
            accuracy, judged = studied.accuracy, None
            if accuracy and self._way.paced:
                judged = decide(paced, accuracy, fresh, times[-1], self._settings.pace)
            done = studied.turn(window.number + 1)
            gain = self._gain(studied, done)
            studied.settle(done, self._way.gated)
            later = _scores(self._corpus.held_out, studied.live_file, studied.live.artefact.scale, self._corpus)
            studied.tidy()
        return Passed(
            window.number,
            model.model_id,
            scores,
            len(frames),
            sum(len(one.jpeg) for one in frames),
            done.stages.get("train", {}).get("steps", 0),
            done.stages.get("gate", {}).get("outcome", "refused"),
            gain,
            judged or paced,
            0 if judged else fresh.audits,
            later,
            sum(one.probability is not None for one in frames),
            accuracy.now.per_class if accuracy else {},
        )

    def _forwarded(self, window: _Window, studied: StudiedCamera, paced: Paced) -> tuple[list[Fed], list[float]]:
        """Return the frames that are forwarded in a window, and when they were filmed."""
        corpus, among = self._corpus, window.indices
        count = min(len(among), max(1, round(self._n * paced.times)) if self._way.paced else self._n)
        if self._way.policy == "culling":
            drawn = self._selected(among, studied, count, window.number)
        else:
            rng = np.random.default_rng((self._seed, window.number))
            even = self._way.policy == "interval"
            places = evenly(len(among), count) if even else rng.choice(len(among), count, replace=False).tolist()
            drawn = {among[place]: count / len(among) for place in sorted(places)}
        shots = [(corpus.shots[at], seen.found) for at, seen in zip(drawn, corpus.labels([*drawn]), strict=True)]
        fed = [
            Fed(shot.number, shot.jpeg, found, probability)
            for (shot, found), probability in zip(shots, drawn.values(), strict=True)
        ]
        return fed, [DAY_ZERO + shot.at for shot, _ in shots]

    def _selected(
        self, among: Sequence[int], studied: StudiedCamera, count: int, number: int
    ) -> dict[int, float | None]:
        """Return what the edge's selector forwards: with which probability it drew a frame; None for a hard one."""
        corpus, find = self._corpus, studied.student_in_use()
        meter = corpus.meter("paper")
        losses = [meter.loss(find(corpus.picture(at))) for at in among]
        shots = [corpus.shots[at] for at in among]
        settings = SelectorSettings(frames_per_window=count, window_s=WINDOW_S, bootstrap=0, eager_share=0.0)
        times, thumbnails = [shot.at for shot in shots], [shot.thumbnail for shot in shots]
        told = replay(settings, losses, times, thumbnails, random.Random(1000 * self._seed + number))
        drawn: dict[int, float | None] = {among[place]: None for place in told.hard}
        drawn |= {among[place]: one for place, one in zip(told.audits, told.probabilities, strict=True)}
        return dict(sorted(drawn.items()))

    def _gain(self, studied: StudiedCamera, done: Round) -> float | None:
        if (made := studied.made(done)) is None:
            return None
        path, artefact = made
        after = _scores(self._corpus.held_out, path, artefact.scale, self._corpus).labels
        before = _scores(self._corpus.held_out, studied.live_file, studied.live.artefact.scale, self._corpus).labels
        return None if after is None or before is None else float(after.ap50 - before.ap50)


def _scores(held_out: HeldOut, model: Path, scale: float, corpus: Corpus) -> Scores:
    found = held_out.score(model, scale, max(corpus.size(corpus.scale)))
    return Scores(found.teacher, found.labels)


def _row(one: Passed, step_gflops: float, told: Sequence[str]) -> dict[str, Any]:
    """Return what a row says of a window; of the classes `told` also what the audits say."""
    names = ("number", "model", "forwarded", "audits", "size", "steps", "outcome", "gain")
    facts = {name: getattr(one, name) for name in names}
    for each in told:
        believed = one.believed.get(each)
        facts |= {f"believed_{each}_{name}": getattr(believed, name, None) for name in ("value", "low", "high")}
        for truth in TRUTHS:
            found = getattr(one.scores, truth)
            exact = found.per_class.get(each) if found else None
            facts[f"{truth}_{each}_ap50"] = exact.ap50 if exact and exact.objects else None
    facts |= {"pace": one.paced.times, "training_gflops": one.steps * step_gflops}
    later = {f"later_{name}": value for name, value in one.later.flat().items()}
    return facts | {name: value for name, value in (one.scores.flat() | later).items() if not name.endswith("voc07")}


def _over_time(rows: Sequence[Row], key: str) -> float | None:
    """Return the mean over the windows that have anything to measure by."""
    values = [row[key] for row in rows if row[key] is not None]
    return mean(values) if values else None


def _summary(rows: Sequence[Row]) -> ResultTable:
    lines, seeds = [], list(dict.fromkeys(row["seed"] for row in rows))
    for n, way in dict.fromkeys((row["n"], row["way"]) for row in rows):
        days = [_own(rows, n, seed, way) for seed in seeds]
        told = merged([{key: _over_time(day, key) for key in ("labels_ap50", "labels_ap50_95")} for day in days])
        told |= merged([{"gap": _gap(rows, n, seed, way)} for seed in seeds])
        told |= merged([{"later": day[-1]["later_labels_ap50"]} for day in days])
        lines.append(
            {
                "way": way,
                "n": str(n),
                "labels": f"{mean(sum(row['forwarded'] for row in day) for day in days):,.0f}",
                "MB up": f"{mean(sum(row['size'] for row in day) for day in days) / 1e6:.1f}",
                "TFLOPs to train": f"{mean(sum(row['training_gflops'] for row in day) for day in days) / 1e3:,.1f}",
                "AP50": with_spread(told, "labels_ap50"),
                "AP50:95": with_spread(told, "labels_ap50_95"),
                "of the gap": with_spread(told, "gap"),
                "AP50, later": with_spread(told, "later"),
            }
        )
    note = (
        "by the label file, mean over the windows (least..most of the seeds); gap: from none to the teacher; "
        "later: the last student on a later part"
    )
    return ResultTable("Through the day: how right over time, and what it cost", lines, note)


def _gap(rows: Sequence[Row], n: int, seed: int, way: str) -> float | None:
    own, low, high = (_over_time(_own(rows, n, seed, name), "labels_ap50") for name in (way, NONE, TEACHER))
    return None if own is None or low is None or high is None or high <= low else (own - low) / (high - low)


def _verdicts(rows: Sequence[Row]) -> ResultTable:
    lines = []
    for n, way in dict.fromkeys((row["n"], row["way"]) for row in rows if row["way"] in WAYS):
        judged = [row for row in rows if (row["n"], row["way"]) == (n, way) and row["gain"] is not None]
        taken = [row["gain"] for row in judged if row["outcome"] != "refused"]
        left = [row["gain"] for row in judged if row["outcome"] == "refused"]
        lines.append(
            {
                "way": way,
                "n": str(n),
                "rounds": str(sum((row["n"], row["way"]) == (n, way) for row in rows)),
                "passed": str(len(taken)),
                "of them worse": str(sum(gain < 0 for gain in taken)),
                "gain of the passed": text(mean(taken) if taken else None, "+.3f"),
                "refused": str(len(left)),
                "of them better": str(sum(gain > 0 for gain in left)),
                "gain of the refused": text(mean(left) if left else None, "+.3f"),
            }
        )
    note = "gain: AP50 of what a round made, less that of what it would replace, by the labels of a later part"
    return ResultTable("Was the gate right?", lines, note)


def _audited(rows: Sequence[Row], told: Sequence[str]) -> ResultTable:
    lines, seeds = [], list(dict.fromkeys(row["seed"] for row in rows))
    for n, way in dict.fromkeys((row["n"], row["way"]) for row in rows if row["way"] in WAYS):
        days = [_own(rows, n, seed, way) for seed in seeds]
        for each in told:
            believed = f"believed_{each}"
            places = [(day, at) for day in days for at, row in enumerate(day) if row[f"{believed}_value"] is not None]
            line = {"way": way, "n": str(n), "class": each, "estimates": str(len(places))}
            for truth, whose in (("teacher", "the teacher's"), ("labels", "the labels'")):
                both = [(day[at], _meanwhile(day, at, f"{truth}_{each}_ap50")) for day, at in places]
                known = [(row, exact) for row, exact in both if exact is not None]
                held = sum(row[f"{believed}_low"] <= exact <= row[f"{believed}_high"] for row, exact in known)
                above = mean(row[f"{believed}_value"] - exact for row, exact in known) if known else None
                line |= {f"hold {whose}": f"{held} of {len(known)}", f"above {whose}": text(above, "+.3f")}
            lines.append(line)
    note = (
        "AP50 of a class by the newest audits of the student in use, with an interval for 95 of 100, held against the "
        "frames that are measured on in the same windows"
    )
    return ResultTable("Was the measured accuracy right?", lines, note)


def _meanwhile(day: Sequence[Row], at: int, key: str) -> float | None:
    """Return the mean of `key` over the windows of which the newest audits of a student come, those of window `at`."""
    first, audits = at, day[at]["audits"]
    while first and audits < AUDITS and day[first - 1]["model"] == day[at]["model"]:
        first -= 1
        audits += day[first]["audits"]
    return _over_time(day[first : at + 1], key)


def _table(rows: Sequence[Row]) -> ResultTable:
    lines = [
        {
            "way": row["way"],
            "n": str(row["n"]),
            "seed": str(row["seed"]),
            "hours": f"{row['number'] * WINDOW_S / 3600:02.0f}-{(row['number'] + 1) * WINDOW_S / 3600:02.0f}",
            "student": row["model"],
            "forwarded": str(row["forwarded"]),
            "steps": str(row["steps"]),
            "AP50, labels": text(row["labels_ap50"]),
            "AP50, teacher": text(row["teacher_ap50"]),
            "gate": row["outcome"] or "-",
            "gain": text(row["gain"], "+.3f"),
            "pace after": f"{row['pace']:g}",
        }
        for row in rows
    ]
    return ResultTable("Through the day, by window", lines)


def _own(rows: Sequence[Row], n: int, seed: int, way: str) -> list[Row]:
    return [row for row in rows if (row["n"], row["seed"], row["way"]) == (n, seed, way)]


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    n, seed = rows[0]["n"], rows[0]["seed"]
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in _own(rows, n, seed, way) if row["labels_ap50"] is not None]
        style = {NONE: ":", TEACHER: "--"}.get(way, "-")
        middles = [(row["number"] + 0.5) * WINDOW_S / 3600 for row in own]
        axes.plot(middles, [row["labels_ap50"] for row in own], style, marker="o", label=way)
    axes.set(title=f"Through the day, n = {n}, seed {seed}", xlabel="hour", ylabel="AP50 by the labels", ylim=(0, 1))
