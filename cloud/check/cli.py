"""`culling cloud check`: what the service needs, tried one by one before it starts."""

from __future__ import annotations

import typer

from culling.cloud.check.checks import check_all
from culling.cloud.operate import ConfigFile, Overrides
from culling.cloud.settings import CloudSettings, load_settings
from culling.common.config import parse_overrides, settings_file
from culling.common.process.checks import print_all


def add_commands(app: typer.Typer) -> None:
    """Add the command to those of `culling cloud`."""
    app.command(epilog="Example: culling cloud check --config cloud.toml")(check)


def check(config: ConfigFile = None, override: Overrides = None) -> None:
    """Try everything that the service needs, one line each; exit with the code of the first failure."""
    path = settings_file(CloudSettings, config)
    settings = load_settings(path, parse_overrides(override))
    print(f"ok      settings: {path or 'CULLING_* variables'}")
    raise typer.Exit(print_all(check_all(settings)))
