from __future__ import annotations

from pathlib import Path

import pytest

from culling.cloud.settings import Site, Sites, load_settings
from culling.common.errors import SettingsError

SITES = Sites({"yard": Site(edges=("yard-1", "ramp")), "gate": Site(edges=("north",))})


def test_an_edge_that_no_site_has_is_a_site_of_its_own() -> None:
    assert [SITES.of(edge) for edge in ("ramp", "barn")] == ["yard", "barn"]
    assert SITES.edges(["yard", "barn"]) == {"yard-1", "ramp", "barn"}


def test_an_edge_called_like_a_site_that_has_not_got_it_is_of_none() -> None:
    assert SITES.of("gate") == ""
    assert SITES.edges(["gate"]) == {"north"}


def test_an_edge_of_a_site_is_no_site() -> None:
    assert SITES.edges(["ramp"]) == frozenset()


def test_a_name_that_is_no_site_is_refused(tmp_path: Path) -> None:
    given = {"service.data_dir": str(tmp_path), "sites": {"the yard": {"edges": ["a"]}}}
    with pytest.raises(SettingsError, match="'the yard' is no name of a site"):
        load_settings(None, given)


@pytest.mark.parametrize(("access", "is_open"), [({}, True), ({"anyone": False}, False)])
def test_anyone_may_look_unless_the_settings_say_otherwise(tmp_path: Path, access: object, is_open: bool) -> None:
    settings = load_settings(None, {"service.data_dir": str(tmp_path), "access": access})
    assert settings.access.is_open is is_open
