"""`culling edge install`: a signed model from a file, for an edge that has no line to its cloud.

It is held against the same rules as one that is offered, before anything is left for the agent: signature, camera,
counter, time, and hash. Where no agent runs it is tried here, too, on its golden frames; an agent that runs does that
itself, swaps it between two frames, and what came of it is read from its record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from culling.common.clock import SystemClock
from culling.common.errors import InputError, ManifestError, ModelError
from culling.common.process.lock import holder
from culling.common.scaler import input_size
from culling.common.wire.codec import jpeg_size
from culling.common.wire.manifest import Manifest, check_time, verify_model
from culling.common.wire.manifest import authentic as trusted
from culling.edge.model.builder import Builder
from culling.edge.model.hotswap import SlotRecord, State
from culling.edge.model.inbox import leave, lies
from culling.edge.model.package import initial_package, signing_keys
from culling.edge.model.provider import choose_provider
from culling.edge.model.shelf import peek
from culling.edge.model.slot import trust
from culling.edge.model.vetting import vet
from culling.edge.reload import LOCK
from culling.edge.settings import EdgeSettings

ANSWER_S = 300.0
"""To make a model ready takes long on a small machine."""
IN_USE = (State.SWITCHED, State.PROBATION)


def install(
    settings: EdgeSettings, manifest: Path, model: Path | None, say: Callable[[str], None], within_s: float = ANSWER_S
) -> str:
    """Bring a model to the agent of these settings; return what came of it, in words.

    `model` is beside its manifest unless it is named. Raises InputError for files that cannot be read, ManifestError or
    ModelError for a model that must not run here, StorageError where it cannot be left for the agent.
    """
    blob = _read(manifest)
    camera, found = _camera(settings, blob, manifest)
    record = _record(settings, camera)
    if found.model_id in (record.live, record.candidate and record.candidate.model_id):
        return f"camera {camera} has model {found.model_id} already"
    _check_record(record, found)
    file = model or manifest.with_suffix(".onnx")
    data = _read(file)
    try:
        verify_model(found, data)
    except ManifestError as error:
        raise ManifestError(error.reason, f"{file}: {error}") from None
    running = holder(settings.agent.state_dir / LOCK) is not None
    if not running:
        _try(settings, found, file, data)
    leave(settings.agent.state_dir, camera, blob, data)
    if not running:
        return f"camera {camera}: model {found.model_id} passes its golden frames; the agent takes it when it starts"
    say(f"camera {camera}: the agent makes model {found.model_id} ready")
    return _await(settings, found, within_s)


def _camera(settings: EdgeSettings, blob: bytes, path: Path) -> tuple[str, Manifest]:
    """Return the camera of these settings that a manifest is for. Raises ManifestError."""
    refusals = []
    for camera in settings.camera:
        try:
            initial = initial_package(settings, camera.name, SystemClock().now())
            believed = trust(_record(settings, camera.name), initial, signing_keys(settings), camera.name)
            found = trusted(blob, believed)
            check_time(found, SystemClock().now())
        except ManifestError as error:
            if error.reason != "wrong-camera":
                raise ManifestError(error.reason, f"{path}: {error}") from None
            refusals.append(error)
        else:
            return camera.name, found
    names = ", ".join(camera.name for camera in settings.camera)
    told = str(refusals[0]).partition(", not ")[0]
    raise ManifestError("wrong-camera", f"{path}: {told}; this edge has {names}")


def _check_record(record: SlotRecord, manifest: Manifest) -> None:
    if manifest.model_id in record.refused:
        raise ModelError(f"model {manifest.model_id} was tried here before and did not pass: publish another")


def _try(settings: EdgeSettings, manifest: Manifest, file: Path, data: bytes) -> None:
    """Raise ModelError unless a model loads within its limits, and finds what it should on its golden frames."""
    sizes = {jpeg_size(golden.jpeg) for golden in manifest.golden}
    vet(file, sorted({input_size(*size, manifest.scale, manifest.long_side) for size in sizes} or {(64, 64)}))
    Builder(choose_provider(settings.agent.allow_cpu), settings.agent.threads).build(manifest, data)


def _await(settings: EdgeSettings, manifest: Manifest, within_s: float) -> str:
    """Return what the agent made of a model. Raises ModelError where it turned it down."""
    camera, name, seen = manifest.camera, manifest.model_id, False
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        record = _record(settings, camera)
        candidate = record.candidate if record.candidate and record.candidate.model_id == name else None
        if record.live == name:
            return f"camera {camera}: model {name} is in use"
        if candidate is not None and candidate.state in IN_USE:
            return f"camera {camera}: model {name} is in use, on probation"
        if name in record.refused:
            why = next((one.reason for one in reversed(record.reports) if one.model_id == name), "see its log")
            raise ModelError(f"camera {camera}: the agent turned model {name} down: {why}")
        seen = seen or candidate is not None
        if not (seen or lies(settings.agent.state_dir, camera) or _record(settings, camera).candidate):
            raise ModelError(f"camera {camera}: the agent did not take model {name}: see its log")
        time.sleep(0.1)
    return f"camera {camera}: model {name} is not in use yet after {within_s:g} s: see `culling edge status`"


def _record(settings: EdgeSettings, camera: str) -> SlotRecord:
    return peek(settings.agent.state_dir / "models" / camera)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
