"""Who may ask a page for what: the token, where a request carries it, and whether another site's page sent it."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from culling.common.atomic import write_atomic
from culling.common.errors import StorageError


class Headers(Protocol):
    """A request's headers, which are found by their lower-case names."""

    def get(self, name: str, default: Any, /) -> Any:
        """Return a header, or `default`."""


def make_token(path: Path) -> str:
    """Return the token that requests must carry, created once; the file `path` holds it, readable by its owner alone.

    Raises StorageError.
    """
    try:
        if (token := path.read_text(encoding="utf-8-sig").strip()) and not path.stat().st_mode & 0o077:
            return token
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    token = secrets.token_urlsafe(32)
    write_atomic(path, f"{token}\n".encode(), mode=0o600)
    return token


def token_of(headers: Headers) -> str | None:
    """Return the token that a request carries; None where it carries none, but for example a proxy's password."""
    scheme, _, given = str(headers.get("authorization", "")).partition(" ")
    found: str | None = headers.get("x-culling-token", given if scheme.lower() == "bearer" else None)
    return found


def holds(headers: Headers, token: str) -> bool:
    """Return whether a request carries the token, in a time that tells nothing of it."""
    given = token_of(headers)
    return given is not None and hmac.compare_digest(given.encode(), token.encode())


def own(origin: str, host: str, names: Sequence[str]) -> bool:
    """Return whether a page of `origin` is ours: loaded from the `host` asked, or from one of a proxy's `names`."""
    try:
        name = urlsplit(origin).hostname
    except ValueError:  # an IPv6 address that is none
        return False
    return origin.partition("://")[2] == host or name in {known.lower() for known in names}
