"""`culling settings SIDE` lists every key with type, default and meaning; `culling print-config SIDE` what is in force.

Both take their side from the entry points of `culling.settings`, and load its settings only when they are called.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from culling.common import config
from culling.common.errors import SettingsError
from culling.common.settings.keys import Key, heading, keys, nearest, sections

SETTINGS = "culling.settings"
"""Entry points of this group name the `Settings` class of one side."""

WIDTH = 100

Side = Annotated[str, typer.Argument(help="Whose settings: edge or cloud.", metavar="SIDE")]


def add_commands(app: typer.Typer) -> None:
    """Add the two commands to `culling`."""
    app.command(epilog="Example: culling print-config edge --set agent.drain_s=5")(print_config)
    app.command("settings", epilog="Example: culling settings edge selector")(list_settings)


def print_config(
    side: Side,
    file: Annotated[Path | None, typer.Option("--config", help="TOML file to read.", show_default="searched")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, see `culling settings`; repeatable."),
    ] = None,
) -> None:
    """Print every setting in force, as TOML, with secrets hidden."""
    model = settings_class(side)
    overrides = config.parse_overrides(override)
    print(config.print_config(config.load(model, config.settings_file(model, file), overrides)), end="")


def list_settings(
    side: Side,
    section: Annotated[str | None, typer.Argument(help="Only this section, e.g. round; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List every setting: key, type, default and meaning. A file, CULLING_* variables and `--set` take them."""
    model = settings_class(side)
    if section is not None and section not in sections(model):
        known = ", ".join(sections(model))
        raise SettingsError(f"the {side} has no section {section}; {_meant(model, section)}known are {known}")
    found = [key for key in keys(model) if section in (None, key.top)]
    if as_json:
        print(json.dumps([{"key": key.dotted} | _plain(key) for key in found], indent=2, ensure_ascii=False))
        return
    print("\n\n".join(_section(model, name, found) for name in sections(model) if section in (None, name)))


def settings_class(side: str) -> type[config.Settings]:
    """Return the settings class of one side, "edge" or "cloud". Raises BadParameter for another."""
    sides = {entry.name: entry for entry in entry_points(group=SETTINGS)}
    if side not in sides:
        raise typer.BadParameter(f"{side!r} is not one of {', '.join(sorted(sides))}", param_hint="'SIDE'")
    return sides[side].load()  # type: ignore[no-any-return]


def _meant(model: type[config.Settings], section: str) -> str:
    return f"did you mean {close}? " if (close := nearest(model, (section,))) else ""


def _section(model: type[config.Settings], name: str, found: list[Key]) -> str:
    about = inspect.cleandoc(sections(model)[name].__doc__ or "").partition(": ")[2]
    head = _filled(_bare(f"{heading(model, name)} {about}"))
    return "\n\n".join([head, *(_entry(key) for key in found if key.top == name)])


def _entry(key: Key) -> str:
    told = _plain(key)
    value = "required" if told["default"] == "required" else f"default {told['default']}"
    meaning = _filled(told["meaning"], indent="      ")
    return f"  {key.dotted}   {told['type']}; {value}\n{meaning}"


def _plain(key: Key) -> dict[str, str]:
    """Return type, default and meaning without the marks of Markdown."""
    return {name: _bare(text) for name, text in asdict(key).items() if name in ("type", "default", "meaning")}


def _bare(text: str) -> str:
    return text.replace("`", "").replace("**", "")


def _filled(text: str, indent: str = "") -> str:
    """Return `text` in lines of `WIDTH`; a name with a hyphen in it stays whole, to be copied."""
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
