"""Objects in a bucket of S3, or of what speaks its protocol, by obstore.

Keys, region and another endpoint come from the environment, as every tool of S3 takes them: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, and AWS_ALLOW_HTTP for one without TLS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

from culling.cloud.store.objects.objects import Item, LostError
from culling.common.errors import StorageError
from culling.common.logs import redact

SIDE_BY_SIDE = 16
"""Requests under way at a time: each of them waits for the network, and not for the one before it."""

CONNECT_S = 5
ANSWER_S = 20
TRIES = 3
"""A request that fails is repeated; an edge sends its frame again anyway, and must not wait for minutes first."""


class Bucket:
    """The objects below `url`, e.g. `s3://bucket/prefix`, which any number of services share."""

    shared = True

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ModuleNotFoundError as error:
            raise StorageError(
                f"store.objects cannot be used without {error.name}: pip install 'culling[s3]'"
            ) from None
        self._url = url.rstrip("/")
        self._obstore = obstore
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, "bucket")
        with self._translated("opened"):
            self._store = S3Store.from_url(
                url,
                client_options={
                    "timeout": timedelta(seconds=ANSWER_S),
                    "connect_timeout": timedelta(seconds=CONNECT_S),
                    "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",  # else these options end it
                },
                retry_config={"max_retries": TRIES, "retry_timeout": timedelta(seconds=ANSWER_S)},
            )

    def put(self, contents: Mapping[str, bytes]) -> None:
        """Write objects, side by side; the store has made them durable when it answers."""
        self._each(lambda name: self._obstore.put(self._store, name, contents[name]), contents, "written")

    def get(self, name: str) -> bytes:
        """Return an object."""
        with self._translated("read", name):
            return bytes(self._obstore.get(self._store, name).bytes())

    def range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of an object."""
        with self._translated("read", name):
            return bytes(self._obstore.get_range(self._store, name, start=offset, length=length))

    def list(self, folder: str) -> Iterator[Item]:
        """Yield every object below a folder, a page of a thousand at a time."""
        with self._translated("listed", folder):
            for page in self._obstore.list(self._store, folder):
                for one in page:
                    yield Item(one["path"], one["size"], one["last_modified"].timestamp())

    def delete(self, names: Collection[str]) -> None:
        """Remove objects."""
        if names:
            with self._translated("removed"):
                self._obstore.delete(self._store, list(names))

    def move(self, name: str, to: str) -> None:
        """Copy an object and remove it: S3 knows no other way."""
        try:
            with self._translated("copied", name):
                self._obstore.copy(self._store, name, to)
        except LostError:
            return
        self.delete([name])

    def place(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self._url}/{name}"

    def _each(self, do: Callable[[str], object], names: Collection[str], done: str) -> None:
        def one(name: str) -> None:
            with self._translated(done, name):
                do(name)

        for under_way in [self._pool.submit(one, name) for name in names]:
            under_way.result()

    @contextmanager
    def _translated(self, done: str, name: str = "") -> Iterator[None]:
        from obstore.exceptions import BaseError, NotFoundError

        what = self.place(name) if name else self._url
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if done not in ("read", "copied") or not self._is_there():
                raise StorageError(f"{what} cannot be {done}: there is no such bucket, or it has gone") from error
            raise LostError(f"{what}: there is no such object") from error
        except (BaseError, ValueError, OSError) as error:
            raise StorageError(f"{what} cannot be {done}: {_told(error)}") from error

    def _is_there(self) -> bool:
        """Return whether the bucket can be listed: without it nothing is found, and nothing is lost."""
        from obstore.exceptions import BaseError

        try:
            next(iter(self._obstore.list(self._store, "no-such-folder", chunk_size=1)), None)
        except (BaseError, OSError):
            return False
        return True


def _told(error: Exception) -> str:
    """Return the first line of an error, without what a URL in it may hold."""
    return redact((str(error) or type(error).__name__).splitlines()[0])
