"""The gate stage: candidate against incumbent on the held-out frames; only one that is certainly better is published.

How they are compared stands in `evaluation/comparison.py`, what follows in `evaluation/verdict.py`. A candidate that
fails at the input scale that was found for it is judged at full size before the round is given up. A camera's first
student may be published as provisional, when only certainty is missing; the next round's gate compares it with the
model before it once more, and confirms it or takes it back.

The frames on which both differ most are kept for people to see (`changed/`): what is shown was found to judge by.

A candidate for another class list is compared by the classes that both students find. What the incumbent never learnt
to find is held against the labels alone (`evaluation/relisted.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import msgspec
import numpy as np

from culling.cloud.archive.day import hour_of
from culling.cloud.changed.differ import Pair, most_different
from culling.cloud.evaluation.comparison import Check, Judged, Rules, StudentComparison, class_weights, compare_students
from culling.cloud.evaluation.matching import IOUS
from culling.cloud.evaluation.relisted import Newcomer, decide_relisted, newcomer
from culling.cloud.evaluation.tally import Tally, rank, tallies
from culling.cloud.evaluation.verdict import Verdict, decide, describe
from culling.cloud.model.golden import golden_frame
from culling.cloud.round.context import Context, Result, Results, RoundRefusedError
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.registry import Artefact, Model
from culling.cloud.store.rounds import Round
from culling.common.frame import Detections
from culling.common.graph import open_graph
from culling.common.scaler import input_size
from culling.common.wire.codec import decode_jpeg

MOST_WEIGHT = 8.0
"""A frame that was drawn with a probability of a thousandth stands for a thousand, but alone it must not decide."""

SECOND_TRY = 0.5
"""The share of the doubt that another try may use: two tries are two chances of a lucky one."""

Tallies = Mapping[str, Sequence[Tally]]


@dataclass(frozen=True)
class Looked:
    """What a student did on each frame, by name: its tallies at each overlap, and the boxes that count."""

    tallies: Tallies
    found: Mapping[str, Detections]


@dataclass(frozen=True)
class Tried:
    """A candidate at one scale, what it did on each frame, by which labels it was compared, and what was found.

    `new` says how it does with classes that the incumbent does not find.
    """

    artefact: Artefact
    labels: tuple[int, ...]
    found: StudentComparison
    new: tuple[Newcomer, ...]
    verdict: Verdict
    after: Looked


def gate(context: Context, turn: Round, results: Results) -> Result:
    """Compare candidate and incumbent, each at its own scale, with the teacher on the held-out frames.

    An earlier student that passed is judged already. Raises RoundRefusedError when the frames are too few or show
    nothing to measure by.
    """
    if (judged := results.get("zoo", {}).get("judged")) is not None:
        return dict(judged)
    artefact = msgspec.convert(results["export"]["artefact"], Artefact)
    return judge(context, turn, results["label"]["held_out"], artefact)


def judge(
    context: Context, turn: Round, held_out: Sequence[str], artefact: Artefact, earlier_student: bool = False
) -> Result:
    """Compare a candidate with the incumbent on those of the held-out frames that are labelled, as `gate` says.

    An `earlier_student` comes before the candidate of its round, and must be more certain: two candidates are two
    chances of a lucky one. It is judged at its own scale alone.
    """
    frames = context.judges(turn.camera, held_out)
    incumbent = context.incumbent(turn.camera)
    before = _look(context, _priced(context, incumbent), frames)
    told: Result = {}
    if (earlier := context.provisional_since(incumbent)) is not None:
        told, replaced = _judge_again(context, incumbent, earlier, frames, before)
        if replaced is not None:
            incumbent, before = earlier, replaced
    if earlier_student:
        tried = _try(context, incumbent, artefact, frames, before, _more_certain(context))
    else:
        tried = _try_in_order(context, incumbent, artefact, frames, before)
    if tried.verdict.outcome != "refused":
        told.pop("back_to", None)  # what takes its place was held against the one before it
        if (gone := told.pop("withdrawn", None)) is not None:
            told["replaced"] = gone
    changed = _keep_changes(context, turn, frames, before, tried.after)
    return {**told, **_result(context, tried, before), "changed": {"before": incumbent.model_id, "frames": changed}}


def _keep_changes(context: Context, turn: Round, frames: Sequence[StoredFrame], before: Looked, after: Looked) -> int:
    """Keep the frames on which both students differ most, in place of what a gate that was cut short kept."""
    both = [frame for frame in frames if frame.id in before.found and frame.id in after.found]
    pairs = [
        Pair(frame.id, context.store.block(frame), before.found[frame.id], after.found[frame.id]) for frame in both
    ]
    most = most_different(pairs)
    context.changes.keep(turn.id, turn.camera, most, context.classes)
    return len(most)


def _try_in_order(
    context: Context, incumbent: Model, artefact: Artefact, frames: Sequence[StoredFrame], before: Looked
) -> Tried:
    """Return the candidate at its own scale, or where it is refused there, at full size; the former if both are."""
    first = _try(context, incumbent, artefact, frames, before, context.settings.gate.certainty)
    if first.verdict.outcome != "refused" or artefact.scale >= 1.0:
        return first
    second = _try(context, incumbent, _at_full_size(context, artefact), frames, before, _more_certain(context))
    return first if second.verdict.outcome == "refused" else second


def _more_certain(context: Context) -> float:
    certainty = context.settings.gate.certainty
    return 1.0 - SECOND_TRY * (1.0 - certainty) if certainty > 0.5 else certainty  # with .5 none is asked for


def _at_full_size(context: Context, artefact: Artefact) -> Artefact:
    """Return the same bytes to be run at full size, with golden frames that show what they find there."""
    graph = open_graph(context.files.read(artefact.sha256), provider="cpu")  # as the golden frames of an export
    golden = tuple(golden_frame(graph, decode_jpeg(one.jpeg), 1.0, artefact.long_side) for one in artefact.golden)
    return msgspec.structs.replace(artefact, scale=1.0, golden=golden)


def _try(
    context: Context,
    incumbent: Model,
    artefact: Artefact,
    frames: Sequence[StoredFrame],
    before: Looked,
    certainty: float,
) -> Tried:
    after = _look(context, artefact, frames)
    pair = _Pair(
        context, incumbent.artefact.classes, artefact.classes, _judged(context, frames, before, after), certainty
    )
    found, verdict = pair.decide(context.is_base(incumbent))
    return Tried(artefact, pair.shared or pair.new, found, pair.newcomers, verdict, after)


def _judge_again(
    context: Context, incumbent: Model, earlier: Model, frames: Sequence[StoredFrame], before: Looked
) -> tuple[Result, Looked | None]:
    """Return what becomes of a provisional incumbent, and what `earlier` did on each frame if that is to be in use.

    It is confirmed once it would be published without being the first; it is withdrawn when it is no longer the better
    one, or when as many frames judge as were wanted and that is still not certain.
    """
    seen, certainty = _look(context, _priced(context, earlier), frames), context.settings.gate.certainty
    judged = _judged(context, frames, seen, before)
    pair = _Pair(context, earlier.artefact.classes, incumbent.artefact.classes, judged, certainty)
    _, verdict = pair.decide(first=True)
    if verdict.outcome == "refused":
        return {"withdrawn": incumbent.model_id, "back_to": earlier.model_id, "again": verdict.reason}, seen
    sure = {"confirmed": incumbent.model_id} if verdict.outcome == "published" else {}
    return {**sure, "again": verdict.reason}, None


@dataclass(frozen=True)
class _Pair:
    """Two students that find `before` and `after`, on the same frames."""

    context: Context
    before: Sequence[str]
    after: Sequence[str]
    judged: Sequence[Judged]
    certainty: float

    @property
    def shared(self) -> tuple[int, ...]:
        """The labels of interest that both find."""
        return tuple(at for at in self._of_interest if self.context.classes[at] in self.before)

    @property
    def new(self) -> tuple[int, ...]:
        """The labels of interest that only the second finds."""
        return tuple(at for at in self._of_interest if self.context.classes[at] not in self.before)

    @property
    def _of_interest(self) -> list[int]:
        interest, classes = self.context.interest, self.context.classes
        return [at for at in (range(len(classes)) if interest is None else interest) if classes[at] in self.after]

    @cached_property
    def newcomers(self) -> tuple[Newcomer, ...]:
        """How the second does with classes that the first does not find."""
        return tuple(newcomer(self.judged, self.context.classes[at], self._rules((at,))) for at in self.new)

    def decide(self, first: bool) -> tuple[StudentComparison, Verdict]:
        """Return how both compare, and what becomes of the second. Raises RoundRefusedError where nothing compares.

        `first` is whether that would be the first trained student of its camera.
        """
        settings, wanted = self.context.settings.gate, self.context.settings.round.held_out
        found = compare_students(self.judged, self._rules(self.shared))
        if not self.new and set(self.before) == set(self.after):
            if found is None:
                raise self._nothing()
            return found, decide(found, settings.margin, wanted, first, self.context.classes)
        shown = found or compare_students(self.judged, self._rules(self.new))
        if shown is None:
            raise self._nothing()
        return shown, decide_relisted(found, self.newcomers, settings, wanted, self.context.classes)

    def _rules(self, labels: tuple[int, ...]) -> Rules:
        return Rules(labels, self.context.settings.gate.worse, self.certainty)

    def _nothing(self) -> RoundRefusedError:
        return RoundRefusedError(
            f"the gate cannot judge: none of the {len(self.judged)} labelled frames has an object to measure by"
        )


def _judged(context: Context, frames: Sequence[StoredFrame], before: Looked, after: Looked) -> list[Judged]:
    return [
        Judged(
            frame.id,
            context.store.block(frame),
            hour_of(frame.captured),
            _weight(frame),
            before.tallies[frame.id][0],
            after.tallies[frame.id][0],
        )
        for frame in frames
        if frame.id in before.tallies and frame.id in after.tallies
    ]


def _priced(context: Context, model: Model) -> Artefact:
    return msgspec.structs.replace(model.artefact, cost=context.cost(model))


def _look(context: Context, model: Artefact, frames: Sequence[StoredFrame]) -> Looked:
    """Return what a model does on each frame."""
    graph = context.graph(model.sha256)
    context.heart.expect(len(frames))
    seen, boxes = {}, {}
    for frame, jpeg in context.pictures(frames):
        size = input_size(frame.width, frame.height, model.scale, model.long_side)
        found = context.see(graph, model.cost, decode_jpeg(jpeg), size)
        seen[frame.id] = tallies(context.compared(frame, found), len(context.classes))
        boxes[frame.id] = context.counting(frame, found)
    return Looked(seen, boxes)


def _weight(frame: StoredFrame) -> float:
    """Return how many frames one stands for: one over the probability with which it was drawn, where that is known."""
    probability = frame.probability
    return 1.0 if not probability else min(1.0 / probability, MOST_WEIGHT)


def _result(context: Context, tried: Tried, before: Looked) -> Result:
    found, verdict, classes = tried.found, tried.verdict, context.classes
    refused, labels = verdict.outcome == "refused", tried.labels
    compared = {"compared": [classes[at] for at in labels], "new_classes": [asdict(one) for one in tried.new]}
    return {
        **(compared if tried.new or len(tried.labels) < len(_every(context)) else {}),
        "frames": found.frames,
        "wanted": context.settings.round.held_out,
        "blocks": found.blocks,
        "map_before": round(found.before, 4),
        "map_after": round(found.after, 4),
        "map_before_50_95": round(_strict(before.tallies, labels), 4),
        "map_after_50_95": round(_strict(tried.after.tallies, labels), 4),
        "gain_low": round(found.low, 4) if found.low > -1.0 else None,
        "certainty": found.certainty,
        "checks": [_told(check, classes) for check in found.checks],
        "outcome": verdict.outcome,
        "verdict": verdict.reason,
        "reason": verdict.reason if refused else "",
        "scale": tried.artefact.scale,
        "artefact": msgspec.to_builtins(tried.artefact),
    }


def _every(context: Context) -> Sequence[int]:
    return range(len(context.classes)) if context.interest is None else context.interest


def _told(check: Check, classes: Sequence[str]) -> Result:
    name = check.name if check.kind == "hours" else classes[int(check.name)]
    figures = {key: round(getattr(check, key), 4) for key in ("before", "after", "margin")}
    low = None if check.low is None or check.low < -1.0 else round(check.low, 4)
    passed = {"judged": check.judged, "passed": check.passed, "text": describe(check, classes)}
    return {"kind": check.kind, "name": name, **figures, "low": low, **passed}


def _strict(seen: Tallies, labels: Sequence[int]) -> float:
    """Return AP50:95, mean over the classes as the gate weights them, each frame counting once."""
    rows = list(seen.values())
    objects = {label: sum(row[0].objects[label] for row in rows) for label in labels}
    present = [label for label, count in objects.items() if count]
    weights = class_weights([objects[label] for label in present])
    once = np.ones((1, len(rows)))
    levels = [
        sum(
            weight * float(rank([row[level] for row in rows], label).precision(once)[0])
            for weight, label in zip(weights, present, strict=True)
        )
        for level in range(len(IOUS))
    ]
    return float(np.mean(levels))
