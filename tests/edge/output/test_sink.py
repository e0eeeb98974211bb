from __future__ import annotations

from pathlib import Path

import pytest

from culling.common.errors import SettingsError
from culling.edge.output.sink import Around, build
from support.clock import FakeClock
from support.outputs import batch, settings

MODULE = """
from culling.edge.output.sink import Sink

class Kept(Sink):
    got = []
    where = "a list"

    def open(self):
        pass

    def send(self, batch):
        self.got.append((self.settings.options["topic"], batch.id))

    def close(self):
        pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that brings two kinds, one of which cannot be loaded."""
    (tmp_path / "culling_kept.py").write_text(MODULE)
    told = tmp_path / "culling_kept-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: culling-kept\nVersion: 1\n")
    (told / "entry_points.txt").write_text("[culling.outputs]\nkept = culling_kept:Kept\ntorn = culling_kept:Torn\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("package")
def test_another_package_brings_a_kind_and_its_options() -> None:
    sink = build(settings("kept", options={"topic": "yard"}), Around(FakeClock()))
    assert sink.check() == "a list"
    sink.send(batch(name="7"))
    assert sink.got == [("yard", "7")]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("package")
def test_a_kind_that_cannot_be_loaded_is_a_wrong_setting_of_that_output() -> None:
    with pytest.raises(SettingsError, match="output torn: kind: culling_kept:Torn cannot be loaded"):
        build(settings("torn"), Around(FakeClock()))
    with pytest.raises(SettingsError, match="known are jsonl, kept, mqtt"):
        build(settings("kafka"), Around(FakeClock()))
