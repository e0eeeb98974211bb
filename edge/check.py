"""Tries everything that an agent needs, one thing at a time, without starting an agent."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from culling.common.address import http_url, is_loopback
from culling.common.clock import SystemClock
from culling.common.errors import CameraError, CullingError, ProtocolError
from culling.common.graph import Provider
from culling.common.logs import redact
from culling.common.process.checks import Result, attempt, writable
from culling.common.process.keeping_up import KeepingUp
from culling.common.process.lock import holder
from culling.common.scaler import input_size, quarter_turns
from culling.common.wire.transport import EdgeSocket
from culling.edge.camera.camera import CameraSettings, Frame
from culling.edge.camera.source import Source
from culling.edge.classes import asking_for, unfound
from culling.edge.model.builder import Builder
from culling.edge.model.families import OUTLINES, open_family
from culling.edge.model.package import initial_package
from culling.edge.model.provider import choose_provider
from culling.edge.model.student import Student
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, build
from culling.edge.regions import Mask
from culling.edge.reload import LOCK
from culling.edge.settings import EdgeSettings
from culling.edge.spool.forwarder import REFUSED
from culling.edge.tracks import Tracks
from culling.edge.view.server import listen
from culling.edge.view.settings import ViewSettings

HANDSHAKE_S = 10.0
"""Several times what a handshake takes on a mobile line; a wrong address answers only by silence."""
NO_ANSWER = "no answer; check address and firewall, and that the service runs"
MEASURE_S, MEASURE_FRAMES = 2.0, 20
"""A camera's student is measured for so long, or on so many frames."""
FAILURES = {"refused": REFUSED, "handshake-failed": "cloud.server_key is not its key"}


@dataclass
class _Camera:
    """What is known of a camera by now: its student, a picture of it, and how many a second the student is to take."""

    settings: CameraSettings
    student: Student | None = None
    frame: Frame | None = None
    fps: float = 0.0


def check_all(settings: EdgeSettings) -> Iterator[Result]:
    """Try state folder, provider, installed students, cameras, their pace, both families, outputs, view, and the cloud.

    Each result is yielded as it is known.
    """
    yield attempt("state", lambda: _state(settings.agent.state_dir))
    provider: Provider = "cpu"
    try:
        provider = choose_provider(settings.agent.allow_cpu)
        yield Result("provider", provider)
    except CullingError as error:
        yield Result("provider", str(error), error)
    builder = Builder(provider, settings.agent.threads)
    cameras = [_Camera(camera) for camera in settings.camera]
    for camera in cameras:
        name = camera.settings.name
        yield attempt(f"student of {name}", lambda camera=camera: _student(settings, camera, builder))  # type: ignore[misc]
        yield attempt(f"camera {name}", lambda camera=camera: _camera(camera))  # type: ignore[misc]
    try:
        yield _pace(cameras)
    except CullingError as error:
        yield Result("pace", str(error), error)
    try:
        yield _families(cameras, provider, settings.agent.threads)
    except CullingError as error:
        yield Result("families", str(error), error)
    running = holder(settings.agent.state_dir / LOCK) is not None
    classes = {name for camera in cameras if camera.student for name in camera.student.classes}
    for one in unfound(asking_for(settings), classes):
        yield Result(one.key, str(one), warning=True)
    for output in settings.output:
        yield _output(output, running)
    if settings.view.enabled:
        yield _view(settings.view, running)
    yield attempt("cloud", lambda: _cloud(settings))


def _state(folder: Path) -> str:
    told = writable(folder, "agent.state_dir")
    running = holder(folder / LOCK)
    return told + (f"; an agent works in it (process {running})" if running is not None else "")


def _student(settings: EdgeSettings, camera: _Camera, builder: Builder) -> str:
    name = camera.settings.name
    package = initial_package(settings, name, SystemClock().now())
    if package is None:
        path = settings.student.manifest(name)
        return (
            f"none installed{f', there is no {path}' if path else ''}; the cloud will send one once it knows the camera"
        )
    camera.student = builder.build(package.manifest, package.model.read_bytes())
    return f"{camera.student.model_id} passes its golden frames"


def _camera(camera: _Camera) -> str:
    settings, clock = camera.settings, SystemClock()
    with Source(settings, clock) as source:
        pictures = next((pictures for pictures in source.read(lambda reason: None) if pictures), None)
        rate = 1 / source.frame_s
    if pictures is None:
        raise CameraError(f"{redact(settings.url)} holds no picture")
    picture = Mask(settings.mask).hide(pictures[0], quarter_turns(pictures[0]))
    camera.frame = Frame(settings.name, 0, 0.0, clock.now(), clock.monotonic(), picture)
    camera.fps = min(rate, settings.max_fps or rate)
    if settings.track:
        Tracks(settings.name)
    return f"{redact(settings.url)} gives {pictures[0].width}x{pictures[0].height}"


