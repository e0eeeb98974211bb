"""Regions as a page draws them: as TOML to paste, and in a settings file of which the rest stays as it is.

What is drawn is a table of `mask`, `ignore` and `zone`, as in `[[camera]]`. tomlkit writes it, since it keeps
comments and order; what came of it is held against what it is to say.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Table

from culling.common.errors import SettingsError
from culling.edge.camera.settings import CameraSettings
from culling.edge.regions import IgnoreSettings, ZoneSettings

Drawn = dict[str, Any]
KINDS = ("mask", "ignore", "zone")
ZONE_SCORE = ZoneSettings.model_fields["score"].default


def drawn(camera: CameraSettings) -> Drawn:
    """Return a camera's regions as tables, without what stands for itself."""
    return {
        "mask": [_points(polygon) for polygon in camera.mask],
        "ignore": [_region(one) for one in camera.ignore],
        "zone": [
            {"name": zone.name, **_region(zone), **({} if zone.score == ZONE_SCORE else {"score": zone.score})}
            for zone in camera.zone
        ],
    }


def to_paste(camera: str, regions: Drawn) -> str:
    """Return regions as TOML that takes the place of those in the camera's table."""
    if not any(regions.values()):
        return f"# {camera} has no region: take mask, [[camera.ignore]] and [[camera.zone]] out of its table\n"
    told, table = tomlkit.document(), tomlkit.table(is_super_table=True)
    _put(table, regions)
    if regions["mask"]:
        told.add("mask", table.pop("mask"))
    if len(table):
        told.add("camera", table)
    text = tomlkit.dumps(told).strip().replace("\n\n\n", "\n\n")
    return f"# in the [[camera]] table of {camera}, in place of its regions\n{text}\n"


def rewritten(text: str, camera: str, regions: Drawn) -> str:
    """Return the text of a settings file with other regions for a camera; comments and all else are kept.

    Raises SettingsError where the file has no such camera, or is written in a way that cannot be changed like this.
    """
    wanted = tomllib.loads(text)
    _put_plain(_table(wanted.get("camera", ()), camera), regions)
    try:
        document = tomlkit.parse(text)
        _put(_table(document["camera"], camera), regions)
        told = tomlkit.dumps(document)
        if tomllib.loads(told) == wanted:
            return told
    except (TOMLKitError, ValueError, TypeError):
        pass
    raise SettingsError(f"the table of camera {camera} is written in a way that is not changed here: paste the TOML")


def _table(cameras: Sequence[Any], name: str) -> Any:
    for camera in cameras:
        if camera.get("name") == name:
            return camera
    raise SettingsError(f"the settings file has no [[camera]] named {name}: paste the TOML where its settings are")


def _put_plain(table: Any, regions: Drawn) -> None:
    for kind in KINDS:
        table.pop(kind, None)
        if regions[kind]:
            table[kind] = regions[kind]


def _put(table: Table | InlineTable, regions: Drawn) -> None:
    """Replace the regions in a table of a document."""
    inline = isinstance(table, InlineTable)
    for kind in KINDS:
        table.pop(kind, None)
    for kind in KINDS:
        if regions[kind]:
            plain = kind == "mask" or inline
            table.append(kind, _array(regions[kind], long=not inline) if plain else _tables(regions[kind]))


def _array(values: Sequence[Any], long: bool = False) -> Array:
    """Return values on one line; where that gets `long`, on one for each."""
    made = tomlkit.array()
    made.extend(values)
    return made.multiline(long and len(values) > 1)


def _tables(regions: Sequence[Mapping[str, Any]]) -> AoT:
    made = tomlkit.aot()
    for region in regions:
        table = tomlkit.table()
        for key, value in region.items():
            table.add(key, _array(value) if isinstance(value, list) else value)
        table.add(tomlkit.nl())
        made.append(table)
    return made


def _region(one: IgnoreSettings | ZoneSettings) -> Drawn:
    return {"polygon": _points(one.polygon), **({"classes": list(one.classes)} if one.classes else {})}


def _points(polygon: Sequence[tuple[float, float]]) -> list[list[float]]:
    return [list(point) for point in polygon]
