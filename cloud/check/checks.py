"""Everything that the service needs, tried one at a time, without starting it."""

from __future__ import annotations

import ctypes
import os
import uuid
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import sqlalchemy as sa

from culling.cloud.check.header import check_detector, check_student_file
from culling.cloud.check.probe import try_teacher
from culling.cloud.control.classes import pending
from culling.cloud.settings import CloudSettings, ServiceSettings, TeacherPart
from culling.cloud.store.folders import free_bytes
from culling.cloud.store.index import Index, cameras
from culling.cloud.store.keys import keys_of
from culling.cloud.store.objects.objects import open_objects
from culling.cloud.weights.index import BUNDLED
from culling.common.errors import ModelError, StorageError
from culling.common.process.checks import Result, attempt, writable

UNSYNCHRONISED = 5
"""What `adjtimex` returns while nothing keeps the clock right (TIME_ERROR)."""


def check_all(settings: CloudSettings) -> Iterator[Result]:
    """Try keys, index, frames folder, teacher, student, classes, disk, GPU and clock; yield results as they come."""
    yield attempt("keys", lambda: _keys(settings.service))
    yield attempt("index", lambda: _index(settings))
    yield attempt("frames", lambda: _frames(settings))
    yield attempt("teacher", lambda: check_teacher(settings))
    yield attempt("student", lambda: check_student(settings))
    yield attempt("classes", lambda: _classes(settings))
    yield attempt("room", lambda: _room(settings))
    yield _gpu()
    yield _clock()


def check_teacher(settings: CloudSettings) -> str:
    """Return what the teacher is. Raises what `load_teacher` raises where it cannot be used.

    What comes with Culling, and a file of the bundled kind, are judged by their headers. Any other is opened by
    `load_teacher` itself, in a process of its own, since the service never holds torch.
    """
    teacher = settings.teacher
    parts = teacher.member if teacher.kind == "ensemble" else (teacher,)
    sayings = settings.classes or (any(part.file for part in parts) and settings.round.interest)  # other classes may do
    plain = teacher.kind != "ensemble" or (len(parts) > 1 and not teacher.views)
    plain = plain and not settings.round.distil  # whether there are features only the teacher itself can tell
    if plain and not sayings and not teacher.map and all(_by_header(part) for part in parts):
        return " and ".join(_check_header(part) for part in parts)
    return try_teacher(settings)


def _by_header(part: TeacherPart) -> bool:
    return not part.map and (part.kind == "bundled" or (part.kind == "yolox-nano" and part.file is None))


def _check_header(part: TeacherPart) -> str:
    if part.kind == "yolox-nano":
        return check_student_file(BUNDLED / "yolox-nano.safetensors", "yolox")
    return check_detector(part.file or BUNDLED / "teacher.safetensors")


def check_student(settings: CloudSettings) -> str:
    """Return where students start. Raises ModelError for a family that is not installed, or other weights.

    Families are told by their entry points' names alone: they bring torch, which the service never holds.
    """
    family, weights = settings.student.family, settings.student.weights
    known = sorted({entry.name for entry in entry_points(group="culling.students")})
    if family not in known:
        raise ModelError(f"student.family: no family of students is called {family!r}; there are {', '.join(known)}")
    if weights == "bundled":
        return f"{family}, {weights}"
    if not os.path.isfile(weights):
        raise ModelError(f"student.weights: there is no file {weights}")
    try:
        return check_student_file(Path(weights), family)
    except ModelError as error:
        raise ModelError(f"student.weights: {error}") from None


def _keys(service: ServiceSettings) -> str:
    given = service.signing_key is not None or service.signing_key_file is not None
    if not given and not os.path.exists(service.data_dir / "keys" / "signing.secret"):
        return "none yet, they are made at first use"
    keys_of(service)
    return "as the settings say" if given else f"in {service.data_dir / 'keys'}, for their owner alone"


def _index(settings: CloudSettings) -> str:
    if settings.store.url is None and not os.path.exists(settings.data_dir / "index.sqlite"):
        return "none yet, it is made at first use"
    index = Index(settings.store_url)
    try:
        with index.read() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(cameras)).scalar_one()
    finally:
        index.close()
    return f"readable, {count} cameras"


def _classes(settings: CloudSettings) -> str:
    """Return how many sets there are. Raises SettingsError where one of the cameras is in two."""
    sets = ", ".join(settings.class_sets)
    if settings.store.url is None and not os.path.exists(settings.data_dir / "index.sqlite"):
        return f"sets {sets}; no cameras yet"
    index = Index(settings.store_url)
    try:
        changes = pending(settings, index)
    finally:
        index.close()
    return f"sets {sets}" + (f"; the service will change those of {', '.join(sorted(changes))}" if changes else "")


def _frames(settings: CloudSettings) -> str:
    if settings.store.objects is None:
        return writable(settings.data_dir / "frames", "service.data_dir")
    place, name = open_objects(settings.store.objects, settings.data_dir), f"check/{uuid.uuid4().hex}"
    place.put({name: b"check"})
    place.get(name)
    place.delete([name])
    return f"written, read and removed in {settings.store.objects}"


def _room(settings: CloudSettings) -> str:
    free, reserve = free_bytes(settings.data_dir), settings.service.reserve_bytes
    told = f"{free / 1e9:.1f} GB free in {settings.data_dir}, service.reserve_bytes keeps {reserve / 1e9:.1f} GB"
    if free <= reserve:
        raise StorageError(f"{told}: no frame would be stored; free some, or lower it")
    return told


def _gpu() -> Result:
    try:
        import pynvml

        pynvml.nvmlInit()
        devices = [pynvml.nvmlDeviceGetHandleByIndex(each) for each in range(pynvml.nvmlDeviceGetCount())]
        names = [str(pynvml.nvmlDeviceGetName(device)) for device in devices]
    except Exception:  # no library, no driver, or a driver of another version: all mean that rounds go without
        names = []
    return Result("gpu", ", ".join(names) or "none: the teacher labels and rounds train on the CPU")


def _clock() -> Result:
    """Ask the kernel whether a time service keeps the clock right; where it does not tell, nothing is claimed."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        state = -1
    if state < 0:
        return Result("clock", "this system does not tell whether it is synchronised")
    if state == UNSYNCHRONISED:
        return Result(
            "clock", "not synchronised: edges refuse models from the future; start a time service", None, True
        )
    return Result("clock", "synchronised")
