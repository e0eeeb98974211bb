"""Regions that somebody has drawn: checked as settings are, written to the settings file, and taken by the agent.

It goes the way of a person with an editor: the file is replaced as a whole, and the agent is asked by `reload.py` to
read it, as `culling edge reload` does. Nothing is written that the settings would refuse.
"""

from __future__ import annotations

import stat
import threading
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from culling.common.atomic import write_atomic
from culling.common.config import checked
from culling.common.errors import CullingError, InputError, SettingsError, StorageError
from culling.edge.camera.settings import CameraSettings
from culling.edge.reload import ask
from culling.edge.settings import EdgeSettings
from culling.edge.view.drawing import KINDS, Drawn, drawn, rewritten, to_paste

log = structlog.get_logger(__name__)

ANSWER_S = 60.0
"""To take other regions is quick, but a model may be in the making before them."""


class WrittenError(CullingError):
    """The settings file is written, but what it says is not in force."""


class Desk:
    """The regions of an agent's cameras; `settings` are those in force, `file` is where they stand, if anywhere."""

    def __init__(self, settings: Callable[[], EdgeSettings], file: Path | None) -> None:
        self._settings = settings
        self._file = file
        self._one_at_a_time = threading.Lock()

    def regions(self, name: str) -> Drawn:
        """Return the regions of a camera that are in force. Raises InputError for a camera that there is not."""
        return drawn(_camera(self._settings(), name))

    def check(self, name: str, regions: Mapping[str, Any]) -> Drawn:
        """Return regions as they would be in force. Raises SettingsError, with the line that a file with them gets."""
        settings = self._settings()
        _camera(settings, name)
        stated = settings.model_dump(exclude_unset=True)
        if strange := sorted(set(regions) - set(KINDS)):
            raise SettingsError(f"{strange[0]!r} is no kind of region: expected {', '.join(KINDS)}")
        others = {kind: regions.get(kind, ()) for kind in KINDS}
        cameras = [
            {**camera.model_dump(exclude_unset=True), **(others if camera.name == name else {})}
            for camera in settings.camera
        ]
        return drawn(_camera(checked(EdgeSettings, {**stated, "camera": cameras}, self._file), name))

    def paste(self, name: str, regions: Mapping[str, Any]) -> str:
        """Return regions as TOML for the camera's table. Raises SettingsError where they are wrong."""
        return to_paste(name, self.check(name, regions))

    def apply(self, name: str, regions: Mapping[str, Any], before: Any) -> str:
        """Write regions to the settings file and have the agent take them; return what changed.

        `before` are the regions that whoever drew began with. Raises a CullingError; unless that is a WrittenError,
        nothing has changed. An InputError is mended by reading anew what there is.
        """
        with self._one_at_a_time:
            wanted, now = self.check(name, regions), self.regions(name)
            file = self._there()
            if before != now:
                raise InputError(f"the regions of {name} have changed since this page read them: read them anew")
            self._write(file, name, wanted, now)
            told = self._reload(wanted, name)
        log.info("regions_applied", camera=name, **{kind: len(wanted[kind]) for kind in KINDS})
        return told

    def reread(self, name: str) -> str:
        """Have the agent take the settings file as it is, for who drew regions of a camera; return what changed.

        Raises a CullingError where the agent goes on as it was.
        """
        with self._one_at_a_time:
            _camera(self._settings(), name)
            self._there()
            return ask(self._settings().agent.state_dir, ANSWER_S)

    def _there(self) -> Path:
        if self._file is None:
            raise SettingsError("the settings of this agent stand in no file, but in variables: change them there")
        return self._file

    def _write(self, file: Path, name: str, wanted: Drawn, now: Drawn) -> None:
        try:
            text, mode = file.read_text(encoding="utf-8-sig"), stat.S_IMODE(file.stat().st_mode)
            tables = tomllib.loads(text).get("camera", ())
        except OSError as error:
            raise StorageError(f"cannot read {file}: {error.strerror}") from None
        except ValueError as error:
            raise SettingsError(f"{file}: not valid TOML: {error}: mend it first") from None
        there = [table for table in tables if isinstance(table, dict) and table.get("name") == name]
        if there and _stated(there[0]) != now:
            raise InputError(f"{file} has other regions for {name} than the agent: have the agent read it anew")
        write_atomic(file.resolve(), rewritten(text, name, wanted).encode(), mode)

    def _reload(self, wanted: Drawn, name: str) -> str:
        settings = self._settings()
        try:
            told = ask(settings.agent.state_dir, ANSWER_S)
        except CullingError as error:
            raise WrittenError(f"{self._file} is written, but {error}") from None
        if self.regions(name) != wanted:
            raise WrittenError(
                f"{self._file} is written, but not in force: CULLING_CAMERA or --set camera says otherwise"
            )
        return told


def _camera(settings: EdgeSettings, name: str) -> CameraSettings:
    for camera in settings.camera:
        if camera.name == name:
            return camera
    raise InputError(f"there is no camera {name}")


def _stated(table: Mapping[str, Any]) -> Drawn | None:
    """Return the regions of a camera's table in a file; None where they are wrong."""
    regions = {kind: table[kind] for kind in KINDS if kind in table}
    try:
        return drawn(CameraSettings(**{"name": "any", "url": "any", **regions}))
    except ValueError:
        return None
