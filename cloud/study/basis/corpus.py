"""One clip as a study uses it: frames to learn from, with both models' detections, and held-out frames to measure on.

Students learn from the first part of the clip (`FED`), thinned evenly to what is affordable; they are measured on the
rest. The base student runs on the clip's own pictures in onnxruntime, as at the edge; the teacher and training use the
JPEGs that an edge would have forwarded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from culling.cloud.evaluation.holdout import HeldOut, plan
from culling.cloud.evaluation.matching import Compared, compare
from culling.cloud.evaluation.mistakes import Mistakes, mistakes
from culling.cloud.evaluation.precision import STUDENT_FLOOR, Hardness, hardness
from culling.cloud.model.base import base_artefact
from culling.cloud.model.dataset import Sample
from culling.cloud.model.distil.features import unpack
from culling.cloud.model.distil.tutor import Tutor
from culling.cloud.settings import CloudSettings
from culling.cloud.settings.teacher import TeacherSettings
from culling.cloud.store.registry import ModelFiles
from culling.cloud.study.basis.cache import Memo
from culling.cloud.teacher.interface import Teacher
from culling.cloud.teacher.loading import identity, load_teacher, tutor_in
from culling.cloud.teacher.remembered import Remembered, Seen
from culling.cloud.weights.index import file_hash
from culling.common.atomic import write_atomic
from culling.common.errors import CameraError, ModelError, StorageError
from culling.common.graph import Graph, has_cuda, open_graph, see
from culling.common.progress import shown
from culling.common.scaler import input_size, resize
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.selection.selector import THUMBNAIL
from culling.common.video import FED, count_frames, frame_rate, read_frames
from culling.common.wire.codec import decode_jpeg, encode_jpeg

TEACHER_BLOCKS = 2
"""Batches that the teacher labels before they are stored: a kill costs no more than these."""


@dataclass(frozen=True)
class Shot:
    """One frame to learn from: its number in the clip, its time in seconds, and what an edge would keep of it."""

    number: int
    at: float
    jpeg: bytes
    thumbnail: NDArray[np.uint8]


class Corpus:
    """The clip `video` under the cloud's `settings`, whose data folder holds the cache.

    At most `frames` are for learning and `measured` for measuring, besides as many that `labels` has. `scale` is the
    student's full size in this study, at which students are compared, trained and measured. Students are shown each
    frame `epochs` times, so that they differ by what they learnt from alone. Raises CameraError if the clip cannot be
    used, InputError if the labels cannot.
    """

    def __init__(
        self,
        video: Path,
        labels: Path,
        frames: int,
        measured: int,
        scale: float,
        settings: CloudSettings,
        epochs: float = 10.0,
    ) -> None:
        self.video = video
        self.label_file = labels
        self._most = frames, measured
        self.scale = scale
        self.epochs = epochs
        self.settings = settings
        self.memo = Memo(settings.data_dir)
        self.measured = plan(video, FED, measured, labels, classes=settings.default_classes)
        self.clip = file_hash(video)
        self.files = ModelFiles(settings.data_dir / "models")
        self.artefact = base_artefact(settings, self.files)
        assert self.artefact.weights is not None, "an exported base comes from weights"
        if self.artefact.classes != settings.default_classes:
            raise ModelError(
                f"the student of [student] finds {', '.join(self.artefact.classes)}; a study wants one of the default "
                f"set, {', '.join(settings.default_classes)}"
            )
        self.base = self.files.path(self.artefact.weights, "safetensors")
        self.graph: Graph = open_graph(
            self.files.read(self.artefact.sha256),
            provider="cuda" if torch.cuda.is_available() and has_cuda() else "cpu",
            threads=settings.round.threads or torch.get_num_threads(),
        )
        self.shots, self.seen = self._watch(frames)
        self._labels: dict[int, Seen] = {}
        self._hardness: dict[int, Hardness] = {}
        self.identity = {
            "clip": self.clip,
            "student": self.artefact.weights,
            "teacher": self._teacher_identity,
            "interest": settings.round.interest,
            "scale": scale,
            "learnt_from": [shot.number for shot in self.shots],
        }
        self.truth = {"labels": file_hash(labels), "measured": sorted(self.measured.numbers)}

    def beside(self, family: str) -> Corpus:
        """Return the same clip with the bundled student of another family; its labels are not asked for again."""
        student = self.settings.student.model_copy(update={"family": family, "weights": "bundled"})
        settings = self.settings.model_copy(update={"student": student})
        other = Corpus(self.video, self.label_file, *self._most, self.scale, settings, self.epochs)
        other.labeller, other.held_out = self.labeller, self.held_out
        return other

    def taught(self, kind: str) -> Corpus:
        """Return the same clip with a teacher of another kind to learn from; it is measured by the same truth."""
        kept = self.settings.teacher.model_dump(include={"short_side", "batch", "min_score", "true_score"})
        settings = self.settings.model_copy(update={"teacher": TeacherSettings(**kept | {"kind": kind})})
        other = Corpus(self.video, self.label_file, *self._most, self.scale, settings, self.epochs)
        other.held_out = self.held_out
        return other

    def facts(self) -> dict[str, Any]:
        """Return which part of the clip is used, for the JSON file."""
        return {
            "clip": self.video.name,
            "frame_size": f"{self.width}x{self.height}",
            "input_size": "{1}x{0}".format(*self.size(self.scale)),
            "frames_to_learn_from": len(self),
            "frames_measured": len(self.measured.numbers),
            "frames_labelled": len(self.measured.labels),
        }

    def __len__(self) -> int:
        return len(self.shots)

    def size(self, scale: float) -> tuple[int, int]:
        """Return the student's input `(height, width)` at `scale`, 1.0 being full size for a student in use."""
        return input_size(self.width, self.height, scale, self.settings.student.long_side)

    def losses(self, policy: str = "paper") -> NDArray[np.float64]:
        """Return the confidence loss of every frame to learn from, `(N,)`."""
        meter = self.meter(policy)
        return np.array([meter.loss(seen.found) for seen in self.seen])

    @property
    def interest(self) -> list[int] | None:
        """The labels of the classes of interest, None for every class."""
        return self.settings.round.labels_of_interest(self.graph.info.classes)

    def meter(self, policy: str) -> LossMeter:
        """Return a new meter of the student's confidence loss."""
        return LossMeter(POLICIES[policy], len(self.graph.info.classes), self.interest)

    def labels(self, indices: Sequence[int]) -> list[Seen]:
        """Return what the teacher finds in the frames of those indices; it runs only on frames that it has not seen."""
        if new := [index for index in indices if index not in self._labels]:
            pictures = (self.picture(index) for index in new)
            self._labels |= zip(new, self.labeller.see(pictures, len(new)), strict=True)
        return [self._labels[index] for index in indices]

    def hardness(self, indices: Sequence[int]) -> list[Hardness]:
        """Return how wrong the base student is on those frames, compared with the teacher."""
        interest, new = self.interest, [i for i in indices if i not in self._hardness]
        self._hardness |= {i: hardness(frame, interest) for i, frame in zip(new, self._compared(new), strict=True)}
        return [self._hardness[index] for index in indices]

    def mistakes(self, indices: Sequence[int]) -> list[Mistakes]:
        """Return all that the base student gets wrong on those frames, compared with the teacher."""
        return [mistakes(frame, self.interest) for frame in self._compared(indices)]

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Return a frame to learn from as `(H, W, 3)` RGB, as the cloud would receive it."""
        return decode_jpeg(self.shots[index].jpeg)

    def samples(self, indices: Sequence[int]) -> list[Sample]:
        """Return those frames with the teacher's labels, to train on."""
        floor = self.settings.teacher.min_score
        return [
            Sample(
                self.shots[index].jpeg, self.width, self.height, seen.found.above(floor), f"{self.shots[index].number}"
            )
            for index, seen in zip(indices, self.labels(indices), strict=True)
        ]

    def features(self, indices: Sequence[int]) -> list[bytes]:
        """Return the teacher's features of those frames, packed as a round has them; each is computed once.

        Raises StorageError for a file of them that is damaged.
        """
        found, decided = [], {"weights": self.tutor.identity, "short_side": self.settings.teacher.short_side}
        with shown("the teacher's features", "frame", len(indices)) as show:
            for done, index in enumerate(indices, 1):
                path = self.memo.path(
                    "features", {"frame": self.shots[index].number, "clip": self.clip} | decided, "bin"
                )
                if not path.exists():
                    with self.tutor.watched() as seen:
                        self.teacher.label([self.picture(index)])
                    write_atomic(path, seen[0].pack())
                found.append(_whole(path))
                show(done, "")
        return found

    @cached_property
    def tutor(self) -> Tutor:
        """What the teacher offers to students that are distilled from it. Raises ModelError where that is nothing."""
        return tutor_in(self.teacher, self.settings.teacher.kind)

    @cached_property
    def held_out(self) -> HeldOut:
        """The frames to measure on; the teacher labels them at the first use."""
        return HeldOut(self.measured, self.labeller, self.interest)

    def _compared(self, indices: Sequence[int]) -> list[Compared]:
        teacher = self.settings.teacher
        return [
            compare(self.seen[index].found.above(STUDENT_FLOOR), label.found, teacher.true_score, teacher.min_score)
            for index, label in zip(indices, self.labels(indices), strict=True)
        ]

    def _watch(self, frames: int) -> tuple[list[Shot], list[Seen]]:
        """Read the frames to learn from, and run the base student on them."""
        last = round(FED * count_frames(self.video))
        if last < 1:
            raise CameraError(f"{self.video}: too short to learn from")
        numbers = [int(number) for number in np.linspace(0, last - 1, min(frames, last))]
        rate, shots = frame_rate(self.video), []

        def pictures() -> Iterator[NDArray[np.uint8]]:
            for number, rgb in read_frames(self.video, numbers):
                self.height, self.width = rgb.shape[:2]
                thumbnail = resize(rgb, *THUMBNAIL)[..., 1]
                shots.append(Shot(number, number / rate, encode_jpeg(rgb), thumbnail))
                yield rgb

        return shots, self.student.see(pictures(), len(numbers))

    @cached_property
    def student(self) -> Remembered:
        """The base student, which remembers what it found."""
        decided = {
            "clip": self.clip,
            "weights": self.base.stem,
            "scale": self.scale,
            "long_side": self.settings.student.long_side,
        }
        file = self.memo.path("student", decided, "jsonl")
        return Remembered(
            lambda frames: [see(self.graph, frame, self.size(self.scale)) for frame in frames], file, "student", 1
        )

    @cached_property
    def labeller(self) -> Remembered:
        """The teacher, which remembers what it has labelled."""
        file = self.memo.path("teacher", {"clip": self.clip} | self._teacher_identity, "jsonl")
        block = TEACHER_BLOCKS * self.settings.teacher.batch
        return Remembered(lambda frames: self.teacher.label(frames), file, "teacher", block)

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher, loaded at its first use."""
        return load_teacher(self.settings)

    @property
    def _teacher_identity(self) -> dict[str, Any]:
        return identity(self.settings.teacher)


def _whole(path: Path) -> bytes:
    """Return the packed features in a file. Raises StorageError where they are damaged."""
    packed = path.read_bytes()
    try:
        unpack(packed)
    except ValueError as error:
        raise StorageError(f"{path}: {error}; remove it to compute it again") from None
    return packed
