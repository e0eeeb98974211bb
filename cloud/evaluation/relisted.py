"""A candidate for another class list than the incumbent's: what becomes of it, and why. Pure.

By the classes that both find it must not be worse, as `gate.worse` has it; that it is better is not asked for, since
the list was changed for other reasons. A class that is new has nothing to be compared with: it must be found at all, by
the labels. Where only certainty is missing the candidate is provisional, however many frames judge: a rare class would
keep a list from ever being changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from culling.cloud.evaluation.comparison import FEW_OBJECTS, Judged, Rules, StudentComparison, compare_students
from culling.cloud.evaluation.verdict import Verdict, describe
from culling.cloud.settings import GateSettings


@dataclass(frozen=True)
class Newcomer:
    """How a student does with one class that the one before it does not find, by the labels alone.

    `objects` are those that judge, `ap50` is None where there is none, `low` its lower bound, None where too few blocks
    judge. `alarms` is the share of frames with a false one, None where there are objects enough for an AP50.
    """

    name: str
    objects: int
    ap50: float | None = None
    low: float | None = None
    alarms: float | None = None

    @property
    def few(self) -> bool:
        """Whether too few objects judge to say that it is not found."""
        return self.objects < FEW_OBJECTS

    def certain(self, least: float) -> bool:
        """Whether the class is certainly found: with an AP50 of `least`."""
        return not self.few and self.low is not None and self.low >= least

    def likely(self, least: float, worse: float) -> bool:
        """Whether the class is found, as far as the figure itself tells; of few objects, whether it is not imagined in
        more than a share `worse` of the frames.
        """
        return (self.alarms or 0.0) <= worse if self.few else (self.ap50 or 0.0) >= least

    def told(self) -> str:
        """Return it in words."""
        if self.ap50 is None:
            return f"{self.name} is new and no judge shows it, {self.alarms or 0.0:.0%} of frames have a false one"
        few = f", {self.alarms or 0.0:.0%} of frames have a false one" if self.few else ""
        low = "" if self.low is None else f", at least {self.low:.3f}"
        return f"{self.name} is new: AP50 {self.ap50:.3f} by {self.objects} objects{low}{few}"


def newcomer(frames: Sequence[Judged], name: str, rules: Rules) -> Newcomer:
    """Return how the second student of `frames` does with the one class of `rules`, called `name`."""
    [label] = rules.labels
    objects = sum(frame.before.objects[label] for frame in frames)
    found = compare_students(frames, rules)
    if found is None:
        alarmed = sum(frame.after.alarmed(label) for frame in frames)
        return Newcomer(name, 0, alarms=alarmed / max(1, len(frames)))
    alarms = next((check.after for check in found.checks if check.kind == "alarms"), None)
    return Newcomer(name, objects, round(found.after, 4), None if found.low < -1.0 else round(found.low, 4), alarms)


def decide_relisted(
    found: StudentComparison | None, new: Sequence[Newcomer], gate: GateSettings, wanted: int, classes: Sequence[str]
) -> Verdict:
    """Return the verdict on a candidate for another list; `found` compares the classes that both find, if any judge."""
    worse = gate.worse
    told, likely, certain = [], True, True
    if found is not None:
        names = " and ".join(check_names(found, classes)) or "the classes that both find"
        told.append(f"compared by {names} alone: AP50 {found.gain:+.3f} ({found.before:.3f} → {found.after:.3f})")
        failed = [check for check in found.checks if not check.likely]
        told += [f"{describe(check, classes)}, limit {-check.margin:+.3f}" for check in failed]
        likely = not failed and found.gain >= -worse
        certain = found.low >= -worse and all(check.passed for check in found.checks)
    else:
        told.append("no class that both find has an object to compare by")
    told += [one.told() for one in new]
    told.append(f"{found.frames} of {wanted} judges wanted" if found else f"{wanted} judges wanted")
    text = "; ".join(told)
    against = [] if likely else [f"what both find got worse by more than gate.worse = {worse:g}"]
    against += [f"{one.name} is not found" for one in new if not one.likely(gate.found, worse)]
    if against:
        return Verdict("refused", f"{text}: {', and '.join(against)}")
    if certain and all(one.certain(gate.found) for one in new):
        return Verdict("published", text)
    return Verdict("provisional", f"{text}; provisional, since that is not certain")


def check_names(found: StudentComparison, classes: Sequence[str]) -> list[str]:
    """Return the classes that a comparison went by."""
    return [classes[int(check.name)] for check in found.checks if check.kind == "class"]
