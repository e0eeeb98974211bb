"""A narrow student, exported once: what a cloud needs to enroll edges and run whole rounds in a test.

An export takes tens of seconds, so what came of it is kept in pytest's cache, under a name that changes with the code
that made it. Students of two classes are exported when a test first asks for one.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import culling.cloud.model.base
import culling.cloud.model.export
import culling.cloud.model.faster_rcnn.family
import culling.cloud.model.faster_rcnn.graph
import culling.cloud.model.faster_rcnn.network
import culling.cloud.model.refit
import culling.cloud.model.weights
import culling.cloud.model.yolox.family
import culling.cloud.model.yolox.graph
import culling.cloud.model.yolox.network
from culling.cloud.model.base import base_artefact, student_artefact
from culling.cloud.model.family import family_of
from culling.cloud.model.weights import load_bundled, save_weights
from culling.cloud.settings import load_settings
from culling.cloud.store.registry import ModelFiles
from support import detectors
from support.detectors import small_student

TWO = ("one", "other")

SOURCES = (
    culling.cloud.model.base,
    culling.cloud.model.export,
    culling.cloud.model.faster_rcnn.family,
    culling.cloud.model.faster_rcnn.graph,
    culling.cloud.model.faster_rcnn.network,
    culling.cloud.model.refit,
    culling.cloud.model.weights,
    culling.cloud.model.yolox.family,
    culling.cloud.model.yolox.graph,
    culling.cloud.model.yolox.network,
)


def narrow_base(config: pytest.Config) -> Path:
    """Return a folder with `student.safetensors`, and the `base` and `models` that a data folder has of it."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (*SOURCES, detectors))
    name = hashlib.sha256(sources + torch.__version__.encode()).hexdigest()[:16]
    assert config.cache is not None
    folder = config.cache.mkdir("narrow") / name
    _once(folder, _make_narrow)
    return folder


def yolox_of_two(narrow: Path) -> Path:
    """Return the folder with the bundled YOLOX as a student of two classes, `student.safetensors`, and its graph."""
    _once(folder := narrow / "yolox", _make_yolox)
    return folder


def install_two(narrow: Path, data_dir: Path, yolox: bool = False) -> None:
    """Put the graph of a student of two classes beside it, which that of another one with as many is filled from."""
    if yolox:
        install(yolox_of_two(narrow), data_dir)
    else:
        _once(folder := narrow / "two", _make_two)
        install(folder, data_dir)


def narrow_at(narrow: Path, long_side: int) -> Path:
    """Return the folder with the same student as the base of a cloud whose students have that long side."""

    def make(folder: Path) -> None:
        install(narrow, folder)
        weights = str(narrow / "student.safetensors")
        chosen = {"service.data_dir": folder, "student.weights": weights, "student.long_side": long_side}
        base_artefact(load_settings(None, chosen), ModelFiles(folder / "models"))

    _once(folder := narrow / f"at-{long_side}", make)
    return folder


def _once(folder: Path, make: Callable[[Path], None]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making it
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()


def _make_narrow(folder: Path) -> None:
    weights = folder / "student.safetensors"
    save_weights(weights, small_student(), "fp16")
    settings = load_settings(None, {"service.data_dir": folder, "student.weights": str(weights)})
    base_artefact(settings, ModelFiles(folder / "models"))


def _make_two(folder: Path) -> None:
    save_weights(folder / "student.safetensors", small_student(classes=TWO), "fp16", TWO)
    student_artefact(folder / "student.safetensors", folder, ModelFiles(folder / "models"))


def _make_yolox(folder: Path) -> None:
    model, names = load_bundled("student", family="yolox")
    known = ("car", "person")
    save_weights(folder / "student.safetensors", family_of(model).relist(model, names, known), "fp16", known)
    student_artefact(folder / "student.safetensors", folder, ModelFiles(folder / "models"))


def install(narrow: Path, data_dir: Path) -> None:
    """Put the exported base into a data folder."""
    for name in ("base", "models"):
        shutil.copytree(narrow / name, data_dir / name, dirs_exist_ok=True)
