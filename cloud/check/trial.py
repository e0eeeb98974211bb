"""What a teacher is worth on a video, before it labels anything: its boxes on ten frames, its speed, cost and AP."""

from __future__ import annotations

import resource
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import torch

from culling.cloud.annotations.lines import Label, read_labels
from culling.cloud.evaluation.evaluate import DOUBTFUL, frames_of, score, select
from culling.cloud.evaluation.matching import Compared, compare
from culling.cloud.settings import TeacherSettings
from culling.cloud.teacher.classes import translation
from culling.cloud.teacher.interface import Picture, Teacher
from culling.cloud.teacher.loading import as_ours, open_named
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import CameraError
from culling.common.frame import Detections
from culling.common.graph import to_frame
from culling.common.video import count_frames, read_frames

SHOWN = 10
"""Frames on the contact sheet."""

MEASURED = 60
"""Labelled frames by which AP is measured at most: at a second a frame, a minute."""

MIB = 1 << 20


class Precision(msgspec.Struct, frozen=True):
    """AP50 and AP50:95 of one class in [0, 1], and how many labels it has."""

    ap50: float
    ap50_95: float
    objects: int


class Trial(msgspec.Struct, frozen=True):
    """What a teacher did. `says` has the teacher's names for each of our classes, `memory_mib` the process's peak."""

    kind: str
    device: str
    names: int
    says: dict[str, list[str]]
    frames: int
    size: tuple[int, int]
    ms: float
    gflops: float | None
    memory_mib: int
    gpu_memory_mib: int | None
    boxes: dict[str, int]
    precision: dict[str, Precision]


@dataclass(frozen=True)
class Shown:
    """One frame of the contact sheet, with what the teacher is sure of there."""

    number: int
    picture: Picture
    found: Detections


def try_out(
    settings: TeacherSettings,
    video: Path,
    labels: Path | None,
    interest: Collection[str] = (),
    classes: tuple[str, ...] = CLASSES,
) -> tuple[Trial, list[Shown]]:
    """Return what the teacher of `settings` does on `video`, and the frames to show.

    It must have a name for each class of `interest` (empty: for all). Raises what `load_teacher` raises, `CameraError`
    for a video and `InputError` for labels that cannot be used.
    """
    own = open_named(settings, classes)
    teacher = as_ours(own, settings, classes, interest)
    length = count_frames(video)
    chosen = _labelled(labels, classes, video, length) if labels else {}
    numbers = {length * number // SHOWN for number in range(SHOWN)}
    seconds: list[float] = []
    shown = [Shown(number, frame, _see(teacher, frame, seconds)) for number, frame in read_frames(video, numbers)]
    if not shown:
        raise CameraError(f"{video}: no frame of it can be decoded; give another video")
    compared = [_compare(teacher, label, frame, settings, seconds) for label, frame in frames_of(video, chosen)]
    height, width = shown[0].picture.shape[:2]
    found = [one.found.above(settings.true_score) for one in shown]
    counts = {name: sum(int((one.labels == label).sum()) for one in found) for label, name in enumerate(classes)}
    trial = Trial(
        kind=settings.kind,
        device=teacher.device,
        names=len(own.names),
        says=_says(own, settings, classes, interest),
        frames=len(seconds),
        size=(width, height),
        ms=1000 * median(seconds[1:] or seconds),
        gflops=teacher.gflops(height, width),
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB,
        gpu_memory_mib=torch.cuda.max_memory_allocated() // MIB if torch.cuda.is_available() else None,
        boxes={name: count for name, count in counts.items() if count},
        precision=_precision(compared, classes),
    )
    return trial, [Shown(one.number, one.picture, sure) for one, sure in zip(shown, found, strict=True)]


def _labelled(labels: Path, classes: tuple[str, ...], video: Path, length: int) -> dict[int, Label]:
    """Return at most `MEASURED` labels of the video, evenly spaced."""
    chosen = sorted(select(read_labels(labels, classes), video, length).items())
    step = -(-len(chosen) // MEASURED)
    return dict(chosen[::step])


def _see(teacher: Teacher, frame: Picture, seconds: list[float]) -> Detections:
    started = time.perf_counter()
    [found] = teacher.label([frame])
    seconds.append(time.perf_counter() - started)
    return found


def _compare(
    teacher: Teacher, label: Label, frame: Picture, settings: TeacherSettings, seconds: list[float]
) -> Compared:
    truth = to_frame(label.detections, (label.height, label.width), (frame.shape[0], frame.shape[1]))
    return compare(_see(teacher, frame, seconds), truth, settings.true_score, DOUBTFUL)


def _precision(compared: Sequence[Compared], classes: Sequence[str]) -> dict[str, Precision]:
    if not compared:
        return {}
    result = score(compared, classes)
    return {name: Precision(one.ap50, one.ap50_95, one.objects) for name, one in result.per_class.items()}


def _says(
    own: Teacher, settings: TeacherSettings, classes: tuple[str, ...], interest: Collection[str]
) -> dict[str, list[str]]:
    """Return which of the teacher's names mean each class."""
    names, table = own.names, translation(own.names, classes, settings.map, interest or classes)
    return {
        ours: [name for name, meant in zip(names, table, strict=True) if meant == label]
        for label, ours in enumerate(classes)
    }
