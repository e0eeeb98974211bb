"""The stages of a round, in the order its frames travel: what each one reads, does, and leaves behind.

    label       the teacher's word on the frames worth most, and on the held-out ones
    cull        the frames that the student in use got most wrong, and some of earlier rounds
    learn       a ranker for the edge, from how wrong the student was on every labelled frame so far, if it is proven
    resolution  the smallest input whose confidence loss stays close to that of the full one
    train       from the weights in use, on the culled set
    export      as one ONNX graph, proven equal to what was trained, in 8 bits if wanted
    gate        both students on the held-out frames: only a better one is published

A stage takes the results of those before it and returns its own as JSON; frames and weights stay on disk.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torchvision.models.detection import FasterRCNN

from culling.cloud.evaluation.evaluate import EvaluationResult, score
from culling.cloud.evaluation.matching import Compared, compare
from culling.cloud.evaluation.precision import STUDENT_FLOOR, Hardness, cull, hardness
from culling.cloud.model.dataset import Sample
from culling.cloud.model.detector import freeze
from culling.cloud.model.golden import golden_frame
from culling.cloud.model.quantise import CALIBRATED, quantise
from culling.cloud.model.refit import export_proven
from culling.cloud.model.teacher import Teacher, load_teacher
from culling.cloud.model.train import Run
from culling.cloud.model.weights import load_weights, save_weights
from culling.cloud.round.ranking import learn
from culling.cloud.round.resolution import opt_resolution
from culling.cloud.round.retrain import canvases, retrain, round_batches, round_recipe
from culling.cloud.settings import CloudSettings, TeacherSettings
from culling.cloud.store.frames import FrameStore, StoredFrame
from culling.cloud.store.registry import Artefact, Model, ModelFiles, Registry
from culling.cloud.store.rounds import Round
from culling.common.errors import InputError, ProtocolError
from culling.common.frame import Detections
from culling.common.graph import Graph, Provider, open_graph, see
from culling.common.scaler import input_size, resize
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.selection.features import FEATURES, read
from culling.common.selection.ranker import Ranker
from culling.common.wire.codec import decode_jpeg

Result = dict[str, Any]
Results = dict[str, Result]

PARITY_FRAMES = 2
MOST_LESSONS = 4096
CURVE_POINTS = 80
MISSED = 0.5
"""An audit frame at least so hard is one that the filter should have forwarded for its loss."""


class RefusedError(Exception):
    """The round ends without a model, for a reason that is nobody's fault."""


class StoppedError(Exception):
    """The round was told to stop, and goes on where it was when it is started again."""


@dataclass(frozen=True)
class Bench:
    """What every stage works with; `folder` is the round's own, `stopping` turns true when it shall stop."""

    settings: CloudSettings
    store: FrameStore
    files: ModelFiles
    registry: Registry
    folder: Path
    stopping: Callable[[], bool]

    def incumbent(self, camera: str) -> Model:
        """Return the camera's live model. Raises RefusedError when it has none."""
        if (model := self.registry.live().get(camera)) is None:
            raise RefusedError(f"camera {camera} has no model to start from: enrol it")
        return model

    def pictures(self, frames: Sequence[StoredFrame]) -> Iterator[tuple[StoredFrame, bytes]]:
        """Yield the frames whose picture is still what was stored, with it."""
        for frame in frames:
            if self.stopping():
                raise StoppedError
            if (jpeg := self.store.jpeg(frame)) is not None:
                yield frame, jpeg


def label(bench: Bench, turn: Round, _: Results) -> Result:
    """Have the teacher label what the round may train on and what it is judged by; each batch is kept at once."""
    settings = bench.settings.round
    claimed = bench.store.claim(turn.camera, turn.id)
    chosen = bench.store.candidates(turn.camera, turn.id, settings.factor * settings.kept, _worth(bench, turn.camera))
    held_out = bench.store.held_out(turn.camera, settings.held_out)
    if chosen and len(held_out) < bench.settings.gate.least:
        bench.store.unclaim(turn.camera, turn.id)
        raise RefusedError(_too_few(bench, held_out))
    missing = [frame for frame in chosen + held_out if frame.labels is None]
    teacher = load_teacher(bench.settings) if missing else None
    size = bench.settings.teacher.batch * 2
    for start in range(0, len(missing), size):
        assert teacher is not None
        _label(bench, teacher, missing[start : start + size])
    labelled = bench.store.get([frame.id for frame in chosen])
    if not labelled:
        raise RefusedError("no frame to learn from: none came since the last round")
    return {
        "claimed": claimed,
        "labelled": len(missing),
        "candidates": [frame.id for frame in labelled],
        "held_out": [frame.id for frame in _judges(bench, [frame.id for frame in held_out])],
    }


