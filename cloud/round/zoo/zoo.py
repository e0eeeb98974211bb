"""The zoo stage: before a round trains, earlier students are tried on the newest labels (RECL, NSDI 2023).

The one with the fewest mistakes goes to the gate, if those are clearly fewer than those of the student in use. One that
passes is published again, under a new counter, and the round is over: what came back is known. One that does not is
what training starts from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from culling.cloud.model.golden import golden_frame
from culling.cloud.round.context import Context, Result, Results
from culling.cloud.round.export import busiest
from culling.cloud.round.gate import judge
from culling.cloud.round.score import look, seen
from culling.cloud.round.zoo.students import students
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.registry import Artefact, Model
from culling.cloud.store.rounds import Round
from culling.common.errors import ModelError
from culling.common.graph import open_graph
from culling.common.process.console import counted

FRAMES = 12
"""Labelled frames that each student looks at. They choose whom the gate judges, and do not judge themselves."""

NEWEST = 48
"""Those are spread over so many of the newest: neighbours in time show the same."""

CLEARLY = 0.8
"""Of the mistakes of the student in use, the share that one of the zoo may make to be worth the gate's looks."""


def zoo(context: Context, turn: Round, results: Results) -> Result:
    """Try at most `round.zoo` students. Where one is clearly better, `judged` is what the gate says of it if it is
    published again, else `start` names the weights that training starts from.
    """
    live, found = context.incumbent(turn.camera), students(context, turn)
    unusable, usable = dict(found.unusable), {one.model_id: one for one in found.usable}
    frames = _newest(context, turn.camera) if usable else []
    shares = _shares(context, live, usable, frames, unusable)
    told: Result = {"frames": len(frames), "shares": shares, "unusable": unusable}
    best = min(shares, key=lambda name: shares[name], default="")
    if not best or shares[best] > CLEARLY:
        return _ended(told, "worse")
    held_out = results["label"]["held_out"]
    artefact = _again(context, usable[best], live, held_out)
    judged = judge(context, turn, held_out, artefact, earlier_student=True)
    if judged["outcome"] == "published":
        judged["verdict"] = f"{best} again, without training: {judged['verdict']}"
        return _ended({**told, "judged": judged}, "published")
    return _ended({**told, "start": artefact.weights}, "start", judged["verdict"])


def _newest(context: Context, camera: str) -> list[StoredFrame]:
    pool = context.settled(camera, context.lifecycle.pool(camera, NEWEST))
    return pool[:: -max(1, len(pool) // FRAMES)][:FRAMES]


def _shares(
    context: Context,
    live: Model,
    students: Mapping[str, Model],
    frames: Sequence[StoredFrame],
    unusable: dict[str, str],
) -> dict[str, float]:
    """Return what share of the mistakes of the student in use each makes; one that fails becomes unusable."""
    found: dict[str, float] = {}
    if not frames:
        return found
    context.heart.expect(len(frames) * len(students))
    known = seen(context, live, frames)  # most came from the camera, with what that student found in them
    if unknown := [frame for frame in frames if frame.id not in known]:
        looked = look(context, context.graph(live.artefact.sha256), live, unknown)
        context.lifecycle.score(live.model_id, looked)
        known |= looked
    for name, model in students.items():
        try:
            theirs = look(context, context.graph(model.artefact.sha256), model, frames)
        except ModelError as error:
            unusable[name] = str(error)
            continue
        both = [frame for frame in frames if frame.id in theirs and frame.id in known]
        before, after = (sum(context.mistakes(frame, by[frame.id]).mass for frame in both) for by in (known, theirs))
        found[name] = round(after / before, 4) if before else 1.0
    return found


def _again(context: Context, model: Model, live: Model, held_out: Sequence[str]) -> Artefact:
    """Return a student as it is published again: with a golden frame of this camera, of today.

    A sibling's ranker was not proven here, and the picture that came with it is the sibling's.
    """
    known = model.artefact
    graph = open_graph(context.files.read(known.sha256), provider="cpu")
    golden = tuple(golden_frame(graph, one, known.scale, known.long_side) for one in busiest(context, held_out, 1))
    mine = model.camera == live.camera
    return msgspec.structs.replace(
        known, parent=live.model_id, golden=golden, ranker=known.ranker if mine else None, cost=context.cost(model)
    )


def _ended(found: Result, outcome: str, verdict: str = "") -> Result:
    shares, unusable = found["shares"], found["unusable"]
    counts = {"unusable": len(unusable), "worse": len(shares), "published": 0, "start": 0}
    if outcome != "worse":
        counts |= {outcome: 1, "worse": len(shares) - 1}
    return {**found, "outcomes": counts, "told": _told(found, outcome, verdict)}


def _told(found: Result, outcome: str, verdict: str) -> str:
    shares, unusable = found["shares"], found["unusable"]
    others = "".join(f"; {name} cannot be used: {why}" for name, why in unusable.items())
    if not shares:
        return f"there is no earlier student to try{others}"
    best = min(shares, key=lambda name: shares[name])
    share = f"{shares[best]:.2f} of the mistakes of the student in use on the newest {found['frames']} labelled frames"
    became = {
        "worse": f", the fewest of {counted(len(shares), 'earlier student')}, and not clearly fewer",
        "published": ", and is published again without training",
        "start": f", and training starts from it; it is not published again: {verdict}",
    }
    return f"{best} makes {share}{became[outcome]}{others}"
