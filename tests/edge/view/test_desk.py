from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from culling.common.errors import CullingError, InputError, SettingsError
from culling.edge.reload import LOCK
from culling.edge.settings import load_settings
from culling.edge.view.desk import Desk, WrittenError
from support.site import CAMERA, Site
from support.viewing import CROSSED, LEFT

NONE: dict[str, Any] = {"mask": [], "ignore": [], "zone": []}
MASKED = {**NONE, "mask": [LEFT]}


def desk(folder: Path, **changes: Any) -> Desk:
    site = Site(folder)
    site.settings |= changes
    path = site.write()
    settings = load_settings(path, {})
    return Desk(lambda: settings, path)


def test_regions_are_told_as_they_would_be_in_force(tmp_path: Path) -> None:
    found = desk(tmp_path).check(CAMERA, {"zone": [{"name": "yard", "polygon": LEFT, "classes": [], "score": 0.5}]})
    assert found == {**NONE, "zone": [{"name": "yard", "polygon": LEFT}]}


def test_what_other_settings_need_of_a_region_is_kept(tmp_path: Path) -> None:
    outputs = [{"kind": "jsonl", "path": "out.jsonl", "zones": ["yard"]}]
    camera = {"name": CAMERA, "url": "clip.mp4", "zone": [{"name": "yard", "polygon": LEFT}]}
    with pytest.raises(SettingsError, match="there is no zone 'yard'"):
        desk(tmp_path, camera=[camera], output=outputs).check(CAMERA, NONE)


def test_a_secret_stands_in_no_error(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with pytest.raises(SettingsError) as refused:
        desk(tmp_path).check(CAMERA, {"mask": [CROSSED]})
    assert site.secret not in str(refused.value)


def test_a_name_of_the_wrong_form_is_told_the_form_in_words(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"zone\.0\.name: expected letters, digits, \. _ and -, at most 64"
    ) as found:
        desk(tmp_path).check(CAMERA, {"zone": [{"name": "the gate", "polygon": LEFT}]})
    assert "[A-Z" not in str(found.value)


def test_a_camera_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no camera yard"):
        desk(tmp_path).check("yard", NONE)


def test_settings_that_stand_in_no_file_are_not_written(tmp_path: Path) -> None:
    settings = load_settings(Site(tmp_path).write(), {})
    with pytest.raises(SettingsError, match="stand in no file"):
        Desk(lambda: settings, None).apply(CAMERA, MASKED, NONE)
    with pytest.raises(SettingsError, match="stand in no file"):
        Desk(lambda: settings, None).reread(CAMERA)


def test_a_file_that_has_become_wrong_is_left_as_it_is(tmp_path: Path) -> None:
    found, path = desk(tmp_path), tmp_path / "edge.toml"
    path.write_text("[agent\n")
    with pytest.raises(SettingsError, match="not valid TOML"):
        found.apply(CAMERA, MASKED, NONE)
    assert path.read_text() == "[agent\n"


def test_a_camera_of_a_variable_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    found, path = desk(tmp_path), tmp_path / "edge.toml"
    text = path.read_text().replace('name = "gate"', 'name = "other"')
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"the settings file has no .* named gate"):
        found.apply(CAMERA, MASKED, NONE)
    assert path.read_text() == text


def test_where_no_agent_takes_them_it_is_said_that_the_file_is_written(tmp_path: Path) -> None:
    found, path = desk(tmp_path), tmp_path / "edge.toml"
    assert not (tmp_path / "state" / LOCK).exists()
    with pytest.raises(WrittenError, match=rf"{path} is written, but no agent runs on"):
        found.apply(CAMERA, MASKED, NONE)
    assert load_settings(path, {}).camera[0].mask
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    settings = load_settings(Site(tmp_path).write(), {})
    (tmp_path / "edge.toml").rename(tmp_path / "real.toml")
    (tmp_path / "edge.toml").symlink_to("real.toml")
    with pytest.raises(CullingError, match="is written"):
        Desk(lambda: settings, tmp_path / "edge.toml").apply(CAMERA, MASKED, NONE)
    assert (tmp_path / "edge.toml").is_symlink()
    assert "mask" in (tmp_path / "real.toml").read_text()


def test_a_file_that_somebody_else_has_changed_is_not_written_over(tmp_path: Path) -> None:
    found, path = desk(tmp_path), tmp_path / "edge.toml"
    text = path.read_text().replace('name = "gate"', f'name = "gate"\nmask = [{LEFT}]')
    path.write_text(text)
    with pytest.raises(InputError, match=r"has other regions for gate than the agent: have the agent read it anew"):
        found.apply(CAMERA, NONE, NONE)
    assert path.read_text() == text