def _worth(bench: Bench, camera: str) -> Callable[[StoredFrame], float] | None:
    """Return what the ranker in use says of a frame, 0 where it cannot read it; None where there is no ranker."""
    live = bench.registry.live().get(camera)
    ranker = live.artefact.ranker if live else None
    if ranker is None or not ranker.known:
        return None

    def worth(frame: StoredFrame) -> float:
        values = read(frame.features)
        return 0.0 if values is None else float(ranker.predict(values))

    return worth


def _judges(bench: Bench, names: Sequence[str]) -> list[StoredFrame]:
    """Return the labelled ones of the held-out frames. Raises RefusedError when they are too few for the gate."""
    frames = [frame for frame in bench.store.get(names) if frame.labels is not None]
    if len(frames) < bench.settings.gate.least:
        raise RefusedError(_too_few(bench, frames))
    return frames


def _too_few(bench: Bench, held_out: Sequence[StoredFrame]) -> str:
    return f"{len(held_out)} held-out frames to judge by, {bench.settings.gate.least} are needed"


def _label(bench: Bench, teacher: Teacher, frames: Sequence[StoredFrame]) -> None:
    names, images = [], []
    for frame, jpeg in bench.pictures(frames):
        try:
            images.append(decode_jpeg(jpeg))
            names.append(frame.id)
        except ProtocolError:  # its header was fine, its pixels are not
            bench.store.put_aside(frame)
    floor = bench.settings.teacher.min_score
    found = [seen.above(floor) for seen in teacher.label(images)]
    bench.store.label(dict(zip(names, found, strict=True)))


def cull_frames(bench: Bench, turn: Round, results: Results) -> Result:
    """Keep the n frames on which the student that forwarded them was most wrong, and replay some of earlier rounds."""
    settings = bench.settings.round
    frames = [frame for frame in bench.store.get(results["label"]["candidates"]) if frame.labels is not None]
    values = [_hardness(bench, frame) for frame in frames]
    chosen = cull(values, settings.kept)
    if not chosen:
        raise RefusedError("no frame to learn from: none of the pictures could be used")
    kept = [frames[index].id for index in chosen]
    replay_count = int(len(kept) * settings.replay_share / (1 - settings.replay_share))
    bench.store.keep(kept, turn.id)  # first: a round that failed may have kept some of these before
    replay = bench.store.culled(turn.camera, turn.id, replay_count)
    return {
        "kept": kept,
        "replay": [frame.id for frame in replay],
        "hard_negatives": sum(values[index].kind == "hard-negative" for index in chosen),
        "hardness": round(float(np.mean([values[index].value for index in chosen])), 4),
        **_audits(frames, values),
        "newest_capture": max(frames[index].captured for index in chosen),
    }


def _audits(frames: Sequence[StoredFrame], values: Sequence[Hardness]) -> Result:
    """Return how many of the frames were drawn at random, and how many of those were hard all the same."""
    drawn = [value for frame, value in zip(frames, values, strict=True) if frame.reason == "audit"]
    return {"audits_labelled": len(drawn), "audits_missed": sum(value.value >= MISSED for value in drawn)}


def learn_ranker(bench: Bench, turn: Round, _: Results) -> Result:
    """Learn from every labelled frame that has features; the ranker goes with the model if it is proven."""
    told = [(frame, read(frame.features)) for frame in bench.store.lessons(turn.camera, MOST_LESSONS)]
    pairs = [(frame, values) for frame, values in told if values is not None]
    lesson = learn(
        np.array([values for _, values in pairs]).reshape(-1, len(FEATURES)),
        np.array([_hardness(bench, frame).value for frame, _ in pairs]),
        np.array([frame.loss for frame, _ in pairs]),
        np.array([frame.reason == "audit" for frame, _ in pairs], np.bool_),
    )
    return {**msgspec.to_builtins(lesson), "proven": lesson.ranker is not None}


