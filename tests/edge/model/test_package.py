from __future__ import annotations

from pathlib import Path

import pytest

from culling.common.errors import InputError, ManifestError
from culling.edge.model.package import initial_package, signing_keys
from culling.edge.settings import EdgeSettings, load_settings
from support import tiny
from support.site import Site

NOW = 1_800_000_000.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    shipped = site.ship(tiny.student(), now=NOW)
    (tmp_path / "initial.onnx").write_bytes(shipped.model)
    (tmp_path / "initial.gate.manifest").write_bytes(shipped.signed)
    site.settings["student"] = {"initial": str(tmp_path / "initial.onnx")}
    return site


def settings(site: Site) -> EdgeSettings:
    return load_settings(site.write(), {})


def test_the_installed_model_comes_with_its_verified_manifest(site: Site) -> None:
    package = initial_package(settings(site), "gate", NOW)

    assert package is not None
    assert package.manifest.model_id == "gate-1"
    assert package.model == site.folder / "initial.onnx"


def test_without_an_installed_model_there_is_none(site: Site) -> None:
    del site.settings["student"]

    assert initial_package(settings(site), "gate", NOW) is None


def test_a_missing_file_is_named(site: Site) -> None:
    (site.folder / "initial.onnx").unlink()

    with pytest.raises(InputError, match=r"initial\.onnx"):
        initial_package(settings(site), "gate", NOW)


def test_a_camera_that_came_after_the_kit_waits_for_its_first_model(site: Site) -> None:
    assert initial_package(settings(site), "yard", NOW) is None


def test_a_manifest_of_another_key_is_refused(site: Site) -> None:
    stranger = Site(site.folder)
    (site.folder / "initial.gate.manifest").write_bytes(stranger.ship(tiny.student(), now=NOW).signed)

    with pytest.raises(ManifestError) as raised:
        initial_package(settings(site), "gate", NOW)
    assert raised.value.reason == "unknown-key"


def test_a_manifest_of_another_camera_is_refused(site: Site) -> None:
    (site.folder / "initial.yard.manifest").write_bytes((site.folder / "initial.gate.manifest").read_bytes())

    with pytest.raises(ManifestError) as raised:
        initial_package(settings(site), "yard", NOW)
    assert raised.value.reason == "wrong-camera"


@pytest.mark.parametrize("days", [400, -400])
def test_a_camera_never_loses_its_installed_model_to_the_calendar(site: Site, days: int) -> None:
    package = initial_package(settings(site), "gate", NOW + days * 86_400)

    assert package is not None, "an old model sees more than none; and a clock may be wrong"
    assert package.manifest.model_id == "gate-1"


def test_every_signing_key_is_known_by_its_id(site: Site) -> None:
    other = Site(site.folder)
    site.settings["cloud"]["signing_keys"] += other.settings["cloud"]["signing_keys"]

    assert len(signing_keys(settings(site))) == 2
