from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from culling.common.errors import SettingsError
from culling.edge.cascade.settings import CascadeSettings
from culling.edge.settings import load_settings
from support.site import Site


def test_it_is_off_by_default_and_for_cameras_that_are_not_named() -> None:
    assert not CascadeSettings().asks("gate")
    assert CascadeSettings(per_minute=1).asks("gate")
    assert CascadeSettings(per_minute=1, cameras=("gate",)).asks("gate")
    assert not CascadeSettings(per_minute=1, cameras=("yard",)).asks("gate")
    assert not CascadeSettings(per_minute=0, cameras=("gate",)).asks("gate")


@pytest.mark.parametrize("changes", [{"per_minute": -1}, {"share": 0.0}, {"share": 1.1}, {"deadline_s": 0.0}])
def test_what_makes_no_sense_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        CascadeSettings(**changes)  # type: ignore[arg-type]


def test_a_camera_that_there_is_not_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.settings["cascade"] = {"per_minute": 5, "cameras": ["gate", "attic"]}
    with pytest.raises(SettingsError, match="cascade: cameras: there is no camera 'attic'"):
        load_settings(site.write(), {})