def resolution(bench: Bench, turn: Round, results: Results) -> Result:
    """Find the scale from the losses of the student in use on the culled set."""
    settings = bench.settings.resolution
    frames = bench.store.get(results["cull"]["kept"])
    graph = _graph(bench, bench.incumbent(turn.camera).artefact.sha256)
    meter = LossMeter(POLICIES[settings.policy], len(graph.info.classes), bench.settings.round.labels_of_interest)

    def losses(size: tuple[int, int]) -> list[float]:
        return [meter.loss(see(graph, decode_jpeg(jpeg), size)) for _, jpeg in bench.pictures(frames)]

    curve = opt_resolution(
        losses,
        lambda scale: input_size(*_frame_size(frames), scale, bench.settings.student.long_side),
        settings.threshold,
        max_steps=settings.max_steps,
        min_scale=settings.min_scale,
    )
    return {"scale": curve.chosen.scale, "size": curve.chosen.size, "curve": [asdict(point) for point in curve.points]}


def train_student(bench: Bench, turn: Round, results: Results) -> Result:
    """Train from the newest weights of the camera; a run that was cut short goes on from its own checkpoint."""
    settings = bench.settings.round
    frames = bench.store.get(results["cull"]["kept"] + results["cull"]["replay"])
    samples = [
        Sample(jpeg, frame.width, frame.height, _labels(frame), frame.id) for frame, jpeg in bench.pictures(frames)
    ]
    sizes = canvases(_frame_size(frames), results["resolution"]["scale"], bench.settings.student.long_side)
    batches = round_batches(bench.settings, samples, sizes, settings.seed + turn.id)
    recipe = round_recipe(settings, len(samples), settings.seed)
    started = time.monotonic()
    checkpoint = bench.folder / "train.checkpoint"
    model, run = retrain(lambda: _warm_start(bench, turn.camera), batches, recipe, checkpoint, bench.stopping)
    if run.step < recipe.steps:
        raise StoppedError
    train_s = round(time.monotonic() - started, 1)
    path = bench.folder / "candidate.safetensors"
    save_weights(path, model, "fp16")
    return {
        "steps": recipe.steps,
        "train_s": train_s,
        "losses": _curve(run),
        "weights": bench.files.add(path.read_bytes(), "safetensors"),
    }


def _curve(run: Run) -> list[tuple[int, float]]:
    """Return the training curve as at most `CURVE_POINTS` (step, mean loss since the point before)."""
    sums = [sum(losses.values()) for losses in run.losses]
    stride = max(1, math.ceil(len(sums) / CURVE_POINTS))
    parts = [sums[start : start + stride] for start in range(0, len(sums), stride)]
    return [(index * stride + len(part), round(sum(part) / len(part), 4)) for index, part in enumerate(parts)]


def _warm_start(bench: Bench, camera: str) -> FasterRCNN:
    for known in bench.registry.models(camera):
        if (weights := known.artefact.weights) is not None and known.state in ("live", "previous", "retired"):
            path = bench.files.path(weights, "safetensors")
            if path.exists():
                bench.files.read(weights, "safetensors")
                model = load_weights(path)[0]
                freeze(model, bench.settings.round.frozen)
                return model
    raise RefusedError(f"no weights to start from: camera {camera} only ever had ONNX models")


