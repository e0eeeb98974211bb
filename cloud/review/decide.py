"""What a person decides of disputed frames, by command or on the page: teacher, student, other boxes, or none of them.

    {"id": "0f3a...", "decision": "student"}        teacher, student or skip
    {"id": "77c1...", "decision": "corrected", "boxes": [[12.0, 40.5, 40.0, 98.0, "person"]]}
    {"id": "b2d0...", "decision": "ignore", "boxes": [[12.0, 40.5, 40.0, 98.0, "person"]]}
    {"id": "b2d0...", "decision": "unignore"}

With `ignore`, objects of that class ("": of every class) that stand where the box is do not count in that frame, in
labels, training and evaluation (`store/people/ignores.py`); `unignore` takes the last such place of a frame back. The
frame stays in dispute as long as anything else of it is.

Boxes are xyxy in pixels of the frame. A decision may say which student's boxes were shown (`model`): where another one
is in use since, it is refused, since nobody has seen its boxes. It may say when the frame had been decided last as it
was shown (`seen`, null for never): where somebody has decided it since, it is refused, so that nobody overrules another
unawares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from culling.cloud.annotations.lines import to_label
from culling.cloud.annotations.picture import Box, Picture, fitted
from culling.cloud.review.desk import Desk
from culling.cloud.review.disputes import Dispute, Students, dispute, disputes
from culling.cloud.review.effect import effect
from culling.cloud.review.place import place_of, to_toml
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.people.ignores import ignored_in
from culling.cloud.store.people.reviews import OVERRULES, Review, Said
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.wire.ignored import Ignored

PLACES = ("ignore", "unignore")
"""Decisions of a place alone: the labels stay as they are."""

Boxes = list[tuple[float, float, float, float, str]]


class Decided(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decision."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    decision: Literal["teacher", "student", "corrected", "skip", "ignore", "unignore"]
    boxes: Boxes | None = None
    model: str | None = None
    seen: float | msgspec.UnsetType | None = msgspec.UNSET


class Decisions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request, and of a file."""

    decisions: list[Decided]


@dataclass(frozen=True)
class Taken:
    """How many decisions were new, and how many said what was decided before."""

    new: int
    same: int


def listed(desk: Desk, camera: str, limit: int) -> dict[str, Any]:
    """Return how many frames of a camera are in dispute (`left`), and the `frames` that are so most, at most `limit`.

    `effect` is what the last decisions changed where students are judged (see `effect.py`). Boxes are
    `[x1, y1, x2, y2, score, class]` in pixels. Raises InputError where there is no such camera.
    """
    desk.require(camera)
    students = Students(desk, camera)
    found = disputes(desk, camera, limit, students)
    rows = [_row(desk, one) for one in found.frames]
    return {"left": found.left, "effect": effect(desk, camera, students), "frames": rows}


def _row(desk: Desk, one: Dispute) -> dict[str, Any]:
    frame = one.frame
    shown = ("id", "captured", "reason", "width", "height", "held_out")
    true = desk.true(frame.labels or Detections.empty())
    return {
        **{name: getattr(frame, name) for name in shown},
        "mass": one.mass,
        "why": one.why,
        "model": one.model,
        "teacher": _boxes(frame, true),
        "student": _boxes(frame, one.found),
        "ignored": _ignored(desk, frame),
    }


def _ignored(desk: Desk, frame: StoredFrame) -> list[dict[str, Any]]:
    """Return the places of a frame that do not count; `who` had it ignored in this frame, None: its camera."""
    if not frame.ignored:
        return []
    who = {one.place: one.who for one in ignored_in(desk.index, [frame.id])}
    return [{"polygon": one.polygon, "classes": list(one.classes), "who": who.get(one)} for one in frame.ignored]


def _boxes(frame: StoredFrame, found: Detections) -> list[list[Any]]:
    return [
        [*(round(float(edge), 1) for edge in box), round(float(score), 2), frame.classes[int(label)]]
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]


