"""The label stage: the teacher labels the frames that are worth most, and the held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from culling.cloud.model.teacher import Teacher, load_teacher
from culling.cloud.round.context import Context, RefusedError, Result, Results
from culling.cloud.store.frames import StoredFrame
from culling.cloud.store.rounds import Round
from culling.common.errors import ProtocolError
from culling.common.selection.features import read
from culling.common.wire.codec import decode_jpeg


def label(context: Context, turn: Round, _: Results) -> Result:
    """Have the teacher label the frames to choose from and the held-out ones; each batch is saved before the next.

    Raises RefusedError when there is no frame to train on, or when the gate would have too few to judge by.
    """
    settings, life = context.settings.round, context.lifecycle
    claimed = life.claim(turn.camera, turn.id)
    chosen = life.candidates(turn.camera, turn.id, settings.factor * settings.kept, _worth(context, turn.camera))
    held_out = life.held_out(turn.camera, settings.held_out)
    if chosen and len(held_out) < context.settings.gate.least:
        life.unclaim(turn.camera, turn.id)  # the next round may use these frames
        raise context.too_few(held_out)
    missing = [frame for frame in chosen + held_out if frame.labels is None]
    teacher = load_teacher(context.settings) if missing else None
    size = context.settings.teacher.batch * 2
    context.heart.expect(len(missing))
    for start in range(0, len(missing), size):
        assert teacher is not None
        _label(context, teacher, missing[start : start + size])
    labelled = context.store.get([frame.id for frame in chosen])
    if not labelled:
        raise RefusedError("no frame to learn from: none came since the last round")
    return {
        "claimed": claimed,
        "labelled": len(missing),
        "candidates": [frame.id for frame in labelled],
        "held_out": [frame.id for frame in context.judges([frame.id for frame in held_out])],
    }


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


def _label(context: Context, teacher: Teacher, frames: Sequence[StoredFrame]) -> None:
    names, images = [], []
    for frame, jpeg in context.pictures(frames):
        try:
            images.append(decode_jpeg(jpeg))
            names.append(frame.id)
        except ProtocolError:  # only its header was checked on arrival
            context.store.put_aside(frame)
    floor = context.settings.teacher.min_score
    found = [seen.above(floor) for seen in teacher.label(images)]
    context.lifecycle.label(dict(zip(names, found, strict=True)))
