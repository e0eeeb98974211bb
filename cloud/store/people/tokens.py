"""Tokens of programs that speak to the page's API: what each may, and until when.

Only their hashes are kept. A token is 256 bits of chance, which nobody guesses from a hash, however fast that is.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from culling.cloud.settings import Role
from culling.cloud.store.index import Index, tokens
from culling.cloud.store.people.deeds import Actor, Deed, write
from culling.common.errors import InputError

PREFIX = "culling_"
"""Scanners of leaked secrets, and the page, know a token by it."""

MOST_NAME = 64


@dataclass(frozen=True)
class Token:
    """What a token may, without the token: no sites are all of them. Times are seconds since the epoch."""

    name: str
    role: Role
    sites: tuple[str, ...]
    created: float
    creator: str
    expires: float
    revoked: float | None


class Tokens:
    """The tokens in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def create(self, name: str, role: Role, sites: Sequence[str], creator: Actor, at: float, expires: float) -> str:
        """Enter a token and return it; nothing can show it again. Raises InputError for a name that is in use."""
        if not 0 < len(name) <= MOST_NAME or not name.isprintable():
            raise InputError(f"{name!r} is no name of a token: use 1 to {MOST_NAME} letters that can be read")
        if role == "admin" and sites:
            raise InputError("an admin is one of every site: leave --site out, or make it an operator")
        secret = PREFIX + secrets.token_urlsafe(32)
        values = {"name": name, "hash": _hash(secret), "role": role, "sites": json.dumps(list(sites))}
        with self._index.write() as connection:
            if connection.execute(sa.select(tokens.c.id).where(_valid(at), tokens.c.name == name)).first() is not None:
                raise InputError(f"there is a token {name} already: revoke it, or take another name")
            times = {"created": at, "creator": creator.who, "expires": expires}
            connection.execute(tokens.insert().values(**values, **times))
            what = {"token": name, "role": role, "sites": list(sites), "expires": expires}
            write(connection, Deed(creator, "token_created", what=what), at)
        return secret

    def find(self, secret: str, at: float) -> Token | None:
        """Return what a token may, None for one that is unknown, revoked or over."""
        with self._index.read() as connection:
            row = connection.execute(tokens.select().where(tokens.c.hash == _hash(secret), _valid(at))).first()
        return None if row is None else _token(row)

    def all(self) -> list[Token]:
        """Return every token there was, newest first."""
        with self._index.read() as connection:
            return [_token(row) for row in connection.execute(tokens.select().order_by(tokens.c.id.desc()))]

    def revoke(self, name: str, by: Actor, at: float) -> None:
        """End a token at once. Raises InputError where none of that name is in use."""
        with self._index.write() as connection:
            mine = tokens.update().where(_valid(at), tokens.c.name == name)
            if connection.execute(mine.values(revoked=at)).rowcount == 0:
                raise InputError(f"no token {name} is in use: see `culling cloud token list`")
            write(connection, Deed(by, "token_revoked", what={"token": name}), at)


def _valid(at: float) -> sa.ColumnElement[bool]:
    return tokens.c.revoked.is_(None) & (tokens.c.expires > at)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: sa.Row[Any]) -> Token:
    sites = tuple(json.loads(row.sites))
    return Token(row.name, row.role, sites, row.created, row.creator, row.expires, row.revoked)
