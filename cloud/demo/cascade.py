"""The cascade in a demo, where `--set cascade.per_minute` asks for one: how long records wait, and what came of it.

How long the teacher takes differs a hundredfold between machines, so that no deadline fits all of them: the demo
measures this one anyway, and takes a deadline that its teacher can keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from culling.cloud.demo.changes import Changes
from culling.cloud.demo.plan import MEANWHILE, Plan
from culling.cloud.settings import LabellingSettings
from culling.common.errors import SettingsError
from culling.common.process.console import counted
from culling.common.settings.command import settings_class
from culling.common.settings.keys import sections

SHARE = 0.5
"""Of the teacher's time, so much goes to answers at most: it labels with the rest, or no round would ever start."""

MOST_S = 30.0
"""The longest deadline that `[cascade]` takes."""

PASSING_S = 0.5
"""What an answer takes beside the teacher on two quiet cores: encoding, sending, the index, and looks at it."""

TOGETHER = 1
"""Frames that the teacher looks at together (`teacher.batch`): a question waits for those under way."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for: questions `per_minute`, within `deadline_s` seconds, which a person set if `own_deadline`."""

    per_minute: int
    deadline_s: float
    own_deadline: bool


@dataclass(frozen=True)
class Answering:
    """What is answered: at most `verdicts` questions a minute, within `deadline_s` seconds, which the demo may have
    `chosen`. An answer takes `alone_s` seconds at most, or `beside_s` while a round runs.
    """

    verdicts: int
    deadline_s: float
    chosen: bool
    alone_s: float
    beside_s: float

    def told(self) -> str:
        """Return what a viewer is to know before it starts."""
        whose = "chosen for this machine" if self.chosen else "as asked for"
        line = (
            f"Where the student is unsure, a record waits up to {self.deadline_s:g} s for the teacher "
            f"(cascade.deadline_s, {whose}), whose answer should take up to {self.alone_s:.1f} s here, and "
            f"{self.beside_s:.1f} s beside a round. It answers {self.verdicts} a minute at most "
            "(labelling.verdicts_per_minute)."
        )
        if self.beside_s <= self.deadline_s:
            return line
        when = "Many answers" if self.alone_s > self.deadline_s else "Many answers beside a round"
        return f"{line} {when} will come too late{cure(self.deadline_s)}"


def wanted(changes: Changes) -> Wanted | None:
    """Return the cascade that the settings of `changes` ask for; None where they ask for none.

    Raises SettingsError for a `[cascade]` that the edge would refuse.
    """
    given: dict[str, Any] = {}
    for key, value in changes.overrides("edge").items():
        head, _, name = key.partition(".")
        if head == "cascade" and (name or isinstance(value, Mapping)):
            given |= {name: value} if name else value
    try:
        found: Any = sections(settings_class("edge"))["cascade"].model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"--set cascade.{first['loc'][0]}: {first['msg'].lower()}") from None
    return Wanted(found.per_minute, found.deadline_s, "deadline_s" in given) if found.per_minute else None


def plan_answers(asked: Wanted, labelling: LabellingSettings, plan: Plan, slowness: float) -> Answering:
    """Return what is answered on a machine of that plan and `slowness`, and how long records wait for it.

    How many a person set in `labelling` are answered, else as many as are asked and the machine can. A question waits
    for the frame that the teacher looks at, and then takes as long as that one.
    """
    passing_s, looks_s = PASSING_S * slowness, 2 * TOGETHER * plan.label_s
    alone_s, beside_s = passing_s + looks_s, passing_s + looks_s / MEANWHILE
    most = max(1, math.floor(60 * SHARE / plan.label_s))
    own = "verdicts_per_minute" in labelling.model_fields_set
    verdicts = labelling.verdicts_per_minute if own else min(asked.per_minute, most)
    kept_s = max(asked.deadline_s, min(MOST_S, float(math.ceil(beside_s))))
    deadline_s = asked.deadline_s if asked.own_deadline else kept_s
    return Answering(verdicts, deadline_s, not asked.own_deadline, alone_s, beside_s)


def cure(deadline_s: float) -> str:
    """Return what helps where answers come later than that deadline, as the end of a sentence."""
    longer = "" if deadline_s >= MOST_S else f"allow up to {MOST_S:g} s with --set cascade.deadline_s, or "
    return f": {longer}take a smaller teacher, such as --set teacher.kind=yolox-nano."


def read_answers(metrics: str, camera: str, answering: Answering) -> dict[str, Any]:
    """Return what became of the records of a camera, by its edge's metrics, as its port gives them."""
    totals: dict[str, dict[str, float]] = {}
    waits: dict[float, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.labels.get("camera", camera) != camera:
                continue
            if sample.name == "culling_verdict_seconds_bucket":
                waits[float(sample.labels["le"])] = sample.value
            by = sample.labels.get("reason", sample.labels.get("output", ""))
            totals.setdefault(sample.name, {})[by] = sample.value
    return {
        "deadline_s": answering.deadline_s,
        "records": int(max(totals.get("culling_output_records_total", {}).values(), default=0)),
        "by_teacher": int(sum(totals.get("culling_verdicts_taken_total", {}).values())),
        "median_s": median(sorted(waits.items())),
        "in_vain": _reasons(totals.get("culling_verdicts_missed_total")),
        "not_asked": _reasons(totals.get("culling_escalations_skipped_total")),
    }


def median(buckets: Sequence[tuple[float, float]]) -> float | None:
    """Return the median of a histogram, `(upper bound, how many are no larger)` in order; evenly spread in each.

    None where it is empty; the largest finite bound where more than half lie above it.
    """
    half = buckets[-1][1] / 2 if buckets else 0.0
    low, below = 0.0, 0.0
    for bound, count in buckets if half else ():
        if count >= half and not math.isinf(bound):
            return round(low + (bound - low) * (half - below) / (count - below), 2)
        if math.isinf(bound):
            return low
        low, below = bound, count
    return None


def sentences(answers: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what a viewer is told of the cascade in the end; nothing where none was wanted."""
    if answers is None:
        return
    records, by_teacher = answers["records"], answers["by_teacher"]
    took = f" (an answer took {answers['median_s']:.1f} s, median)" if by_teacher else ""
    vain, unasked = sum(answers["in_vain"].values()), sum(answers["not_asked"].values())
    yield (
        f"Cascade: {counted(records, 'record')}, {by_teacher} of them by the teacher{took}; {vain} asked in vain"
        f"{_listed(answers['in_vain'])}; {unasked} not asked though the student was unsure"
        f"{_listed(answers['not_asked'])}. docs/cascade.md says what each reason means."
    )
    if answers["in_vain"].get("deadline", 0) > by_teacher:
        yield f"Most answers took longer than {answers['deadline_s']:g} s{cure(answers['deadline_s'])}"


def _reasons(counts: Mapping[str, float] | None) -> dict[str, int]:
    return {reason: int(count) for reason, count in sorted((counts or {}).items()) if count}


def _listed(reasons: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {reason}' for reason, count in reasons.items())})" if reasons else ""
