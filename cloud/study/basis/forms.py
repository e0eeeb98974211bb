"""The graphs of a trained student, in floats and in 8 bits, and their scores: each is made and measured only once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from culling.cloud.model.base import templates
from culling.cloud.model.quantise import CALIBRATED, quantise
from culling.cloud.model.refit import export_proven
from culling.cloud.model.weights import load_weights
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.training import Scores, TrainedStudent
from culling.common.atomic import write_atomic
from culling.common.scaler import resize

Form = Literal["fp32", "int8"]
FORMS: tuple[Form, Form] = ("fp32", "int8")


def graph_of(corpus: Corpus, student: TrainedStudent | None, form: Form, frames: Sequence[int]) -> Path:
    """Return the file of a student (None: the base one) as a graph; 8 bits have the ranges of those `frames`."""
    weights = corpus.memo.folder / student.weights if student else corpus.base
    decided: dict[str, Any] = {"weights": weights.name, "form": form}
    if form == "int8":
        frames = frames[:CALIBRATED]
        numbers = [corpus.shots[index].number for index in frames]
        decided |= {"clip": corpus.clip, "frames": numbers, "size": corpus.size(corpus.scale)}
    path = corpus.memo.path("graph", decided, "onnx")
    if not path.exists():
        floats = form == "fp32"
        write_atomic(path, _floats(corpus, weights) if floats else _bytes(corpus, student, frames))
    return path


def _floats(corpus: Corpus, weights: Path) -> bytes:
    if weights == corpus.base:
        return corpus.files.read(corpus.artefact.sha256)
    model, classes = load_weights(weights)
    known = chain([corpus.files.read(corpus.artefact.sha256)], templates(corpus.settings.data_dir, corpus.files))
    long_side = corpus.settings.student.long_side
    return export_proven(known, model, classes, [corpus.picture(0)], long_side=long_side)[0]


def _bytes(corpus: Corpus, student: TrainedStudent | None, frames: Sequence[int]) -> bytes:
    size = corpus.size(corpus.scale)
    floats = graph_of(corpus, student, "fp32", frames).read_bytes()
    return quantise(floats, [resize(corpus.picture(index), *size) for index in frames])


def scores_of(corpus: Corpus, graph: Path) -> Scores:
    """Return how good a graph is at the full size of the study."""
    decided = corpus.identity | corpus.truth | {"graph": sha256(graph.read_bytes()).hexdigest(), "at": corpus.scale}

    def measure() -> Scores:
        found = corpus.held_out.score(graph, corpus.scale, corpus.settings.student.long_side)
        return Scores(found.teacher, found.labels)

    return corpus.memo.once("scores", decided, Scores, measure)
