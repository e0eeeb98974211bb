"""Does a student forget? Day, night, and day again on one clip: what each round leaves of what the others taught.

Two rounds in each light, six in all, of the loop itself: pool, scores, culling with replay, training until the plateau,
and the gate with its archive of all hours. After each the student in use is measured on frames of both lights that no
round is fed. The same is done without replay, and with every candidate published whatever the gate says of it.

A light is old once rounds of the other one begin. Its AP50 must never fall below what it was then, minus `MAY_LOSE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import msgspec

from culling.cloud.evaluation.holdout import HeldOut
from culling.cloud.sheet import Row
from culling.cloud.store.rounds import Round
from culling.cloud.study.basis.camera import StudiedCamera, studied_identity, studied_settings
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.lights import Light, LightName, fed, lights, measured
from culling.cloud.study.basis.phases import Phases, shade_nights
from culling.cloud.study.basis.results import Results, ResultTable, text
from culling.cloud.study.basis.training import Scores
from culling.common.progress import say

COURSE = Phases(rounds=2)

MAY_LOSE = 0.02
"""What the AP50 of an old light may fall by: about what equal students differ by on some sixty frames."""


@dataclass(frozen=True)
class Way:
    """A way to run the loop: with or without replay, and with or without what the gate says."""

    replay: bool = True
    gated: bool = True


WAYS = {"as it is": Way(), "without replay": Way(replay=False), "always published": Way(gated=False)}


class Turn(msgspec.Struct, frozen=True):
    """What a round did, and how good the student in use, `model`, was after it in each light; 0 is before the first."""

    number: int
    light: str
    outcome: str
    reason: str
    model: str
    pool: int
    kept: int
    replayed: int
    steps: int
    day: Scores
    night: Scores


@dataclass(frozen=True)
class Loss:
    """By how much the AP50 of an old light fell below what it was when it became old, and after which round; the most
    there is. Below 0 it never fell.
    """

    light: str
    number: int
    fell: float


def forgetting(corpus: Corpus, counts: Sequence[int], seeds: Sequence[int]) -> Results:
    """Return a row for each way, n, seed and round; n frames are kept at most."""
    found = lights(corpus.video)
    held_out = {name: measured(corpus, light) for name, light in found.items()}
    rows, losses = [], []
    for n in counts:
        for seed in seeds:
            for name in WAYS:
                turns = _Course(corpus, found, held_out, n, seed, name).turns()
                about = {"way": name, "n": n, "seed": seed}
                rows += [about | _row(turn) for turn in turns]
                for truth in ("teacher", "labels"):
                    if (loss := worst(turns, truth)) is not None:
                        losses.append(about | {"by": truth} | asdict(loss))
    told = {"lights": {name: asdict(light) for name, light in found.items()}, "losses": losses}
    return Results(rows, [_table(rows), _losses(losses)], [partial(_plot, rows=rows, way=name) for name in WAYS], told)


def worst(turns: Sequence[Turn], truth: str) -> Loss | None:
    """Return the most that an old light lost, by the teacher or by the labels; None where there is nothing to go by."""
    found: list[Loss] = []
    seen: set[str] = set()
    rounds = COURSE.rounds
    for phase, (light, _) in enumerate(COURSE.phases):
        before, after = turns[phase * rounds], turns[phase * rounds + 1 : (phase + 1) * rounds + 1]
        for old in seen - {light}:
            was, values = _ap50(before, old, truth), [(turn.number, _ap50(turn, old, truth)) for turn in after]
            found += [Loss(old, number, was - is_) for number, is_ in values if was is not None and is_ is not None]
        seen.add(light)
    return max(found, key=lambda loss: loss.fell, default=None)


class _Course:
    """The rounds of one way and seed, on a camera of its own."""

    def __init__(
        self,
        corpus: Corpus,
        found: Mapping[LightName, Light],
        held_out: Mapping[LightName, HeldOut],
        n: int,
        seed: int,
        name: str,
    ) -> None:
        self._corpus = corpus
        self._lights = found
        self._held_out = held_out
        self._title = f"{name}, n = {n}, seed {seed}"
        self._way = WAYS[name]
        self._decided = studied_identity(corpus, COURSE, found, n, seed, ("round", "gate")) | {"way": asdict(self._way)}
        folder = corpus.memo.path("forgetting", self._decided, "camera")
        self._settings = studied_settings(corpus, folder, n, seed)
        if not self._way.replay:
            without = self._settings.round.model_copy(update={"replay_share": 0.0})
            self._settings = self._settings.model_copy(update={"round": without})

    def turns(self) -> list[Turn]:
        """Return what every round did, from what was in use before the first."""
        return [
            self._corpus.memo.once("turn", self._decided | {"turn": number}, Turn, partial(self._turn, number))
            for number in (0, *COURSE)
        ]

    def _turn(self, number: int) -> Turn:
        with StudiedCamera(self._settings, self._corpus.artefact, self._corpus.files) as studied:
            if not number:
                return Turn(0, "", "", "", studied.live.model_id, 0, 0, 0, 0, **_measure(studied, self._held_out))
            say(f"{self._title}: round {number} of {COURSE.total}")
            name, place, places = COURSE.place(number)
            frames = fed(self._corpus, self._lights[name], len(self._corpus) // COURSE.total, place, places)
            studied.feed(f"turn-{number}", frames, COURSE.times(number, len(frames)))
            done = studied.turn(number)
            studied.settle(done, self._way.gated)
            scores = _measure(studied, self._held_out)
            studied.tidy()
            return _told(number, name, done, studied.live.model_id, scores)


def _told(number: int, light: str, done: Round, model: str, scores: dict[str, Scores]) -> Turn:
    culled, trained, judged = (done.stages.get(stage, {}) for stage in ("cull", "train", "gate"))
    return Turn(
        number,
        light,
        judged.get("outcome", "refused"),
        done.reason or judged.get("verdict", ""),
        model,
        culled.get("pool", 0),
        len(culled.get("kept", ())),
        len(culled.get("replay", ())),
        trained.get("steps", 0),
        **scores,
    )


def _measure(studied: StudiedCamera, held_out: Mapping[LightName, HeldOut]) -> dict[str, Scores]:
    artefact = studied.live.artefact
    scores: dict[str, Scores] = {}
    for name, frames in held_out.items():
        found = frames.score(studied.live_file, artefact.scale, artefact.long_side)
        scores[name] = Scores(found.teacher, found.labels)
    return scores


def _ap50(turn: Turn, light: str, truth: str) -> float | None:
    result = getattr(getattr(turn, light), truth)
    return None if result is None else result.ap50


def _row(turn: Turn) -> dict[str, Any]:
    facts = {name: value for name, value in msgspec.structs.asdict(turn).items() if name not in ("day", "night")}
    figures = {
        f"{light}_{name}": value
        for light in ("day", "night")
        for name, value in getattr(turn, light).flat().items()
        if not name.endswith("voc07")
    }
    return facts | figures


def _table(rows: Sequence[Row]) -> ResultTable:
    lines = [
        {
            "way": row["way"],
            "n": str(row["n"]),
            "seed": str(row["seed"]),
            "after": f"{row['number']}, {row['light']}" if row["number"] else "none",
            "gate": row["outcome"] or "-",
            "trained on": f"{row['kept']} + {row['replayed']} of {row['pool']}",
            "steps": str(row["steps"]),
            **{
                f"{light}, {truth}": f"{text(row[f'{light}_{truth}_ap50'])} ({text(row[f'{light}_{truth}_ap50_95'])})"
                for light in ("day", "night")
                for truth in ("teacher", "labels")
            },
        }
        for row in rows
    ]
    note = "AP50 (AP50:95) of the student in use after a round, on frames of each light that no round was fed"
    return ResultTable("Day, night, day: what the student in use knows", lines, note)


def _losses(losses: Sequence[Row]) -> ResultTable:
    lines = [
        {
            "way": row["way"],
            "n": str(row["n"]),
            "seed": str(row["seed"]),
            "by": row["by"],
            "most lost": f"{row['fell']:+.3f}",
            "of": f"{row['light']}, after round {row['number']}",
            f"never more than {MAY_LOSE}": "held" if row["fell"] <= MAY_LOSE else "not held",
        }
        for row in losses
    ]
    note = "most lost: AP50 of a light when rounds of the other one begin, less the lowest after one of those"
    return ResultTable("What was forgotten", lines, note)


def _plot(axes: Any, rows: Sequence[Row], way: str) -> None:
    for light, colour in (("day", "tab:orange"), ("night", "tab:blue")):
        for place, key in enumerate(dict.fromkeys((row["n"], row["seed"]) for row in rows)):
            own = [row for row in rows if row["way"] == way and (row["n"], row["seed"]) == key]
            values = [row[f"{light}_teacher_ap50"] for row in own]
            if None not in values:
                label = light if not place else None
                axes.plot([row["number"] for row in own], values, marker="o", color=colour, label=label)
    shade_nights(axes, COURSE)
    axes.set(title=f"Day, night, day: {way}", xlabel="round", ylabel="AP50 by the teacher", ylim=(0, 1))
