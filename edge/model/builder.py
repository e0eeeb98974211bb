"""One thread for what must not hold up a frame: making models ready, and recording how swaps go.

Creating a session takes seconds and cores, and holds the interpreter in part (onnxruntime#27063); so one model is made
at a time for all cameras of an agent, and cameras whose models are the same bytes share one graph.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable

from culling.common.graph import Graph, Provider, open_graph
from culling.common.wire.manifest import Manifest, verify_model
from culling.edge.model.student import Student


class Builder(threading.Thread):
    """Runs jobs in order, on its own thread; `failure` is what ended it, if anything did.

    `on_defect` takes what a job threw, and the next job goes on; without it that ends the thread.

    `threads` bounds those of every graph, 0 leaves it to onnxruntime; `lull_s` is how long a run waits, at most,
    for a moment without a frame.
    """

    def __init__(
        self,
        provider: Provider,
        threads: int = 0,
        lull_s: float = 3.0,
        on_defect: Callable[[Exception], None] | None = None,
    ) -> None:
        super().__init__(name="builder", daemon=True)
        self.failure: BaseException | None = None
        self._provider = provider
        self._threads = threads
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._graphs: weakref.WeakValueDictionary[str, Graph] = weakref.WeakValueDictionary()
        self._lull_s = lull_s
        self._on_defect = on_defect
        self._rest = threading.Condition()
        self._rests = 0
        self._rested_at = float("-inf")

    def run(self) -> None:
        """Do jobs until `close`."""
        try:
            while (job := self._jobs.get()) is not None:
                self._do(job)
        except BaseException as failure:  # the agent looks at it and ends
            self.failure = failure

    def _do(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            if self._on_defect is None:
                raise
            self._on_defect(error)

    def submit(self, job: Callable[[], None]) -> None:
        """Queue `job`; never waits."""
        self._jobs.put(job)

    def close(self, within_s: float | None = None) -> None:
        """Finish the queued jobs and end the thread; wait for that no longer than `within_s`."""
        self._jobs.put(None)
        if self.is_alive():
            self.join(within_s)

    def rests(self) -> None:
        """Note that the main loop has inferred every frame, and waits for the next."""
        self._rested_at = time.monotonic()
        with self._rest:
            self._rests += 1
            self._rest.notify_all()

    def await_lull(self) -> None:
        """Return at the second call of `rests` from now on, so that at least every other frame is undisturbed.

        A run that began in the last lull may have delayed a frame; if the next run followed that frame at once, delays
        would add up. Returns at once if `rests` was not called for `lull_s`, and after that time in any case.
        """
        if time.monotonic() - self._rested_at >= self._lull_s:
            return
        with self._rest:
            second = self._rests + 2
            self._rest.wait_for(lambda: self._rests >= second, self._lull_s)

    def build(self, manifest: Manifest, model: bytes) -> Student:
        """Return a student proven on its golden frames.

        Raises ManifestError when `model` is not the declared one, ModelError when it cannot run or fails the proof.
        """
        verify_model(manifest, model)
        if self._provider == "cpu":
            student = Student(manifest, self._graph(manifest, model))
            student.prove(self.await_lull)
            return student
        # What the maker saw was computed in full precision: a GPU proves it so, and then runs the same bytes faster.
        self.await_lull()
        exact = open_graph(model, provider=self._provider, threads=self._threads, exact=True)
        Student(manifest, exact).prove(self.await_lull)
        del exact
        return Student(manifest, self._graph(manifest, model))

    def _graph(self, manifest: Manifest, model: bytes) -> Graph:
        graph = self._graphs.get(manifest.sha256)
        if graph is None:
            self.await_lull()
            graph = open_graph(model, provider=self._provider, threads=self._threads)
            self._graphs[manifest.sha256] = graph
        return graph
