"""A narrow student, exported once: what a cloud needs to enroll edges and run whole rounds in a test.

The export takes tens of seconds, so what came of it is kept in pytest's cache, under a name that changes with the code
that made it.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
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
from culling.cloud.model.base import base_artefact, student_artefact
from culling.cloud.model.weights import save_weights
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
)


def narrow_base(config: pytest.Config) -> Path:
    """Return a folder with `student.safetensors`, and the `base` and `models` that a data folder has of it."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (*SOURCES, detectors))
    name = hashlib.sha256(sources + torch.__version__.encode()).hexdigest()[:16]
    assert config.cache is not None
    folder = config.cache.mkdir("narrow") / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making it
        if not (folder / "done").exists():
            weights = folder / "student.safetensors"
            save_weights(weights, small_student(), "fp16")
            settings = load_settings(None, {"service.data_dir": folder, "student.weights": str(weights)})
            base_artefact(settings, ModelFiles(folder / "models"))
            save_weights(folder / "two.safetensors", small_student(classes=TWO), "fp16", TWO)
            student_artefact(folder / "two.safetensors", folder / "two", ModelFiles(folder / "two" / "models"))
            (folder / "done").touch()
    return folder


def install_two(narrow: Path, data_dir: Path) -> None:
    """Put the graph of a student of two classes beside it, which that of another one with as many is filled from."""
    install(narrow / "two", data_dir)


def install(narrow: Path, data_dir: Path) -> None:
    """Put the exported base into a data folder."""
    for name in ("base", "models"):
        shutil.copytree(narrow / name, data_dir / name, dirs_exist_ok=True)