def export(bench: Bench, turn: Round, results: Results) -> Result:
    """Make the graph, prove it equal to what was trained on the busiest held-out frames, and note what it finds.

    One in 8 bits is made of a graph that was proven; how good that one is, the gate tells.
    """
    weights = results["train"]["weights"]
    model, classes = load_weights(bench.files.path(weights, "safetensors"))
    base = bench.registry.models(turn.camera)[-1]
    frames = bench.store.get(results["label"]["held_out"] or results["cull"]["kept"])
    busiest = sorted(frames, key=lambda frame: -len(_labels(frame).above(bench.settings.teacher.true_score)))
    images = [decode_jpeg(jpeg) for _, jpeg in bench.pictures(busiest[:PARITY_FRAMES])]
    data, parity = export_proven(bench.files.read(base.artefact.sha256), model, classes, images)
    scale, long_side = results["resolution"]["scale"], bench.settings.student.long_side
    if bench.settings.student.int8:
        kept = bench.store.get(results["cull"]["kept"][:CALIBRATED])
        size = input_size(*_frame_size(kept), scale, long_side)
        data = quantise(data, [resize(decode_jpeg(jpeg), *size) for _, jpeg in bench.pictures(kept)])
    graph = open_graph(data, provider="cpu")
    artefact = Artefact(
        sha256=bench.files.add(data, "onnx"),
        size=len(data),
        weights=weights,
        scale=scale,
        long_side=long_side,
        classes=classes,
        parent=bench.incumbent(turn.camera).model_id,
        golden=tuple(golden_frame(graph, image, scale, long_side) for image in images[:1]),
        ranker=msgspec.convert(results["learn"]["ranker"], Ranker | None),
    )
    return {"artefact": msgspec.to_builtins(artefact), "parity": asdict(parity)}


def gate(bench: Bench, turn: Round, results: Results) -> Result:
    """Compare candidate and incumbent, each at its own scale, with the teacher on the held-out frames."""
    settings = bench.settings.gate
    artefact = msgspec.convert(results["export"]["artefact"], Artefact)
    incumbent = bench.incumbent(turn.camera).artefact
    frames = _judges(bench, results["label"]["held_out"])
    before, after = (_precision(bench, model, frames) for model in (incumbent, artefact))
    result = {
        "frames": len(frames),
        "map_before": round(before.ap50, 4),
        "map_after": round(after.ap50, 4),
        "map_before_50_95": round(before.ap50_95, 4),
        "map_after_50_95": round(after.ap50_95, 4),
        "reason": "",
    }
    if after.ap50 <= before.ap50 + settings.margin:
        found = f"AP50 {after.ap50:.3f} after, {before.ap50:.3f} before, on {len(frames)} held-out frames"
        result["reason"] = f"the candidate is not better by more than {settings.margin:g}: {found}"
    return result


def _precision(bench: Bench, model: Artefact, frames: Sequence[StoredFrame]) -> EvaluationResult:
    graph = _graph(bench, model.sha256)
    compared = []
    for frame, jpeg in bench.pictures(frames):
        size = input_size(frame.width, frame.height, model.scale, model.long_side)
        compared.append(_compared(bench.settings.teacher, frame, see(graph, decode_jpeg(jpeg), size)))
    try:
        return score(compared, model.classes, bench.settings.round.labels_of_interest)
    except InputError as error:
        raise RefusedError(f"the gate cannot judge: {error}") from None


def _graph(bench: Bench, sha256: str) -> Graph:
    provider: Provider = "cuda" if torch.cuda.is_available() else "cpu"
    return open_graph(bench.files.read(sha256), provider=provider, threads=bench.settings.round.threads)


def _compared(settings: TeacherSettings, frame: StoredFrame, found: Detections) -> Compared:
    """Return what a student found on a frame beside what the teacher is sure of there, and what it doubts."""
    return compare(found, _labels(frame), settings.true_score, settings.min_score)


def _hardness(bench: Bench, frame: StoredFrame) -> Hardness:
    """Return how wrong the student that forwarded a frame was on it."""
    compared = _compared(bench.settings.teacher, frame, frame.detections.above(STUDENT_FLOOR))
    return hardness(compared, bench.settings.round.labels_of_interest)


def _labels(frame: StoredFrame) -> Detections:
    assert frame.labels is not None, frame.id
    return frame.labels


def _frame_size(frames: Sequence[StoredFrame]) -> tuple[int, int]:
    """Return the `(width, height)` that most frames have."""
    return Counter((frame.width, frame.height) for frame in frames).most_common(1)[0][0]


STAGES: dict[str, Callable[[Bench, Round, Results], Result]] = {
    "label": label,
    "cull": cull_frames,
    "learn": learn_ranker,
    "resolution": resolution,
    "train": train_student,
    "export": export,
    "gate": gate,
}
