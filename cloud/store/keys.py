"""The cloud's own secrets: the CURVE pair of its port, and the Ed25519 key that signs models.

They are created on first use, under `keys/` of the data folder, readable by their owner alone, unless the settings name
others: several services share them. The holder of the signing key decides what runs beside the cameras.
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

from culling.cloud.settings import CloudSettings, ServiceSettings
from culling.common.atomic import write_atomic
from culling.common.errors import CullingError, SettingsError, StorageError
from culling.common.page.access import make_token
from culling.common.wire.transport import new_keypair, public_key

CURVE, SIGNING = "curve.secret", "signing.secret"


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
    curve, signing = _own(data_dir / "keys")
    return CloudKeys(curve, public_of(curve, data_dir / "keys"), _to_signing(signing, data_dir / "keys"))


def keys_of(service: ServiceSettings) -> CloudKeys:
    """Return the keys that the settings name, those of the data folder for what they do not; raises as `load_keys`."""
    curve, signing = _given_curve(service), _given_signing(service)
    if curve is None or signing is None:
        own = load_keys(service.data_dir)
        curve, signing = curve or own.curve_secret, signing or own.signing
    return CloudKeys(curve, public_of(curve, "service.curve_key"), signing)


def curve_secret_of(service: ServiceSettings) -> str:
    """Return the link's secret key, for one of several ingests, which never makes one. Raises SettingsError."""
    path = service.data_dir / "keys" / CURVE
    if (found := _given_curve(service)) is None:
        found = _read(path, 0o077) if path.exists() else None
    if found is None:
        raise SettingsError(
            f"service.curve_key_file: an ingest apart from control needs the link's key: copy {path.name} from the "
            f"keys of the data folder in which edges are enrolled, and name it here or put it to {path}"
        )
    public_of(found, path)
    return found


def signing_key_of(service: ServiceSettings) -> Ed25519PrivateKey:
    """Return the key that signs models, for a control, which never makes one: edges would refuse what it signs.

    Raises SettingsError.
    """
    path = service.data_dir / "keys" / SIGNING
    if (found := _given_signing(service)) is None and path.exists():
        found = _to_signing(_read(path, 0o077), path)
    if found is None:
        raise SettingsError(
            f"service.signing_key_file: a control apart from others needs the key that signs models: copy {path.name} "
            f"from the keys of the data folder in which edges are enrolled, and name it here or put it to {path}"
        )
    return found


def page_token_of(settings: CloudSettings) -> str:
    """Return the token that acts on the page, created in the data folder unless the settings name its file.

    Raises SettingsError, StorageError.
    """
    path = settings.page.token_file
    return make_token(settings.data_dir / "page.token") if path is None else _read(path)


def public_of(curve_secret: str, where: object) -> str:
    """Return the public half of the link's key. Raises SettingsError, which names `where` it came from."""
    try:
        return public_key(curve_secret)
    except (CullingError, ValueError):
        raise _no_key(where) from None


def _given_curve(service: ServiceSettings) -> str | None:
    if service.curve_key is not None:
        return service.curve_key.get_secret_value().strip()
    return None if service.curve_key_file is None else _read(service.curve_key_file)


def _given_signing(service: ServiceSettings) -> Ed25519PrivateKey | None:
    if service.signing_key is not None:
        return _to_signing(service.signing_key.get_secret_value(), "service.signing_key")
    path = service.signing_key_file
    return None if path is None else _to_signing(_read(path), path)


def _own(folder: Path) -> tuple[str, str]:
    """Return both keys of a data folder, made now if there are none."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"cannot keep keys in {folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two first uses at once must end with one pair
        return (
            _secret(folder / CURVE, lambda: new_keypair()[1]),
            _secret(folder / SIGNING, _new_signing_key),
        )
    finally:
        os.close(descriptor)


def _to_signing(text: str, where: object) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text))
    except (ValueError, binascii.Error):
        raise _no_key(where) from None


def _no_key(where: object) -> SettingsError:
    return SettingsError(f"{where}: {CURVE} or {SIGNING} holds no key; restore a backup")


def _new_signing_key() -> str:
    return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def _secret(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        write_atomic(path, make().encode(), mode=0o600)
    return _read(path, 0o077)


def _read(path: Path, closed_to: int = 0o007) -> str:
    """Return what a file holds that nobody else may read; a file that the settings name, its group may."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & closed_to:
            raise SettingsError(f"{path}: others may read it (mode {mode:04o}): run `chmod 600 {path}`")
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the key cannot be read: {error}") from None