def _pace(cameras: Sequence[_Camera]) -> Result:
    """Measure whether the students take all that their cameras give; a file that waits for its student is no matter."""
    known = [camera for camera in cameras if camera.student is not None and camera.frame is not None]
    asking = _asking(known)
    if not asking:
        return Result("pace", "not measured: it takes a student and a camera that does not wait for it")
    seconds = [_seconds(camera) for camera in asking]
    came = sum(camera.fps for camera in asking)
    busy = sum(camera.fps * one for camera, one in zip(asking, seconds, strict=True))
    found = KeepingUp(came / max(busy, 1.0), came)
    hint = KeepingUp(found.taken / len(asking), came / len(asking)).hint
    took = f"a frame takes the student {1000 * sum(seconds) / len(seconds):.0f} ms here"
    return Result("pace", f"{found}; {took}{f'; {hint}' if hint else ''}", warning=not found.enough)


def _asking(cameras: Sequence[_Camera]) -> list[_Camera]:
    """Return the cameras that give frames at a pace of their own."""
    return [camera for camera in cameras if camera.settings.live or camera.settings.pace == "real"]


def _seconds(camera: _Camera) -> float:
    """Return what one frame of a camera costs its student, in seconds."""
    student, frame = camera.student, camera.frame
    assert student is not None
    assert frame is not None
    return _median(lambda: student.infer([frame]))


def _median(act: Callable[[], object]) -> float:
    """Return the seconds that something takes: the median of a few times, after one that does not count."""
    took: list[float] = []
    until = time.monotonic() + MEASURE_S
    while len(took) < 2 or (len(took) < MEASURE_FRAMES and time.monotonic() < until):
        began = time.monotonic()
        act()
        took.append(time.monotonic() - began)
    return statistics.median(took[1:])


def _families(cameras: Sequence[_Camera], provider: Provider, threads: int) -> Result:
    """Say of each bundled student whether it would take all that the cameras give, at their sizes; needs no weights."""
    asking = _asking([camera for camera in cameras if camera.frame is not None])
    if not asking:
        return Result("families", "not measured: it takes a camera that does not wait for its student")
    came, told = sum(camera.fps for camera in asking), []
    for name in OUTLINES:
        graph, taken, busy = open_family(name, provider, threads), dict[tuple[int, int], float](), 0.0
        for camera in asking:
            assert camera.frame is not None
            size = input_size(camera.frame.width, camera.frame.height)
            if size not in taken:
                picture = camera.frame.input(*size)[None]
                taken[size] = _median(lambda graph=graph, picture=picture: graph.run(picture))  # type: ignore[misc]
            busy += camera.fps * taken[size]
        found = KeepingUp(came / max(busy, 1.0), came)
        verdict = "keeps up" if found.enough else "does not keep up"
        told.append(f"{name} {verdict}: {found.rates}, {1000 * busy / came:.0f} ms a frame")
    return Result("families", "; ".join(told))


def _output(settings: OutputSettings, running: bool) -> Result:
    """Try whether records would arrive; what could be read by others is a warning."""
    what = f"output {settings.name}"
    if running and settings.kind == "zmq":
        return Result(what, f"not tried: the agent that runs publishes at {settings.bind}")
    found = attempt(what, lambda: build(settings, Around(SystemClock())).check())
    if found.error is not None or not settings.exposed:
        return found
    return Result(what, f"{found.detail}; anybody on the way can read it: use TLS or CURVE", warning=True)


def _view(settings: ViewSettings, running: bool) -> Result:
    """Try whether the live picture can be served; that others may read it on the way is a warning."""
    where = http_url(settings.host, settings.port)
    if running:
        return Result("view", f"not tried: the agent that runs serves it at {where}")
    found = attempt("view", lambda: _can_listen(settings, where))
    if found.error is not None or is_loopback(settings.host):
        return found
    told = "pictures and token can be read on the way: use a tunnel, or a proxy with TLS"
    return Result("view", f"{found.detail}; {told}", warning=True)


def _can_listen(settings: ViewSettings, where: str) -> str:
    listen(settings).server_close()
    return f"it can be served at {where}"


def _cloud(settings: EdgeSettings) -> str:
    cloud = settings.cloud
    socket = EdgeSocket(cloud.endpoint, cloud.server_key, cloud.secret_key.get_secret_value())
    try:
        deadline = time.monotonic() + HANDSHAKE_S
        while not (socket.connected or socket.failure) and (left := deadline - time.monotonic()) > 0:
            socket.poll(left)
        if not socket.connected:
            reason = FAILURES.get(socket.failure or "", NO_ANSWER)
            raise ProtocolError("no-cloud", f"{cloud.endpoint}: {reason}")
        return f"{cloud.endpoint} accepts this edge's key"
    finally:
        socket.close()
