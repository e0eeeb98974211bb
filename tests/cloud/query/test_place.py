from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from culling.cloud.query.place import find_place
from culling.common.errors import CullingError, InputError, SettingsError
from culling.common.frame import Detections

EDGE = """
[[camera]]
name = "gate"
[[camera.zone]]
name = "ramp"
polygon = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
[[camera.zone]]
name = "bad"
polygon = [[0.0, 0.0], [2.0, 0.0], [0.5, 1.0]]

[[camera]]
name = "yard"
[[camera.zone]]
name = "ramp"
polygon = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]
[[camera.zone]]
name = "fence"
polygon = [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]]
"""


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(EDGE)
    return path


def standing(said: str, edge: Path | None = None) -> list[bool]:
    """Whether an object that stands left, and one that stands right, of a frame of 100 × 100, counts."""
    feet = np.array([[20, 10, 30, 60], [70, 10, 80, 60]], np.float32)
    found = Detections(feet, np.ones(2, np.float32), np.arange(2))
    left = find_place(said, edge).only(found, 100, 100).labels
    return [label in left for label in range(2)]


def test_an_object_counts_where_it_stands(edge: Path) -> None:
    assert standing("0,0.5 0.5,0.5 0.5,1 0,1") == [True, False]
    assert standing("0,0 1,0 1,0.5 0,0.5") == [False, False], "its upper part does not count"
    assert standing("gate/ramp", edge) == [True, False]
    assert standing("yard/ramp", edge) == [False, True]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("0.1,0.5 0.9,0.5", "at least three"),
        ("0.1,0.5 0.9,0.5 0.9", "fractions of the frame"),
        ("0.1,0.5 0.9,0.5 9,nan", "fractions of the frame"),
        ("10,50 90,50 90,100", "fractions of the frame"),
        ("0,0 0,0 0,0", "all corners lie on one line"),
        ("0.1,0.1 0.2,0.2 0.3,0.3 0.9,0.9", "all corners lie on one line"),
        ("left,half", "fractions of the frame"),
        ("door", r"has no such zone; it has gate/ramp, gate/bad, yard/ramp, yard/fence"),
        ("ramp", "has gate/ramp and yard/ramp; name one"),
        ("bad", "zone gate/bad: corners are fractions"),
    ],
)
def test_a_place_that_is_none_is_refused_in_words(edge: Path, said: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        find_place(said, edge)


def test_a_name_needs_a_file_that_can_be_read(edge: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--edge"):
        find_place("ramp", None)
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        find_place("ramp", tmp_path / "nowhere.toml")
    for text in ("camera = 3", "camera = [1]", "[[camera]\n", "[[camera]]\nzone = 3"):
        edge.write_text(text)
        with pytest.raises(CullingError, match=r"edge\.toml"):
            find_place("ramp", edge)
