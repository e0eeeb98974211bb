from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.bundled import open_bundled
from culling.cloud.teacher.interface import find_kind
from culling.cloud.teacher.loading import open_part
from culling.common.errors import MissingExtraError, SettingsError

OWN = """
import numpy as np
from culling.common.frame import Detections

class Own:
    names, device, batch = ("person", "nothing"), "cpu", 1
    def label(self, frames):
        return [Detections(np.float32([[0, 0, 1, 1]]), np.float32([0.5]), np.array([0]))] * len(frames)
    def gflops(self, height, width):
        return None

def open_own(part, classes):
    return Own()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of somebody else's that brings teachers."""
    (tmp_path / "own_teacher.py").write_text(OWN)
    about = tmp_path / "own_teacher-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-teacher\nVersion: 1.0\n")
    lines = ["own = own_teacher:open_own", "bundled = own_teacher:open_own", "broken = not_installed:open_it"]
    (about / "entry_points.txt").write_text("\n".join(["[culling.teachers]", *lines]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    yield tmp_path
    sys.modules.pop("own_teacher", None)


def test_a_kind_is_found_by_its_name() -> None:
    assert find_kind("bundled") is open_bundled


def test_another_package_brings_a_kind_of_its_own(installed: Path) -> None:
    teacher = open_part(TeacherPart(kind="own"), ("person",))
    [found] = teacher.label([])[:1] or [None]
    assert (teacher.names, found) == (("person",), None)


def test_a_kind_that_two_packages_bring_is_neithers(installed: Path) -> None:
    with pytest.raises(SettingsError, match=r"'bundled' is brought by .*open_bundled and own_teacher:open_own; remove"):
        find_kind("bundled")


def test_a_package_that_lacks_what_it_needs_is_named(installed: Path) -> None:
    with pytest.raises(MissingExtraError, match="the teacher 'broken' needs not_installed"):
        find_kind("broken")


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"teacher\.kind: .* 'tochvision'; did you mean torchvision\?"):
        find_kind("tochvision")
    known = "known are bundled, detectron2, ensemble, onnx, torchvision, transformers, yolox-nano"
    with pytest.raises(SettingsError, match=known):
        find_kind("x")
