"""How good a model is on a labelled video: VOC07 11-point as the paper has it, and COCO's AP50 and AP50:95.

    culling evaluate --model student.onnx --video campus.avi --labels reference.jsonl --json

Labels from a given score on are true, those between `DOUBTFUL` and it are ignored, the rest do not exist. Means are
over the classes that have a true label. VOC07 is the paper's interpolation over strictly matched boxes, without what
the paper's code adds: it counts duplicates as right and looks at the first boxes only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from statistics import mean

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from culling.cloud.annotations.lines import Label, read_labels
from culling.cloud.evaluation.matching import ClassPrecision, Compared, class_precision, compare
from culling.cloud.model.export import run_torch
from culling.cloud.model.family import family_of
from culling.cloud.model.weights import load_weights
from culling.cloud.teacher.bundled import MOST_ENLARGED, SHORT_SIDE, Bundled
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError, ModelError
from culling.common.frame import Detections
from culling.common.graph import Graph, has_cuda, open_graph, to_frame
from culling.common.scaler import LONG_SIDE, input_size, resize
from culling.common.video import count_frames, read_frames

DOUBTFUL = 0.1
"""Labels from this score on may be objects: a detection there is neither right nor wrong."""

Frame = NDArray[np.uint8]
Detect = Callable[[Frame], Detections]


class EvaluationResult(msgspec.Struct, frozen=True):
    """Mean average precisions in [0, 1], the same for each class that occurs, and the number of frames."""

    ap50: float
    ap50_95: float
    voc07: float
    per_class: dict[str, ClassPrecision]
    frames: int


def evaluate(
    model: Path,
    video: Path,
    labels: Path,
    first: float = 0.0,
    last: float = 1.0,
    scale: float = 1.0,
    min_score: float = 0.4,
) -> EvaluationResult:
    """Return how good `model` (ONNX or safetensors) is on the labelled frames of `video` between two fractions of it.

    Raises `ModelError`, `CameraError` or `InputError` for a model, video or labels that cannot be used.
    """
    return evaluate_detector(*open_model(model, scale), video, labels, first, last, min_score)


def evaluate_detector(
    detect: Detect,
    classes: tuple[str, ...],
    video: Path,
    labels: Path,
    first: float = 0.0,
    last: float = 1.0,
    min_score: float = 0.4,
) -> EvaluationResult:
    """Return how good `detect`, which finds `classes`, is on the frames that `evaluate` would choose.

    Raises `CameraError` or `InputError` for a video or labels that cannot be used.
    """
    chosen = select(read_labels(labels, classes), video, count_frames(video), first, last)
    compared = [_compare(detect(frame), label, frame, min_score) for label, frame in frames_of(video, chosen)]
    return score(compared, classes)


def score(
    frames: Sequence[Compared], classes: Sequence[str] = CLASSES, interest: Collection[int] | None = None
) -> EvaluationResult:
    """Return the precisions over `frames`, of the classes of `interest` (indices) if given.

    Raises `InputError` if no frame has anything of them that is true.
    """
    wanted = range(len(classes)) if interest is None else interest
    results = {name: class_precision(frames, label) for label, name in enumerate(classes) if label in wanted}
    present = {name: result for name, result in results.items() if result is not None}
    if not present:
        raise InputError(f"none of the {len(frames)} labelled frames has an object to measure by")
    return EvaluationResult(
        ap50=mean(result.ap50 for result in present.values()),
        ap50_95=mean(result.ap50_95 for result in present.values()),
        voc07=mean(result.voc07 for result in present.values()),
        per_class=present,
        frames=len(frames),
    )


def open_model(path: Path, scale: float = 1.0, long_side: int = LONG_SIDE) -> tuple[Detect, tuple[str, ...]]:
    """Return the detector of full frames that the model in `path` makes, and its classes.

    Its usual input size is multiplied by `scale`: a student's as at the edge, a teacher's as in a round. Raises
    `ModelError` if the file cannot be used.
    """
    if path.suffix == ".safetensors":
        model, classes = load_weights(path)
        if family_of(model).student(model):
            return student(model, scale, long_side), classes
        teacher = Bundled(model, round(SHORT_SIDE * scale), most=MOST_ENLARGED * scale)
        return lambda frame: teacher.label([frame])[0], classes
    try:
        graph = open_graph(path.read_bytes(), provider="cuda" if torch.cuda.is_available() and has_cuda() else "cpu")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return student(graph, scale, long_side), graph.info.classes


def student(model: Graph | nn.Module, scale: float = 1.0, long_side: int = LONG_SIDE) -> Detect:
    """Return the detector of full frames that a student makes, scaled as at the edge; boxes in the frame's pixels."""

    def detect(frame: Frame) -> Detections:
        height, width = frame.shape[:2]
        size = input_size(width, height, scale, long_side)
        batch = resize(frame, *size)[None]
        found = model.run(batch) if isinstance(model, Graph) else run_torch(model, batch)
        return to_frame(found[0], size, (height, width))

    return detect


def select(
    labels: Sequence[Label], video: Path, length: int, first: float = 0.0, last: float = 1.0
) -> dict[int, Label]:
    """Return the labels of `video` by frame, from fraction `first` of its `length` frames up to `last`.

    A label belongs to the video whose name, without folder and suffix, its source has; if the labels are all of one
    source, that is the video. Raises `InputError` if none is left, or if two sources of that name label one frame.
    """
    file = labels[0].at.rpartition(":")[0]
    sources = {Path(label.source).stem for label in labels}
    own = [label for label in labels if len(sources) == 1 or Path(label.source).stem == video.stem]
    if not own:
        raise InputError(f"{file}: labels {len(sources)} sources, none of them {video.stem}")
    start, end = round(first * length), round(last * length) if last < 1 else math.inf
    chosen: dict[int, Label] = {}
    for label in own:
        if start <= label.frame < end and (other := chosen.setdefault(label.frame, label)) is not label:
            raise InputError(
                f"{label.at}: frame {label.frame} is labelled for {label.source} here and for {other.source} at "
                f"{other.at}: which of them is {video}?"
            )
    if not chosen:
        raise InputError(f"{file}: no labelled frame lies between {first} and {last} of {video}")
    return chosen


def frames_of(video: Path, labels: dict[int, Label]) -> Iterator[tuple[Label, Frame]]:
    """Yield each labelled frame of `video`, in order, with its label; a damaged one is left out, and that is logged.

    Raises `CameraError` if it is no video, `InputError` if it ends before its labels do.
    """
    left = dict(labels)
    for number, frame in read_frames(video, labels, lose=left.pop):
        yield left.pop(number), frame
    if left:
        raise InputError(f"{left[min(left)].at}: {video} has no frame {min(left)}")


def _compare(found: Detections, label: Label, frame: Frame, min_score: float) -> Compared:
    truth = to_frame(label.detections, (label.height, label.width), (frame.shape[0], frame.shape[1]))
    return compare(found, truth, min_score, DOUBTFUL)