def read_decisions(file: Path) -> list[Decided]:
    """Return the decisions in a file: a list, or an object with `decisions`. Raises InputError that names the field."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=list[Decided] | Decisions)
        return found.decisions if isinstance(found, Decisions) else found
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: no decisions: {error}") from None


def decide(desk: Desk, camera: str, decisions: Sequence[Decided], who: str, also: Callable[[int], None]) -> Taken:
    """Take decisions, all or none; `also` is called with how many are new before they become durable.

    Raises InputError for a frame that is not there or is named twice, and for what cannot be decided of it.
    """
    desk.require(camera)
    by_id = {one.id: one for one in decisions}
    for name, count in Counter(one.id for one in decisions).items():
        if count > 1:
            raise InputError(f"frame {name} is named {count} times: nothing is decided")
    frames = {frame.id: frame for frame in desk.store.get(by_id) if frame.camera == camera}
    if missing := sorted(by_id.keys() - frames.keys()):
        raise InputError(f"camera {camera} has no stored frame {', '.join(missing)}: nothing is decided")
    settled = {frame.id: frame for frame in desk.settled(camera, list(frames.values()))}
    case = _Case(desk, desk.reviews.of(camera, by_id), Students(desk, camera))
    said, places = dict[str, Said](), dict[str, Ignored | None]()
    for name, one in by_id.items():
        if one.decision in PLACES:
            places[name] = _place(one, frames[name])
        else:
            said[name] = case.said(one, settled.get(name, frames[name]))
    seen = {name: one.seen for name, one in by_id.items() if one.seen is not msgspec.UNSET and name in said}
    new = desk.reviews.enter(camera, said, who, desk.clock.now(), also, places, seen)
    return Taken(len(new), len(by_id) - len(new))


def ignoring(desk: Desk, camera: str, decisions: Sequence[Decided]) -> list[dict[str, Any]]:
    """Return the frames of decisions that had a place ignored, or took that back, as `listed` does.

    Where a place was ignored, `toml` has it for the settings of the camera's edge: later frames ignore it by those.
    """
    asked = {one.id: one for one in decisions if one.decision in PLACES}
    frames, students, rows = desk.store.get(asked), Students(desk, camera), []
    settled = {frame.id: frame for frame in desk.settled(camera, frames)} if frames else {}
    for frame in (settled.get(one.id, one) for one in frames):
        one = dispute(desk, frame, students) if frame.labels is not None else None
        row = _row(desk, one or Dispute(frame, *students.found(frame), 0.0, "nothing of it is in dispute any more"))
        place = _place(asked[frame.id], frame)
        rows.append(row | {"toml": None if place is None else to_toml(camera, place)})
    return rows


def _place(one: Decided, frame: StoredFrame) -> Ignored | None:
    """Return what a decision wants ignored, None where it takes that back. Raises InputError."""
    if one.decision == "unignore":
        if one.boxes is not None:
            raise InputError(f"frame {one.id}: `unignore` takes the last place back, and no boxes")
        return None
    if one.boxes is None or len(one.boxes) != 1:
        raise InputError(f"frame {one.id}: `ignore` takes one box, whose class does not count where it stands")
    return place_of(frame, one.boxes[0])


@dataclass(frozen=True)
class _Case:
    desk: Desk
    reviews: dict[str, Review]
    students: Students

    def said(self, one: Decided, frame: StoredFrame) -> Said:
        """Return a decision with the boxes that follow from it. Raises InputError."""
        if (one.boxes is not None) != (one.decision == "corrected"):
            raise InputError(f"frame {one.id}: boxes belong to a decision `corrected`, and to no other")
        if one.decision == "skip":
            return Said("skipped")
        if one.decision == "corrected":
            return Said("corrected", self._corrected(one, frame))
        if one.decision == "teacher":
            return Said("teacher", self._teachers(frame))
        return Said("student", self._students(one, frame))

    def _teachers(self, frame: StoredFrame) -> Detections:
        review = self.reviews.get(frame.id)
        overruled = review is not None and review.decision in OVERRULES
        labels = review.teacher if overruled and review is not None else frame.labels
        if labels is None:
            raise InputError(f"frame {frame.id}: the teacher has not looked at it yet")
        return self.desk.true(labels)

    def _students(self, one: Decided, frame: StoredFrame) -> Detections:
        model, found = self.students.found(frame)
        if one.model not in (None, model):
            raise InputError(f"frame {frame.id}: {model} has looked at it since, not {one.model}: look again")
        return found

    def _corrected(self, one: Decided, frame: StoredFrame) -> Detections:
        rows = tuple(Box(name, 1.0, x1, y1, x2, y2) for x1, y1, x2, y2, name in one.boxes or ())
        picture = Picture(frame.id, 0, frame.width, frame.height, rows, f"frame {frame.id}")
        (kept,) = fitted([picture]).pictures
        return to_label(kept, frame.classes).detections
