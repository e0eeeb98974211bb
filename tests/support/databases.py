"""Where the index of a `CloudState` lies: in its data folder, unless a test runs on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from support.postgres import Postgres


class Databases:
    """The databases of one test, one for each folder."""

    current: ClassVar[Databases | None] = None

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._urls: dict[Path, str] = {}

    def url(self, folder: Path) -> str:
        if folder not in self._urls:
            self._urls[folder] = self._server.take()
        return self._urls[folder]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        Databases.current = self
        try:
            yield
        finally:
            Databases.current = None
            for url in self._urls.values():
                self._server.give_back(url)


def store_url(folder: Path) -> dict[str, str]:
    """Return the settings of `[store]` that say where the index of a data folder lies."""
    return {} if Databases.current is None else {"url": Databases.current.url(folder)}
