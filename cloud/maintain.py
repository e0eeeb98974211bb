"""Commands that keep the service's data: `backup`, `restore`, `migrate` and `downgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from culling.cloud.operate import ConfigFile, Overrides, settings_of
from culling.cloud.store import backup as copies
from culling.cloud.store.index import Index
from culling.common.errors import InputError
from culling.common.progress import shown


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those of `culling cloud`."""
    app.command(epilog="Example: culling cloud backup /mnt/backup/2026-11-28")(backup)
    app.command(epilog="Example: culling cloud restore /mnt/backup/2026-11-28")(restore)
    app.command(epilog="Example: culling cloud migrate")(migrate)
    app.command(epilog="Example: culling cloud downgrade 0.2.0")(downgrade)


def backup(
    out: Annotated[Path, typer.Argument(help="New or empty folder to copy to.")],
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Copy index, models, frames, keys and audit log to a folder, also while the service runs.

    The copy holds the service's secret keys: keep it where only you can read it. The settings file is not part of it.
    """
    settings = settings_of(config, override)
    with shown("backup", "file", copies.count_files(settings.data_dir)) as show:
        copied = copies.backup(settings.data_dir, out, show, settings.store.url)
    print(f"copied {copied.files} files, {copied.bytes / 1e6:.1f} MB, and the index to {out}")


def restore(
    source: Annotated[Path, typer.Argument(help="Folder that `culling cloud backup` wrote.")],
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Copy a backup back into an empty data folder, with the service stopped.

    Frames that came while the backup was made are indexed again when the service starts.
    """
    settings = settings_of(config, override)
    with shown("restore", "file", copies.count_files(source)) as show:
        copied = copies.restore(source, settings.data_dir, show, settings.store.url)
    print(f"restored {copied.files} files, {copied.bytes / 1e6:.1f} MB, and the index to {settings.data_dir}")


def migrate(config: ConfigFile = None, override: Overrides = None) -> None:
    """Bring the index that `store.url` names up to this version, or make it; the one in the data folder does so itself.

    Back the database up first: an earlier version refuses an index that took steps unknown to it.
    """
    index = Index(settings_of(config, override).store_url, migrating=True)
    index.close()
    print(f"the index took {len(index.migrated)} steps: it is up to date")


def downgrade(
    version: Annotated[str, typer.Argument(help="The version to go back to: 0.2.0.")],
    config: ConfigFile = None,
    override: Overrides = None,
) -> None:
    """Make the data folder ready for version 0.2.0, with the service stopped; no other needs it.

    0.2.0 takes pictures that this version stored for damaged, as they have a record of their frame behind them.
    """
    from culling.cloud.store.migrations import downgrade as down

    if version != down.OLDEST:
        raise InputError(f"{version} needs no change of the data folder: install it as the runbook says (Upgrade)")
    taken = down.downgrade(settings_of(config, override))
    print(f"took the records off {taken} pictures: install culling {down.OLDEST} and start it")
