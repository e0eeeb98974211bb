"""A student that a person brings: a file becomes something to publish, for one camera or for each of several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from culling.cloud.bill.cost import StudentCost
from culling.cloud.settings import CloudSettings
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.index import Index
from culling.cloud.store.lifecycle import FrameLifecycle
from culling.cloud.store.objects.places import frame_store, model_files
from culling.cloud.store.registry import Artefact
from culling.common.clock import SystemClock
from culling.common.errors import ModelError
from culling.common.progress import say
from culling.common.wire.manifest import Golden

if TYPE_CHECKING:
    from culling.common.graph import Graph


@dataclass(frozen=True)
class Brought:
    """A student whose files are kept; `sha256` and `weights` name them, `size` is in bytes."""

    settings: CloudSettings
    file: Path
    graph: Graph
    sha256: str
    size: int
    weights: str | None
    cost: StudentCost | None

    def artefact(self, camera: str, scale: float) -> Artefact:
        """Return it as something to publish for a camera, with a golden frame of that.

        Raises ModelError when it does not find what the camera looks for.
        """
        wanted, finds = ClassLists(Index(self.settings.store_url)).of(camera), self.graph.info.classes
        if missing := [name for name in wanted if name not in finds]:
            raise ModelError(f"{self.file}: finds {', '.join(finds)}; {camera} looks for {', '.join(missing)}, too")
        return Artefact(
            sha256=self.sha256,
            size=self.size,
            weights=self.weights,
            scale=scale,
            long_side=self.settings.student.long_side,
            classes=finds,
            parent=None,
            golden=self._golden(camera, scale),
            cost=self.cost,
        )

    def _golden(self, camera: str, scale: float) -> tuple[Golden, ...]:
        """Return what it finds in the camera's newest held-out frame; nothing while that has none."""
        from culling.cloud.model.golden import golden_frame, newest_picture

        index, clock = Index(self.settings.store_url), SystemClock()
        store = frame_store(self.settings, index, clock)
        say(f"noting what it finds on a frame of {camera}")
        image = newest_picture(store, FrameLifecycle(index, store, clock), camera)
        return () if image is None else (golden_frame(self.graph, image, scale, self.settings.student.long_side),)


def bring(settings: CloudSettings, file: Path) -> Brought:
    """Keep a student's file; weights are exported. Raises ModelError when it is no student."""
    from culling.common.graph import open_graph

    files = model_files(settings)
    try:
        data, weights, cost = file.read_bytes(), None, None
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from None
    if file.suffix == ".safetensors":
        from culling.cloud.model.base import student_artefact

        made = student_artefact(file, settings.data_dir, files, say)
        data, weights, cost = files.read(made.sha256), made.weights, made.cost
    try:
        graph = open_graph(data, provider="cpu")
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    return Brought(settings, file, graph, files.add(data, "onnx"), len(data), weights, cost)
