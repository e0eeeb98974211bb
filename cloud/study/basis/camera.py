"""A camera whose rounds run in this process, one by one: the loop's own, with its index, its stages and its publishing.

Only what comes before and after a round is the study's: frames are handed in with the teacher's labels, and each round
starts when it is asked for. All state is in a folder, as a service's: a study that was killed goes on in that stage.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.cloud.control.actions import carry_out, to_artefact
from culling.cloud.control.publish import Publisher
from culling.cloud.control.steering.accuracy import MeasuredAccuracy, Measurer
from culling.cloud.round.process import run_round
from culling.cloud.settings import CloudSettings
from culling.cloud.store.frames import Arrival, FrameStore
from culling.cloud.store.index import Index
from culling.cloud.store.keys import load_keys
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.registry import Artefact, Model, ModelFiles, Registry
from culling.cloud.store.requests import Requests
from culling.cloud.store.roster import Roster, add_edge
from culling.cloud.store.rounds import Round, Rounds
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.lights import Fed, Light, LightName
from culling.cloud.study.basis.phases import Phases
from culling.cloud.weights.classes import CLASSES
from culling.common.clock import SystemClock
from culling.common.errors import TrainingError
from culling.common.frame import Detections
from culling.common.graph import open_graph, see
from culling.common.scaler import input_size
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.wire.codec import decode_jpeg
from culling.common.wire.messages import HardFrame, to_wire
from culling.common.wire.transport import new_keypair, public_key

CAMERA = "studied"


class StudiedCamera:
    """The camera below `settings.data_dir`; it begins with `base`, whose files are in `source`."""

    def __init__(self, settings: CloudSettings, base: Artefact, source: ModelFiles) -> None:
        self.settings = settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = SystemClock()
        self._index = Index(settings.store_url)
        store = settings.store
        self._frames = FrameStore(
            self._index, settings.data_dir / "frames", self._clock, store.held_out_block_s, store.guard_s
        )
        self._lifecycle = FrameLifecycle(self._index, self._frames, self._clock)
        self._files = ModelFiles(settings.data_dir / "models")
        self._registry = Registry(self._index)
        self._rounds = Rounds(self._index)
        keys = load_keys(settings.data_dir)
        self._publisher = Publisher(self._index, self._files, keys.signing, settings.publish.valid_days, self._clock)
        self._edge_key = self._enrolled()
        if CAMERA not in self._registry.live():
            for sha256, suffix in ((base.sha256, "onnx"), (base.weights, "safetensors")):
                self._files.add(source.read(str(sha256), suffix), suffix)
            long_side = settings.student.long_side
            self._publisher.publish(CAMERA, msgspec.structs.replace(base, long_side=long_side), "base")

    def __enter__(self) -> StudiedCamera:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._index.close()

    @property
    def live(self) -> Model:
        """The student in use."""
        return self._registry.live()[CAMERA]

    @property
    def accuracy(self) -> MeasuredAccuracy | None:
        """How right the student in use is by what was forwarded of it; None of fewer frames than tell."""
        measurer = Measurer(self._index, self._frames, self.settings, self._clock)
        return measurer.measure(CAMERA, self.live.model_id)

    @property
    def live_file(self) -> Path:
        """Its graph."""
        return self._files.path(self.live.artefact.sha256, "onnx")

    def feed(self, boot: str, frames: Sequence[Fed], times: Sequence[float]) -> None:
        """Forward labelled frames that were captured at `times`, in epoch seconds, as an edge with the student in use.

        `boot` names this lot: the same one again changes nothing.
        """
        find = self.student_in_use()
        arrivals = [
            self._arrival(boot, seq, frame, at, find) for seq, (frame, at) in enumerate(zip(frames, times, strict=True))
        ]
        self._frames.add_all(arrivals)
        floor = self.settings.teacher.min_score
        self._lifecycle.label(
            {one.name: frame.labels.above(floor) for one, frame in zip(arrivals, frames, strict=True)}
        )

    def turn(self, number: int) -> Round:
        """Return the camera's round of that number, from 1 on: a new one, or what is left of one that was cut short.

        Raises TrainingError where it failed.
        """
        if not any(turn.id == number for turn in self._rounds.all(CAMERA)):
            self._rounds.start(CAMERA, "manual", self._clock.now())
        run_round(self.settings, self._index, number, threading.Event(), self._clock)
        turn = self._rounds.get(number)
        if turn.state == "failed":
            raise TrainingError(f"round {number} in {self.settings.data_dir} failed: {turn.reason}")
        return turn

    def settle(self, turn: Round, gated: bool) -> None:
        """Publish what a round made, and take back what its gate withdrew; without `gated` publish it in any case."""
        judged = turn.stages.get("gate", {})
        if turn.state == "ready":
            self._publisher.publish_round(turn.id, CAMERA, to_artefact(judged["artefact"]), judged.get("replaced"))
        elif gated:
            self._answer_requests()
        elif "export" in turn.stages:
            made = to_artefact(turn.stages["export"]["artefact"])
            if made.sha256 != self.live.artefact.sha256:
                self._publisher.publish(CAMERA, made, "manual", turn.id)

    def made(self, turn: Round) -> tuple[Path, Artefact] | None:
        """Return the graph that a round made, published or not, and what it is; None where it came to none."""
        stage = turn.stages.get("gate", {}).get("artefact") or turn.stages.get("export", {}).get("artefact")
        if stage is None:
            return None
        artefact = to_artefact(stage)
        return self._files.path(artefact.sha256, "onnx"), artefact

    def tidy(self) -> None:
        """Remove the files of models that are out of use."""
        self._files.prune(self._registry.wanted_files(), self._clock.now())

    def student_in_use(self) -> Callable[[NDArray[np.uint8]], Detections]:
        """Return what the student in use finds in a picture, `(H, W, 3)` RGB."""
        graph = open_graph(self.live_file.read_bytes(), provider="cpu", threads=self.settings.round.threads)
        artefact = self.live.artefact

        def find(image: NDArray[np.uint8]) -> Detections:
            height, width = image.shape[:2]
            return see(graph, image, input_size(width, height, artefact.scale, artefact.long_side))

        return find

    def _arrival(
        self, boot: str, seq: int, frame: Fed, at: float, find: Callable[[NDArray[np.uint8]], Detections]
    ) -> Arrival:
        image = decode_jpeg(frame.jpeg)
        found = find(image)
        told = HardFrame(
            camera=CAMERA,
            boot=boot,
            seq=seq,
            frame=frame.number,
            pts=0.0,
            captured=at,
            reason="hard" if frame.probability is None else "audit",
            loss=LossMeter(POLICIES["paper"], len(CLASSES)).loss(found),
            model_id=self.live.model_id,
            width=image.shape[1],
            height=image.shape[0],
            sha256=hashlib.sha256(frame.jpeg).hexdigest(),
            detections=to_wire(found),
            probability=frame.probability,
        )
        return Arrival(self._edge_key, told, frame.jpeg)

    def _answer_requests(self) -> None:
        requests = Requests(self._index)
        for request in requests.open():
            answer = carry_out(request, self._index, self._publisher)
            requests.answer(request.id, answer, False, self._clock.now())

    def _enrolled(self) -> str:
        """Return the key of the camera's edge, enrolled now if there is none."""
        known = Roster(self._index).members().cameras
        if not known:
            key = public_key(new_keypair()[1])
            with self._index.write() as connection:
                add_edge(connection, "edge", key, (CAMERA,), self._clock.now())
            return key
        return next(iter(known))


def studied_settings(corpus: Corpus, folder: Path, n: int, seed: int) -> CloudSettings:
    """Return the settings of a camera of its own in `folder`: as the corpus's, at the study's size; its rounds keep at
    most n frames.
    """
    settings = corpus.settings
    return settings.model_copy(
        update={
            "service": settings.service.model_copy(update={"data_dir": folder}),
            "store": settings.store.model_copy(update={"url": None}),
            "student": settings.student.model_copy(update={"long_side": max(corpus.size(corpus.scale))}),
            "round": settings.round.model_copy(update={"kept": n, "seed": 1000 * seed}),
        }
    )


def studied_identity(
    corpus: Corpus, course: Phases, found: Mapping[LightName, Light], n: int, seed: int, sections: Sequence[str]
) -> dict[str, Any]:
    """Return what decides the rounds of such a camera on its course, for the cache; `sections` are of the settings."""
    chosen = {name: getattr(corpus.settings, name).model_dump(mode="json") for name in (*sections, "resolution")}
    told = {"lights": {light: asdict(part) for light, part in found.items()}, "n": n, "seed": seed}
    return corpus.identity | corpus.truth | chosen | asdict(course) | told
