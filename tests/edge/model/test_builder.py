from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.common.errors import ManifestError, ModelError
from culling.common.graph import Graph, open_graph
from culling.edge.model.builder import Builder
from culling.edge.model.student import Student
from support import tiny

KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def builder() -> Iterator[Builder]:
    builder = Builder("cpu", threads=1)
    yield builder
    builder.close(5)


def test_jobs_run_in_order_on_another_thread(builder: Builder) -> None:
    done: list[tuple[int, bool]] = []
    for number in range(5):
        builder.submit(lambda number=number: done.append((number, threading.current_thread() is builder)))  # type: ignore[misc]
    builder.start()

    builder.close(5)

    assert done == [(number, True) for number in range(5)]


def test_a_job_that_raises_ends_the_thread_and_is_told(builder: Builder) -> None:
    builder.start()
    builder.submit(lambda: 1 / 0)  # type: ignore[arg-type,return-value]

    builder.join(5)

    assert isinstance(builder.failure, ZeroDivisionError)


def test_a_job_that_raises_is_handed_to_whoever_wants_to_go_on() -> None:
    met: list[Exception] = []
    builder = Builder("cpu", threads=1, on_defect=met.append)
    done = threading.Event()
    builder.start()
    builder.submit(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    builder.submit(done.set)

    assert done.wait(5)
    builder.close(5)

    assert [type(error) for error in met] == [ZeroDivisionError]
    assert builder.failure is None


def test_closing_waits_only_so_long(builder: Builder) -> None:
    go_on = threading.Event()
    builder.submit(lambda: go_on.wait(10))  # type: ignore[arg-type,return-value]
    builder.start()

    builder.close(0.01)
    assert builder.is_alive()
    go_on.set()
    builder.close(5)
    assert not builder.is_alive()


def test_nothing_waits_for_a_lull_while_no_camera_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Condition, "wait_for", lambda *_: pytest.fail("waited"))

    Builder("cpu", lull_s=30).await_lull()


def test_a_lull_begins_with_the_second_rest_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    builder, reached = Builder("cpu", lull_s=30), []

    def wait_for(begun: Callable[[], bool], _: float) -> None:
        for _ in range(3):
            reached.append(begun())
            builder.rests()

    monkeypatch.setattr(builder._rest, "wait_for", wait_for)
    builder.rests()

    builder.await_lull()

    assert reached == [False, False, True]


def test_whoever_waits_for_a_lull_is_woken_by_it() -> None:
    builder = Builder("cpu", lull_s=30)
    builder.rests()
    waiting = threading.Thread(target=builder.await_lull, daemon=True)
    waiting.start()

    while waiting.is_alive():
        builder.rests()
        waiting.join(0.001)


def test_a_lull_that_does_not_come_is_not_waited_for_for_ever() -> None:
    builder = Builder("cpu", lull_s=0.05)
    builder.rests()
    began = time.monotonic()

    builder.await_lull()

    assert time.monotonic() - began >= 0.05


def test_a_proven_student_comes_out(builder: Builder) -> None:
    shipped = tiny.ship(tiny.student(), KEY)

    student = builder.build(shipped.manifest, shipped.model)

    assert student.model_id == "gate-1"


def test_other_bytes_than_the_manifest_declares_are_refused(builder: Builder) -> None:
    shipped = tiny.ship(tiny.student(), KEY)

    with pytest.raises(ManifestError) as raised:
        builder.build(shipped.manifest, tiny.student(tag="other"))
    assert raised.value.reason in ("wrong-size", "wrong-hash")


def test_a_model_that_fails_its_golden_frame_is_refused(builder: Builder) -> None:
    shipped = tiny.ship(tiny.student(shift=2), KEY, golden_from=tiny.student())

    with pytest.raises(ModelError, match="golden frame 0"):
        builder.build(shipped.manifest, shipped.model)


def test_cameras_with_the_same_model_share_its_graph(builder: Builder) -> None:
    shipped = tiny.ship(tiny.student(), KEY)
    elsewhere = msgspec.structs.replace(shipped.manifest, camera="yard")

    one, other = builder.build(shipped.manifest, shipped.model), builder.build(elsewhere, shipped.model)

    assert one.graph is other.graph


def test_a_graph_that_no_camera_uses_is_let_go(builder: Builder) -> None:
    shipped = tiny.ship(tiny.student(), KEY)
    student = builder.build(shipped.manifest, shipped.model)
    assert len(builder._graphs) == 1

    del student
    gc.collect()

    assert len(builder._graphs) == 0


def test_golden_frames_are_proven_in_full_precision_on_a_gpu_that_then_runs_as_fast_as_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[bool] = []

    def on_a_gpu(model: bytes, *, provider: str, threads: int, exact: bool = False) -> Graph:
        assert provider == "cuda"
        opened.append(exact)
        return open_graph(model, provider="cpu", threads=threads)

    monkeypatch.setattr("culling.edge.model.builder.open_graph", on_a_gpu)
    proven: list[Graph] = []
    monkeypatch.setattr(Student, "prove", lambda self, before: proven.append(self.graph))
    shipped = tiny.ship(tiny.student(), KEY)

    student = Builder("cuda", threads=1, lull_s=0).build(shipped.manifest, shipped.model)

    assert opened == [True, False]
    assert len(proven) == 1
    assert student.graph is not proven[0]
