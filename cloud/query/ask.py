"""A query from its question to its answer: the one place where video, student, teacher and cascade meet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from culling.cloud.check.contact import contact_sheet
from culling.cloud.check.trial import Shown
from culling.cloud.model.base import base_artefact, student_artefact
from culling.cloud.query.cascade import answers, draw, find, sizes
from culling.cloud.query.difference import candidates
from culling.cloud.query.eyes import Footage, Picture, Sight, watch
from culling.cloud.query.place import Place
from culling.cloud.query.question import Question
from culling.cloud.query.told import Found, found, middles
from culling.cloud.settings import CloudSettings
from culling.cloud.store.registry import ModelFiles
from culling.cloud.teacher.loading import identity, load_teachers, sayings
from culling.cloud.teacher.remembered import Remembered
from culling.common.errors import ModelError
from culling.common.frame import Detections
from culling.common.graph import Graph, Provider, has_cuda, open_graph, see
from culling.common.progress import Say, say_nothing
from culling.common.scaler import input_size
from culling.common.video import frame_rate, read_frames

BLOCKS = 2
"""Batches that the teacher looks at before its answers are kept: a kill costs no more than these."""


@dataclass(frozen=True)
class Asked:
    """A query: `question` of the first `frames` (None: all) of `video`, of objects in `place` (None: anywhere).

    `error` is the share of frames that may be wrong either way, `sample` how many frames the teacher labels to see to
    that (None: as many as it takes), drawn by `seed`. `model` is the student, ONNX or safetensors (None: that of the
    settings), which looks at `scale` of its usual size.
    """

    video: Path
    question: Question
    place: Place | None = None
    error: float = 0.01
    sample: int | None = None
    model: Path | None = None
    scale: float = 1.0
    frames: int | None = None
    seed: int = 0


def ask(asked: Asked, settings: CloudSettings, say: Say = say_nothing) -> tuple[Found, bytes | None]:
    """Return what the query finds, and a contact sheet as PNG, None where the answer is never yes.

    The data folder of `settings` keeps what the teacher said. Raises CameraError for a video, ModelError for a model
    that cannot be used, and SettingsError for a class that nobody knows or an error that cannot be certified.
    """
    frame_rate(asked.video)  # what is no video is refused before the student is made, which may take minutes
    graph = open_student(asked, settings, say)
    classes = graph.info.classes
    asked.question.check(classes)
    say(f"reading {asked.video.name}")
    footage = watch(asked.video, asked.frames)
    total = len(footage.numbers)
    if (held := footage.held) > total:
        say(f"{asked.video.name}: {total} of its {held} frames can be decoded and are asked about")
    choose, certify = sizes(total, asked.error, asked.sample, footage.cut)
    sample = draw(total, choose, certify, asked.seed)
    teacher = _teacher(settings, classes, asked.question.names)
    sight = _sight(asked, settings, footage, graph, teacher)
    sight.teacher(sample.both)
    cascade = None if choose + certify == total else find(sight, candidates(footage.greys), sample, asked.error)
    if cascade is None and choose + certify < total:
        say("no cascade could be certified: the teacher looks at every frame")
    said = answers(sight, cascade, sample, total)
    told = found(asked.question.text, footage, sight, sample, cascade, said, asked.error)
    return told, _sheet(asked, settings, told, teacher, classes)


def open_student(asked: Asked, settings: CloudSettings, say: Say) -> Graph:
    """Return the student of the query, ready to run. Raises ModelError when it cannot be used."""
    files, path = ModelFiles(settings.data_dir / "models"), asked.model
    try:
        if path is not None and path.suffix != ".safetensors":
            data = path.read_bytes()
        elif path is not None:
            data = files.read(student_artefact(path, settings.data_dir, files, say).sha256)
        else:
            data = files.read(base_artefact(settings, files, say).sha256)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    provider: Provider = "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"
    try:
        return open_graph(data, provider=provider, threads=torch.get_num_threads())
    except ModelError as error:
        raise ModelError(f"{path or 'the student of the settings'}: {error}") from None


def _teacher(settings: CloudSettings, classes: tuple[str, ...], wanted: tuple[str, ...]) -> Remembered:
    """Return the teacher of the settings as one that says `classes`, those `wanted` in any case, and remembers it."""
    interest = settings.round.model_copy(update={"interest": wanted})
    teacher = load_teachers(settings.model_copy(update={"round": interest})).saying(classes)
    decided = identity(settings.teacher) | {"classes": classes, "given": sayings(settings, classes)[0]}
    digest = hashlib.sha256(msgspec.json.encode(decided, order="sorted")).hexdigest()[:20]
    file = settings.data_dir / f"teacher-{digest}.jsonl"
    return Remembered(teacher.label, file, "teacher", BLOCKS * settings.teacher.batch)


def _sight(asked: Asked, settings: CloudSettings, footage: Footage, graph: Graph, teacher: Remembered) -> Sight:
    question, classes = asked.question, graph.info.classes
    size = input_size(*footage.size, asked.scale, settings.student.long_side)
    there = _there(asked.place, footage)

    def answer(seen: Detections) -> bool:
        return question.answer(there(seen.above(settings.teacher.true_score)), classes)

    return Sight(
        footage,
        lambda picture: see(graph, picture, size),
        lambda seen: question.score(there(seen), classes),
        teacher,
        answer,
    )


def _there(place: Place | None, footage: Footage) -> Callable[[Detections], Detections]:
    """Return what leaves of detections those that count."""
    if place is None:
        return lambda seen: seen
    return lambda seen: place.only(seen, *footage.size)


def _sheet(
    asked: Asked, settings: CloudSettings, told: Found, teacher: Remembered, classes: tuple[str, ...]
) -> bytes | None:
    """Return the middles of the longest intervals with the teacher's boxes of the classes asked about."""
    wanted = [classes.index(name) for name in asked.question.names]

    def shown(number: int, picture: Picture) -> Shown:
        [seen] = teacher.label([picture])
        sure = seen.above(settings.teacher.true_score)
        return Shown(number, picture, sure.where(np.isin(sure.labels, wanted)))

    pictures = [shown(*one) for one in read_frames(asked.video, middles(told))] if told.intervals else []
    return contact_sheet(pictures, classes) if pictures else None
