"""`culling bench overhead`: confidence, selection and spool, against inference; or outputs, or the view."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import av
import numpy as np
import typer
from numpy.typing import NDArray

from culling.common import bench
from culling.common.bench import Comparison, Json, Measured, Report, RoundCount, Stated, at_most
from culling.common.frame import Detections
from culling.common.graph import Graph, open_graph, to_frame
from culling.common.selection.selector import THUMBNAIL, Action, Decision, SelectorSettings, build_selector
from culling.common.wire.codec import encode_jpeg
from culling.edge.bench.material import Material, Model, Threads, Video, gather
from culling.edge.bench.outputs import outputs_report
from culling.edge.bench.view import view_report
from culling.edge.camera.camera import Frame
from culling.edge.model.provider import choose_provider
from culling.edge.scoring import Score, Scorer
from culling.edge.settings import ConfidenceSettings
from culling.edge.spool.spool import Spool

QUALITY = 90
"""Of JPEGs: the default of `spool.jpeg_quality`."""


def overhead_command(
    video: Video = None,
    model: Model = None,
    frames: Annotated[int, typer.Option(min=8, help="frames a side and round")] = 200,
    threads: Threads = 0,
    rounds: RoundCount = 5,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="instead: the agent with every output on, against none; and records/s")
    ] = False,
    view: Annotated[
        bool, typer.Option("--view", help="instead: the agent with its live view on, looked at and not, against none")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time per frame of confidence, selection and spool, against that of inference, on a camera's first frames.

    The first frames cost most: until a window is full, every frame that spacing lets pass goes to the spool.
    """
    material, provider = gather(video, model), choose_provider(allow_cpu=True)
    if outputs:
        bench.print_report(outputs_report(material, frames, threads, rounds), as_json)
        return
    if view:
        bench.print_report(view_report(material, frames, threads, rounds), as_json)
        return
    graph = open_graph(material.model, provider=provider, threads=threads)
    load = Workload(material, material.pictures(frames), material.inputs(frames), graph)
    culling, inference = bench.in_turn(rounds, load.cull, load.infer)
    unit = "ms a frame"
    comparison = Comparison(
        "overhead",
        Measured("loss, thumbnail, decision, JPEG and fsynced spool", unit, culling),
        Measured("inference", unit, inference),
        at_most(0.01),
    )
    spooled = Stated(Measured("share of frames that went to the spool", "", (load.spooled / frames,)))
    bench.print_report(Report("overhead", (comparison,), (spooled,), machine=bench.machine(provider)), as_json)


@dataclass
class Workload:
    """Frames of one camera, to be inferred or culled; `spooled` counts those that went to the spool."""

    material: Material
    pictures: list[av.VideoFrame]
    inputs: list[NDArray[np.uint8]]
    graph: Graph
    spooled: int = 0

    def __post_init__(self) -> None:
        size = self.material.size
        full = (self.pictures[0].height, self.pictures[0].width)
        self._found = [to_frame(self.graph.run(one)[0], size, full) for one in self.inputs]

    def infer(self) -> float:
        """Return the student's milliseconds per frame."""
        started = time.perf_counter()
        for one in self.inputs:
            self.graph.run(one)
        return 1000 * (time.perf_counter() - started) / len(self.inputs)

    def cull(self) -> float:
        """Return the milliseconds per frame that choosing and keeping frames takes, all of it on one thread."""
        with TemporaryDirectory(prefix="culling-bench-") as folder:
            spool = Spool(Path(folder) / "spool.sqlite", 1 << 30, "bench")
            selector = build_selector(SelectorSettings(), random.Random(0))
            scorer = Scorer(self.material.manifest("bench", 1, self.material.model), ConfidenceSettings())
            self.spooled, began = 0, time.time()
            started = time.perf_counter()
            for number, (picture, found) in enumerate(zip(self.pictures, self._found, strict=True)):
                at = began + float(picture.time or 0)
                frame = Frame("bench", number, at - began, at, 0.0, picture)
                score = scorer.score(found, frame.width, frame.height)
                thumbnail = frame.input(*THUMBNAIL)[..., 1] if score.loss > 0 else None
                selector.close_window(at)
                decision = selector.decide(score.worth, at, thumbnail)
                if decision.action is not Action.SKIP:
                    self._spool(spool, frame, found, score, decision)
            spent = time.perf_counter() - started
            spool.close()
        return 1000 * spent / len(self.pictures)

    def _spool(self, spool: Spool, frame: Frame, found: Detections, score: Score, decision: Decision) -> None:
        spool.add(
            frame,
            found=found,
            score=score,
            reason=decision.reason,
            model_id="bench-1",
            jpeg=encode_jpeg(frame.rgb(), QUALITY),
            held=decision.action is Action.HOLD,
            draw=decision.draw,
        )
        self.spooled += 1
