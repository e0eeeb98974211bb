"""The cloud's own secrets: the CURVE pair of its port, and the Ed25519 key that signs models.

They are created on first use, under `keys/` of the data folder, readable by their owner alone. The holder of the
signing key decides what runs beside the cameras.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from culling.common.atomic import write_atomic
from culling.common.errors import CullingError, SettingsError, StorageError
from culling.common.wire.transport import new_keypair, public_key


@dataclass(frozen=True)
class CloudKeys:
    """`curve_secret` and `curve_public` are z85 text; `signing` signs manifests."""

    curve_secret: str
    curve_public: str
    signing: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"CloudKeys({self.curve_public})"

    @property
    def signing_public(self) -> str:
        """The public half of the signing key, as edges are told it: base64 of 32 bytes."""
        return base64.b64encode(self.signing.public_key().public_bytes_raw()).decode()


def load_keys(data_dir: Path) -> CloudKeys:
    """Return the keys in `data_dir`, created now if there are none.

    Raises SettingsError for a key file that others may read or that holds no key, StorageError if none can be written.
    """
    folder = data_dir / "keys"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"cannot keep keys in {folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two first uses at once must end with one pair
        curve = _secret(folder / "curve.secret", lambda: new_keypair()[1])
        signing = _secret(folder / "signing.secret", _new_signing_key)
    finally:
        os.close(descriptor)
    try:
        return CloudKeys(curve, public_key(curve), Ed25519PrivateKey.from_private_bytes(base64.b64decode(signing)))
    except (CullingError, ValueError, binascii.Error):
        raise SettingsError(f"{folder}: curve.secret or signing.secret holds no key; restore a backup") from None


def _new_signing_key() -> str:
    return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def _secret(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        write_atomic(path, make().encode(), mode=0o600)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise SettingsError(f"{path}: others may read it (mode {mode:04o}): run `chmod 600 {path}`")
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the key cannot be read: {error}") from None
