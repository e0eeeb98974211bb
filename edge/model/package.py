"""The model that an agent was installed with: it is beside the settings, and checked by the same rules as any other."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from culling.common.errors import InputError, ManifestError
from culling.common.wire.manifest import Trust, authentic, check_time, key_id
from culling.edge.model.slot import Package
from culling.edge.settings import EdgeSettings

log = structlog.get_logger(__name__)


def signing_keys(settings: EdgeSettings) -> Mapping[str, Ed25519PublicKey]:
    """Return the keys whose signatures the settings trust, by key id."""
    keys = [Ed25519PublicKey.from_public_bytes(base64.b64decode(text)) for text in settings.cloud.signing_keys]
    return {key_id(key): key for key in keys}


def initial_package(settings: EdgeSettings, camera: str, now: float) -> Package | None:
    """Return the initial model for `camera` with its verified manifest; None when the settings name none, or the
    camera came later and has no manifest there: then the cloud sends its first.

    One that has expired, or is not valid yet, is used all the same, with a warning: a camera must always have a
    working model.
    Raises `InputError` when a file cannot be read, `ManifestError` when the manifest is not trusted.
    """
    model, path = settings.student.initial, settings.student.manifest(camera)
    if model is None or path is None:
        return None
    if not path.exists():
        log.warning("initial_model_missing", camera=camera, path=str(path))
        return None
    try:
        blob = path.read_bytes()
        model.open("rb").close()
    except OSError as error:
        raise InputError(f"student.initial: cannot read {error.filename}: {error.strerror}") from None
    try:
        manifest = authentic(blob, Trust(signing_keys(settings), camera))
    except ManifestError as error:
        raise ManifestError(error.reason, f"{path}: {error}") from None
    try:
        check_time(manifest, now)
    except ManifestError as error:
        log.warning("initial_model_validity_waived", camera=camera, path=str(path), error=str(error))
    return Package(manifest, model)
