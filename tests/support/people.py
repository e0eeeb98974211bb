"""A provider of OpenID Connect, as far as the page sees it: keys in a file, and tokens that it signs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER, AUDIENCE = "https://sign-in.example", "culling"
GROUPS = {
    "guards": {"role": "operator", "sites": ["yard"]},
    "lookers": {"role": "viewer", "sites": ["yard"]},
    "owners": {"role": "admin"},
}


class Provider:
    """Signs tokens by a key of its own, whose public half is in `file`, a JWKS."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "jwks.json"
        self.renew()

    def renew(self, kid: str = "one") -> None:
        """Take another key, and write it down."""
        self.key, self.kid = ec.generate_private_key(ec.SECP256R1()), kid
        public = json.loads(ECAlgorithm.to_jwk(self.key.public_key()))
        self.file.write_text(json.dumps({"keys": [{**public, "kid": kid, "alg": "ES256", "use": "sig"}]}))

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return `[access]` of a page that knows people by it."""
        known = {"keys": str(self.file), "issuer": ISSUER, "audience": AUDIENCE, "groups": GROUPS}
        return {**known, **changes}

    def sign(self, *groups: str, key: Any = None, algorithm: str = "ES256", **changes: Any) -> str:
        """Return a token of anna, who is in those groups."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "17", "email": "anna@example.org", "groups": list(groups)}
        claims |= {"exp": time.time() + 600, **changes}
        left = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(left, self.key if key is None else key, algorithm, headers={"kid": self.kid})
