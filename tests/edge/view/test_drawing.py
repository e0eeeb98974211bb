from __future__ import annotations

import tomllib
from typing import Any

import pytest

from culling.common.errors import SettingsError
from culling.edge.camera.settings import CameraSettings
from culling.edge.view.drawing import drawn, rewritten, to_paste

SHAPE = [[0.1, 0.2], [0.5, 0.2], [0.5, 0.8125]]
NONE: dict[str, Any] = {"mask": [], "ignore": [], "zone": []}
ALL: dict[str, Any] = {
    "mask": [SHAPE, SHAPE],
    "ignore": [{"polygon": SHAPE, "classes": ["car", 'a "b"']}],
    "zone": [{"name": "yard", "polygon": SHAPE}, {"name": "door", "polygon": SHAPE, "score": 0.3}],
}
FILE = """# top
[agent]
state_dir = "x" # where

[[camera]]
name = "gate" # the gate
url = "a"

# an old zone
[[camera.zone]]
name = "old"
polygon = [[0,0],[1,0],[1,1]]

[[camera]]
name = "street"
url = "b"

[[camera.ignore]]
polygon = [[0,0],[1,0],[1,1]]

[selector]
# keep this
window_s = 3
"""


def test_what_is_drawn_is_what_the_settings_say_without_what_stands_for_itself() -> None:
    assert drawn(CameraSettings(name="gate", url="a", **ALL)) == ALL
    assert drawn(CameraSettings(name="gate", url="a")) == NONE


def test_the_toml_to_paste_goes_below_a_camera_and_says_the_same() -> None:
    text = to_paste("gate", ALL)
    camera = tomllib.loads(f'[[camera]]\nname = "gate"\nurl = "a"\n{text}')["camera"][0]
    assert drawn(CameraSettings(**camera)) == ALL
    assert text.splitlines()[0] == "# in the [[camera]] table of gate, in place of its regions"
    assert "polygon = [[0.1, 0.2], [0.5, 0.2], [0.5, 0.8125]]" in text.splitlines(), "a polygon is one line"


def test_without_regions_it_says_what_to_take_out() -> None:
    assert to_paste("gate", NONE).startswith("# gate has no region: take mask")


@pytest.mark.parametrize("camera", ["gate", "street"])
@pytest.mark.parametrize("regions", [ALL, NONE, {**NONE, "zone": ALL["zone"]}])
def test_only_the_regions_of_that_camera_change_in_a_file(camera: str, regions: dict[str, Any]) -> None:
    told, before = rewritten(FILE, camera, regions), tomllib.loads(FILE)
    after = tomllib.loads(told)
    for one, was in zip(after["camera"], before["camera"], strict=True):
        if one["name"] == camera:
            assert {kind: one.get(kind, []) for kind in NONE} == regions
        else:
            assert one == was
    for comment in ("# top", "# where", "# the gate", "# keep this"):
        assert comment in told
    assert after["selector"] == before["selector"]


def test_what_was_written_can_be_written_again() -> None:
    once = rewritten(FILE, "gate", ALL)
    assert rewritten(once, "gate", ALL).count("[[camera.zone]]") == once.count("[[camera.zone]]")
    assert tomllib.loads(rewritten(once, "gate", NONE))["camera"][0] == {"name": "gate", "url": "a"}


def test_cameras_in_one_line_are_changed_there() -> None:
    told = rewritten('camera = [{name = "gate", url = "a"}]\n', "gate", ALL)
    assert drawn(CameraSettings(**tomllib.loads(told)["camera"][0])) == ALL


def test_a_camera_that_is_not_in_the_file_is_named() -> None:
    with pytest.raises(SettingsError, match=r"no .*camera.* named yard: paste the TOML"):
        rewritten(FILE, "yard", ALL)
