"""Rounds in a test: frames that wait for one, its stages one by one or replaced by quick ones, and what they share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from culling.cloud.bill.rates import Rates
from culling.cloud.changed.kept import Changes
from culling.cloud.labelling.process import build
from culling.cloud.model.base import base_artefact
from culling.cloud.round.context import Context
from culling.cloud.round.process import STAGES, run_round
from culling.cloud.round.progress import ProgressWriter
from culling.cloud.round.rank import Lesson
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.features.features import feature_store
from culling.common.selection.features import FEATURES, SPEC
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import WireFeatures
from support.cloud import CAMERA, CloudState, hard_frame
from support.detectors import picture
from support.narrow import install, narrow_at

EDGE = "e" * 40
ROUND = {
    "kept": 4,
    "most_steps": 2,
    "patience": 2,
    "batch": 2,
    "held_out": 4,
    "checkpoint_s": 0.01,
    "warmup": 1,
    "threads": 1,
}
QUICK = {
    "round": ROUND,
    "teacher": {"kind": "bundled", "short_side": 96, "batch": 2, "min_score": 0.0, "true_score": 0.1},
    "student": {"long_side": 128},
    "resolution": {"choose": "loss", "max_steps": 2, "threshold": 1e9},
    "gate": {"margin": -1.0, "least": 1, "certainty": 0.5, "worse": 1.0, "found": 0.0},
}


def camera_with_student(folder: Path, narrow: Path, **more: dict[str, Any]) -> CloudState:
    """Return a camera with a narrow student and a narrow teacher, and a dozen frames that wait for a round."""
    weights = str(narrow / "student.safetensors")
    sections = {**QUICK, "student": {**QUICK["student"], "weights": weights}, **more}
    sections["teacher"] = {**QUICK["teacher"], "file": weights}
    state = CloudState(folder, **sections)
    install(narrow_at(narrow, state.settings.student.long_side), state.data_dir)
    state.enroll()
    state.publisher.publish(CAMERA, base_artefact(state.settings, state.files), "base")
    add(state, range(1, 13))
    return state


def add(cloud: CloudState, seqs: range, **changes: Any) -> None:
    """Store a frame for each number; those of a camera, boot or reason of their own by `changes`."""
    for seq in seqs:
        frame, jpeg = hard_frame(seq, jpeg=encode_jpeg(picture(96, 128, seq)), width=128, height=96, **changes)
        cloud.frames.add(EDGE, frame, jpeg)


def with_features(cloud: CloudState, seqs: range, values: Callable[[int], float], **changes: Any) -> None:
    """Store frames all of whose features are `values(seq)`."""
    for seq in seqs:
        told = WireFeatures(SPEC, [values(seq)] * len(FEATURES))
        add(cloud, range(seq, seq + 1), features=told, **changes)


def enter(cloud: CloudState) -> int:
    """Enter a round, and return its number; one before that is not over ends."""
    for turn in cloud.rounds.unfinished():
        if turn.camera == CAMERA:
            cloud.rounds.end(turn.id, "refused", {}, "the test goes on", cloud.clock.now())
    return cloud.rounds.start(CAMERA, "manual", cloud.clock.now()).id


def start(cloud: CloudState) -> int:
    """Have the teacher label what waits for it, enter a round, and return its number."""
    teach(cloud)
    return enter(cloud)


def run(cloud: CloudState, round_id: int, stopping: threading.Event | None = None) -> str:
    """Do what is left of a round, and return the state it ends in."""
    return run_round(cloud.settings, cloud.index, round_id, stopping or threading.Event(), cloud.clock)


def context_of(cloud: CloudState) -> Context:
    """Return what the stages of round 1 are given."""
    folder = cloud.data_dir / "rounds" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    heart = ProgressWriter(folder, cloud.clock.now)
    return Context(
        cloud.settings,
        cloud.frames,
        cloud.lifecycle,
        cloud.files,
        cloud.registry,
        folder,
        lambda: False,
        heart,
        Rates(cloud.index),
        Changes(cloud.index),
        feature_store(cloud.settings, cloud.index),
        ClassLists(cloud.index).of(CAMERA),
    )


def only(monkeypatch: pytest.MonkeyPatch, **replaced: Callable[..., dict[str, Any]]) -> list[str]:
    """Replace stages by quick ones; return the list that fills with the names of those that ran."""
    ran: list[str] = []

    def wrapped(name: str, stage: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def stage_that_tells(*arguments: Any) -> dict[str, Any]:
            ran.append(name)
            return stage(*arguments)

        return stage_that_tells

    for name in list(STAGES):
        monkeypatch.setitem(STAGES, name, wrapped(name, replaced.get(name, STAGES[name])))
    return ran


FAKE = {
    "label": lambda *_: {"labelled": 3},
    "score": lambda *_: {"scored": 2},
    "cull": lambda *_: {"kept": ["a"], "replay": [], "newest_capture": 5.0, "hardness": 0.5, "hard_negatives": 0},
    "learn": lambda *_: {**msgspec.to_builtins(Lesson(9, 3)), "proven": False},
    "resolution": lambda *_: {"scale": 0.9, "curve": []},
    "train": lambda *_: {"train_s": 1.0, "steps": 1, "ended": "1 steps"},
    "export": lambda *_: {"artefact": {"parent": "gate-1"}, "parity": {}},
    "gate": lambda *_: {
        "map_before": 0.1,
        "map_after": 0.2,
        "map_before_50_95": 0.0,
        "map_after_50_95": 0.1,
        "frames": 4,
        "outcome": "published",
        "reason": "",
    },
}


def teach(cloud: CloudState) -> None:
    """Have the teacher of the settings label every frame that asks for it, as the worker does, in this process."""
    labelling = cloud.settings.labelling.model_copy(update={"per_day": 10_000_000})
    worker = build(cloud.settings.model_copy(update={"labelling": labelling}), cloud.clock)
    while worker.turn():
        pass
