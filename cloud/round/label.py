"""The label stage: the teacher labels held-out and audit frames first, then those worth most, within a day's budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from culling.cloud.bill.timed import TimedTeacher
from culling.cloud.round.context import Context, RefusedError, Result, Results
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.rounds import Round
from culling.cloud.teacher.loading import load_teacher
from culling.common.errors import ProtocolError
from culling.common.selection.features import read
from culling.common.wire.codec import decode_jpeg


def label(context: Context, turn: Round, _: Results) -> Result:
    """Have the teacher label the held-out frames and the best of the others; each batch is saved before the next.

    Raises RefusedError, before the frames to train on are labelled, when the gate could not judge by the held-out ones,
    and before any is, when there is nothing to train on.
    """
    settings, life = context.settings.round, context.lifecycle
    claimed = life.claim(turn.camera, turn.id)
    held_out = life.held_out(turn.camera, settings.held_out)
    _check(context, turn, held_out)
    labels = _Labels(context)
    labels.add([frame for frame in held_out if frame.labels is None])
    judges = context.judges(turn.camera, [frame.id for frame in held_out])
    if not any(len(context.objects(frame)) for frame in judges):
        raise RefusedError(
            f"the gate cannot judge: the teacher is sure of no object in any of the {len(judges)} held-out frames"
        )
    labels.add(life.candidates(turn.camera, _left(context, turn), _worth(context, turn.camera)))
    return {
        "claimed": claimed,
        "labelled": life.labelled_since(turn.camera, turn.started),
        "held_out": [frame.id for frame in judges],
    }


def _check(context: Context, turn: Round, held_out: Sequence[StoredFrame]) -> None:
    """Raise RefusedError for a round that has nothing to choose from, or too little to be judged by."""
    life = context.lifecycle
    if not life.candidates(turn.camera, 1) and not life.pool(turn.camera, 1):
        raise RefusedError("no frame to learn from: none has come yet that may be trained on")
    if len(held_out) < context.settings.gate.least:
        life.unclaim(turn.camera, turn.id)  # they wait on, so that the next round starts as soon as it can be judged
        raise context.too_few(held_out)


def _left(context: Context, turn: Round) -> int:
    """Return how many frames may still be labelled in this day and in this round, of which this may be a second try."""
    settings, life = context.settings, context.lifecycle
    day = settings.labelling.per_day - life.labelled_lately(turn.camera)
    done = life.labelled_since(turn.camera, turn.started, trainable=True)
    own = settings.round.factor * settings.round.kept - done
    return max(0, min(day, own))


class _Labels:
    """Labels frames, and loads the teacher for the first of them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._teacher: TimedTeacher | None = None

    def add(self, frames: Sequence[StoredFrame]) -> None:
        """Have these frames labelled, in this order."""
        size = self._context.settings.teacher.batch * 2
        self._context.heart.expect(len(frames))
        for start in range(0, len(frames), size):
            self._teacher = self._teacher or TimedTeacher(load_teacher(self._context.settings), self._context.rates)
            _label(self._context, self._teacher, frames[start : start + size])


def _worth(context: Context, camera: str) -> Callable[[StoredFrame], float] | None:
    """Return the live model's ranker as a function of a frame (0 for unreadable features), None if it has no ranker."""
    live = context.registry.live().get(camera)
    ranker = live.artefact.ranker if live else None
    if ranker is None or not ranker.known:
        return None

    def worth(frame: StoredFrame) -> float:
        values = read(frame.features)
        return 0.0 if values is None else float(ranker.predict(values))

    return worth


def _label(context: Context, teacher: TimedTeacher, frames: Sequence[StoredFrame]) -> None:
    names, images = [], []
    for frame, jpeg in context.pictures(frames):
        try:
            images.append(decode_jpeg(jpeg))
            names.append(frame.id)
        except ProtocolError:  # only its header was checked on arrival
            context.store.put_aside(frame)
    floor = context.settings.teacher.min_score
    found = [seen.above(floor) for seen in teacher.label(images)]
    context.label(dict(zip(names, found, strict=True)))
