"""What goes wrong in a database, in the words of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from culling.common.errors import StorageError
from culling.common.logs import redact


class DeposedError(StorageError):
    """Whoever wanted to change something is not the one any more that may: another may have taken its place."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise what a database says as a StorageError; a broken unique constraint stays SQLAlchemy's IntegrityError."""
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise StorageError(f"index: {_first_line(getattr(error, 'orig', None) or error)}") from error


def _first_line(error: BaseException) -> str:
    return redact((str(error) or type(error).__name__).splitlines()[0])
