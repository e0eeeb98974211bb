"""Who a person is by a JSON Web Token that a proxy passes on: signed by an OpenID Connect provider, made for this page.

Only public-key signatures are taken (RFC 8725, 3.1 and 3.2): with a shared secret, whoever can check a token could make
one. `iss`, `aud` and `exp` have to be there and right, so that neither a token made for another client nor an old one
counts. The keys are read from a file, again whenever it changes: the page asks nobody over the network.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from culling.cloud.page.access.person import Person, person, right
from culling.cloud.settings import AccessSettings, Sites
from culling.common.errors import SettingsError

ALGORITHMS = ["ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]
LEEWAY_S = 30
"""By which the clocks of provider and page may differ."""

MOST_BYTES = 16_384
"""Of a token; uvicorn takes headers of 64 kB together."""


class RefusedError(Exception):
    """What somebody says of who it is does not hold; the text says why, without repeating it."""


class Signed:
    """Reads tokens by the keys in a file. Raises SettingsError when that cannot be read at the start."""

    def __init__(self, settings: AccessSettings, path: Path, grouping: Sites) -> None:
        self._settings = settings
        self._path = path
        self._grouping = grouping
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: list[tuple[str | None, Any]] = []
        self._refresh()

    def person(self, token: str) -> Person:
        """Return whom a token is of; nobody's rights where none of its groups has any. Raises RefusedError."""
        claims = self._claims(token)
        who = claims.get(self._settings.person) or claims["sub"]
        if not isinstance(who, str):
            raise RefusedError(f"the claim {self._settings.person} is no text")
        given = claims.get(self._settings.member, [])
        groups = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        known = (self._settings.groups[one] for one in groups if isinstance(one, str) and one in self._settings.groups)
        return person(who, "signed", (right(one.role, one.sites, self._grouping) for one in known))

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MOST_BYTES:
            raise RefusedError("the signed token is too long")
        try:
            return jwt.decode(
                token,
                self._key(jwt.get_unverified_header(token).get("kid")),
                algorithms=ALGORITHMS,
                issuer=self._settings.issuer,
                audience=self._settings.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise RefusedError(f"the signed token does not hold: {type(error).__name__}") from None

    def _key(self, kid: Any) -> Any:
        """Return the key that a token names; the only one there is for one that names none."""
        with self._lock:
            try:
                self._refresh()
            except SettingsError as error:  # it was readable once: a file that is being replaced
                if not self._keys:
                    raise RefusedError(str(error)) from None
            named = [key for name, key in self._keys if kid is None or name in (kid, None)]
        if len(named) != 1:
            raise RefusedError(f"the signed token is by a key that is not in {self._path.name}")
        return named[0]

    def _refresh(self) -> None:
        try:
            now = self._path.stat()
            stamp = (now.st_mtime_ns, now.st_size)
            if stamp == self._stamp:
                return
            self._keys = _keys(self._path.read_bytes())
            self._stamp = stamp
        except OSError as error:
            raise SettingsError(f"access.keys: cannot read {self._path}: {error.strerror}") from None
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError(f"access.keys: {self._path} holds no JWKS, and no public key as PEM: {error}") from None


def _keys(data: bytes) -> list[tuple[str | None, Any]]:
    """Return the public keys of a file, each with its id. Raises ValueError or the like for anything else."""
    if data.lstrip().startswith(b"-----BEGIN"):
        return [(None, load_pem_public_key(data))]
    found = jwt.PyJWKSet.from_dict(json.loads(data)).keys
    usable = [(key.key_id, key) for key in found if key.algorithm_name in ALGORITHMS]
    if not usable:
        raise ValueError(f"none of its keys is for one of {', '.join(ALGORITHMS)}")
    return usable
