"""What several students did on labelled frames, frame by frame: what `culling bench gate` draws its pairs from.

Of a clip they are the bundled student at several sizes of its input. Of a camera of a service they are the student in
use, likewise, and the others whose files are still kept, on the held-out frames that the teacher labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.cloud.annotations.lines import read_labels
from culling.cloud.bench.material import Picture, choose_provider, read_pictures
from culling.cloud.evaluation.doubt import settled
from culling.cloud.evaluation.evaluate import Detect, frames_of, select, student
from culling.cloud.evaluation.matching import compare
from culling.cloud.evaluation.tally import Tally, tally
from culling.cloud.model.weights import load_bundled
from culling.cloud.settings import CloudSettings, TeacherSettings
from culling.cloud.store.frames import JUDGES, FrameStore, StoredFrame
from culling.cloud.store.index import Index, frames
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.registry import Artefact, ModelFiles, Registry
from culling.cloud.teacher.bundled import Bundled
from culling.cloud.weights.classes import CLASSES
from culling.common.atomic import write_atomic
from culling.common.clock import SystemClock
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.graph import open_graph, see, to_frame
from culling.common.progress import shown
from culling.common.scaler import input_size
from culling.common.video import count_frames
from culling.common.wire.codec import decode_jpeg

SCALES = (1.0, 0.8, 0.65, 0.5, 0.35)
"""The sizes of its input, of its own, at which a student stands for five, from good to poor."""

MOST = 8
"""Students of a recording: the one in use at each of those sizes, and the newest others."""

LEAST = 40
"""Frames to draw from; of fewer most trials would be the same."""


class Boxes(msgspec.Struct):
    scores: list[float]
    hits: list[bool]


class Seen(msgspec.Struct):
    objects: list[int]
    students: list[list[Boxes]]


class Recording(msgspec.Struct):
    """What each of S students did on each of F frames, in their order in time: `frames[f][s]` is a tally."""

    source: str
    students: list[str]
    frames: list[Seen]

    def tallies(self) -> list[list[Tally]]:
        """Return the tally of each student on each frame, `[F][S]`."""
        return [[_tally(frame.objects, rows) for rows in frame.students] for frame in self.frames]


def kept(path: Path | None, make: Callable[[], Recording]) -> Recording:
    """Return the recording in a file, or that which `make` makes, kept there. Raises InputError for another file."""
    if path is not None and path.exists():
        try:
            return msgspec.json.decode(path.read_bytes(), type=Recording)
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}): remove it to record again") from None
    made = make()
    if path is not None:
        write_atomic(path, msgspec.json.encode(made))
    return made


def of_clip(video: Path, labels: Path | None, count: int) -> Recording:
    """Return what the bundled student does at every scale on labelled frames of a video."""
    model, _ = load_bundled("student")
    looks = {f"the bundled student at scale {scale:g}": student(model.eval(), scale) for scale in SCALES}
    return _record(video.name, looks, _labelled(video, labels, count), count, TeacherSettings())


def of_camera(settings: CloudSettings, camera: str, count: int) -> Recording:
    """Return what a camera's students do on the newest `count` held-out frames that the teacher labelled.

    Raises InputError for a camera without a model, or with too few such frames.
    """
    index, clock = Index(settings.store_url), SystemClock()
    store = FrameStore(index, settings.data_dir / "frames", clock)
    models, files = Registry(index).models(camera), ModelFiles(settings.data_dir / "models")
    live = next((model.artefact for model in models if model.state == "live"), None)
    if live is None:
        raise InputError(f"camera {camera} has no model in use: see `culling cloud status`")
    judging = JUDGES & frames.c.labels.is_not(None)
    judges = store.select(camera, judging, frames.c.captured.desc(), count)[::-1]
    if len(judges) < LEAST:
        raise InputError(f"camera {camera} has {len(judges)} labelled held-out frames, {LEAST} are needed: wait")
    looks = {f"{camera}'s student at scale {live.scale * scale:.2g}": _look(files, live, scale) for scale in SCALES}
    for model in models:
        if model.artefact.sha256 != live.sha256 and files.keeps(model.artefact.sha256) and len(looks) < MOST:
            looks[model.model_id] = _look(files, model.artefact, 1.0)
    pictures = _stored(store, FrameLifecycle(index, store, clock), settings.teacher, judges)
    return _record(camera, looks, pictures, len(judges), settings.teacher)


def _record(
    source: str,
    looks: dict[str, Detect],
    pictures: Iterator[tuple[Picture, Detections]],
    count: int,
    floors: TeacherSettings,
) -> Recording:
    found = []
    with shown("gate", "frame", count) as show:
        for picture, truth in pictures:
            rows = [
                tally(compare(look(picture), truth, floors.true_score, floors.min_score), len(CLASSES))
                for look in looks.values()
            ]
            found.append(Seen(list(rows[0].objects), [_rows(row) for row in rows]))
            show(len(found), "")
    return Recording(source, list(looks), found)


def _look(files: ModelFiles, artefact: Artefact, scale: float) -> Detect:
    graph = open_graph(files.read(artefact.sha256), provider=choose_provider())

    def look(picture: Picture) -> Detections:
        height, width = picture.shape[:2]
        return see(graph, picture, input_size(width, height, artefact.scale * scale, artefact.long_side))

    return look


def _stored(
    store: FrameStore, lifecycle: FrameLifecycle, teacher: TeacherSettings, judges: Sequence[StoredFrame]
) -> Iterator[tuple[Picture, Detections]]:
    """Yield the pictures that can be read, with labels as a round reads them: what others speak against is doubtful."""
    told = lifecycle.labelled(judges[0].camera)
    places = {name: at for at, (name, _, _) in enumerate(told)}
    asked = [places[frame.id] for frame in judges if frame.id in places]
    labels = settled([at for _, at, _ in told], [each for _, _, each in told], asked, teacher.true_score)
    for frame in judges:
        if frame.id in places and (jpeg := store.jpeg(frame)) is not None:
            yield decode_jpeg(jpeg), labels[places[frame.id]]


def _labelled(video: Path, labels: Path | None, count: int) -> Iterator[tuple[Picture, Detections]]:
    """Yield frames of a video in their order, with labels: those of a file, or else the bundled ResNet-101's."""
    if labels is None:
        teacher = Bundled(load_bundled("teacher")[0])
        yield from ((picture, teacher.label([picture])[0]) for picture in read_pictures(video, count))
        return
    chosen = select(read_labels(labels), video, count_frames(video))
    kept = dict(sorted(chosen.items())[:: max(1, len(chosen) // count)])
    for label, picture in frames_of(video, kept):
        yield picture, to_frame(label.detections, (label.height, label.width), (picture.shape[0], picture.shape[1]))


def _rows(tally: Tally) -> list[Boxes]:
    return [
        Boxes([round(float(score), 5) for score in scores], hits.tolist())
        for scores, hits in zip(tally.scores, tally.hits, strict=True)
    ]


def _tally(objects: Sequence[int], rows: Sequence[Boxes]) -> Tally:
    scores: list[NDArray[np.float32]] = [np.array(row.scores, np.float32) for row in rows]
    return Tally(tuple(objects), tuple(scores), tuple(np.array(row.hits, np.bool_) for row in rows))
