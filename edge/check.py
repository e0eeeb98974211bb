"""Tries everything that an agent needs, one thing at a time, without starting an agent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from culling.common.clock import SystemClock
from culling.common.errors import CameraError, CullingError, ProtocolError, StorageError
from culling.common.graph import Provider
from culling.common.logs import redact
from culling.common.wire.transport import EdgeSocket
from culling.edge.camera.source import CameraSettings, Source
from culling.edge.model.builder import Builder
from culling.edge.model.package import initial_package
from culling.edge.model.provider import choose_provider
from culling.edge.settings import EdgeSettings

HANDSHAKE_S = 10.0
"""Several times what a handshake takes on a mobile line; a wrong address answers only by silence."""
NO_ANSWER = "no answer; check address and firewall, and that the service runs"
FAILURES = {"refused": "this edge's key is not enrolled there", "handshake-failed": "cloud.server_key is not its key"}


@dataclass(frozen=True)
class Result:
    """What was tried and the outcome; `error` is None when it works."""

    what: str
    detail: str
    error: CullingError | None = None


def check_all(settings: EdgeSettings) -> Iterator[Result]:
    """Try the state folder, the provider, the installed students, the cameras and the cloud.

    Each result is yielded as it is known.
    """
    yield _try("state", lambda: _state(settings.agent.state_dir))
    provider: Provider = "cpu"
    try:
        provider = choose_provider(settings.agent.allow_cpu)
        yield Result("provider", provider)
    except CullingError as error:
        yield Result("provider", str(error), error)
    builder = Builder(provider, settings.agent.threads)
    for camera in settings.camera:
        yield _try(f"student of {camera.name}", lambda name=camera.name: _student(settings, name, builder))  # type: ignore[misc]
        yield _try(f"camera {camera.name}", lambda camera=camera: _camera(camera))  # type: ignore[misc]
    yield _try("cloud", lambda: _cloud(settings))


def _try(what: str, attempt: Callable[[], str]) -> Result:
    try:
        return Result(what, attempt())
    except CullingError as error:
        return Result(what, str(error).removeprefix(f"{what}: "), error)


def _state(folder: Path) -> str:
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not (os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)):
        raise StorageError(f"agent.state_dir: {folder} is not writable: check its owner and mode")
    return f"{folder} is writable"


def _student(settings: EdgeSettings, camera: str, builder: Builder) -> str:
    package = initial_package(settings, camera, SystemClock().now())
    if package is None:
        path = settings.student.manifest(camera)
        return (
            f"none installed{f', there is no {path}' if path else ''}; the cloud will send one once it knows the camera"
        )
    return f"{builder.build(package.manifest, package.model.read_bytes()).model_id} passes its golden frames"


def _camera(settings: CameraSettings) -> str:
    with Source(settings, SystemClock()) as source:
        pictures = next((pictures for pictures in source.read(lambda reason: None) if pictures), None)
    if pictures is None:
        raise CameraError(f"{redact(settings.url)} holds no picture")
    return f"{redact(settings.url)} gives {pictures[0].width}x{pictures[0].height}"


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
