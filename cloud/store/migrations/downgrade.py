"""`culling cloud downgrade`: a data folder for version 0.2.0, which takes pictures with records for damaged.

0.2.0 works on a later index without a word, but compares the hash of a picture with that of the whole file. A round
there would put every frame that came since the upgrade aside. Without their records the pictures are as it wrote them,
and this version reads them as before; only an index that is lost can no longer be made again from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from culling.cloud.settings import CloudSettings
from culling.cloud.store.folders import only_one
from culling.cloud.store.frames import FrameStore
from culling.cloud.store.index import Index, frames
from culling.cloud.store.objects.places import frame_store
from culling.cloud.store.picture import unseal
from culling.common.atomic import write_all_atomic
from culling.common.clock import SystemClock
from culling.common.errors import StorageError

OLDEST = "0.2.0"
"""The version that cannot tell; a later one refuses an index that it does not know, and reads the records."""

BATCH = 64


def downgrade(settings: CloudSettings) -> int:
    """Take the records off the pictures of all stored frames; return of how many. It may be done again at any time.

    A picture that is gone is left for `fsck` to tell of. Raises StorageError while a service runs, and where index or
    pictures lie elsewhere than in the data folder: 0.2.0 cannot read them there.
    """
    if settings.store.url is not None or settings.store.objects is not None:
        raise StorageError(f"version {OLDEST} reads a data folder alone, without store.url and store.objects")
    with only_one(settings.data_dir):
        index = Index(settings.store_url)
        try:
            store = frame_store(settings, index, SystemClock())
            return sum(_take_off(index, store, rows) for rows in _batches(index))
        finally:
            index.close()


def _batches(index: Index) -> Iterator[list[Any]]:
    query = sa.select(frames.c.camera, frames.c.id, frames.c.bytes).where(frames.c.state == "stored")
    with index.read() as connection:
        rows = connection.execute(query.order_by(frames.c.camera, frames.c.id)).all()
    for _, batch in groupby(enumerate(rows), lambda numbered: numbered[0] // BATCH):
        yield [row for _, row in batch]


def _take_off(index: Index, store: FrameStore, rows: list[Any]) -> int:
    """Write pictures anew, as new files, since a backup may be links to the old ones; then their sizes."""
    paths = [store.path(row.camera, row.id) for row in rows]
    plain = {path: pair for path in paths if (pair := _plain(path)) is not None}
    write_all_atomic({path: jpeg for path, (jpeg, sealed) in plain.items() if sealed})
    with index.write() as connection:
        for row, path in zip(rows, paths, strict=True):
            if path in plain and (size := len(plain[path][0])) != row.bytes:  # also of one that was cut short
                connection.execute(frames.update().where(frames.c.id == row.id).values(bytes=size))
    return sum(sealed for _, sealed in plain.values())


def _plain(path: Path) -> tuple[bytes, bool] | None:
    """Return the JPEG of a file, and whether it has a record; None where there is no file."""
    try:
        jpeg, record = unseal(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    return jpeg, record is not None
