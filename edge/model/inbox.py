"""Models that a person brought to the edge: they lie in a folder until the agent takes them, as it does those offered.

`culling edge install` leaves a model's file and then its signed manifest there, both named for the camera. The agent
looks once a second, on the builder's thread, and the rules are those of an offer (`manifest.py`, `slot.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from culling.common.atomic import write_atomic
from culling.common.clock import Clock
from culling.common.errors import ManifestError, StorageError
from culling.common.wire.manifest import Manifest, verify
from culling.edge.model.shelf import read
from culling.edge.model.slot import ModelSlot

log = structlog.get_logger(__name__)

RETRY_S = 10.0
"""Until a model is tried again that came during another's probation, or that the disk did not take."""


def leave(state_dir: Path, camera: str, blob: bytes, model: bytes) -> None:
    """Leave a model and its signed manifest for the agent of a state folder. Raises StorageError."""
    folder = _folder(state_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, data in ((folder / f"{camera}.onnx", model), (folder / f"{camera}.manifest", blob)):
            write_atomic(path, data, mode=0o600)
            _give(path, state_dir)
        _give(folder, state_dir)
    except OSError as error:
        raise StorageError(f"cannot leave the model in {folder}: {error.strerror}") from error


def lies(state_dir: Path, camera: str) -> bool:
    """Return whether a model for a camera still waits for the agent."""
    return (_folder(state_dir) / f"{camera}.manifest").exists()


class Inbox:
    """What the agent takes from there; `on_refused` is called as the updater's is."""

    def __init__(
        self,
        state_dir: Path,
        keys: Mapping[str, Ed25519PublicKey],
        clock: Clock,
        on_refused: Callable[[str], None],
    ) -> None:
        self._folder = _folder(state_dir)
        self._keys = keys
        self._clock = clock
        self._on_refused = on_refused
        self._next = float("-inf")

    @property
    def waiting(self) -> bool:
        """Whether something lies there that is to be tried now."""
        return self._clock.monotonic() >= self._next and self._folder.exists() and any(self._folder.glob("*.manifest"))

    def take(self, slots: Mapping[str, ModelSlot]) -> None:
        """Hand what lies there to the slots of its cameras; what cannot be trusted is removed, and that is logged."""
        for path in sorted(self._folder.glob("*.manifest")):
            try:
                self._take(path, slots)
            except ManifestError as error:
                if error.reason == "busy":
                    self._next = self._clock.monotonic() + RETRY_S
                    continue
                log.warning("model_refused", camera=path.stem, reason=error.reason, error=str(error))
                self._on_refused(error.reason)
                _remove(path)
            except (StorageError, OSError) as error:
                log.warning("install_postponed", camera=path.stem, error=str(error), retry_s=RETRY_S)
                self._on_refused("storage")
                self._next = self._clock.monotonic() + RETRY_S

    def _take(self, path: Path, slots: Mapping[str, ModelSlot]) -> None:
        if (slot := slots.get(path.stem)) is None:
            raise ManifestError("unknown-camera", f"there is no camera {path.stem} here")
        manifest = verify(read(path), slot.trust(self._keys), self._clock.now())
        model = path.with_suffix(".onnx")
        _check(model, manifest)
        if slot.offer(manifest):
            log.info("model_installed", camera=slot.camera, model_id=manifest.model_id)
            slot.downloading()
            os.replace(model, slot.path(manifest.model_id, "onnx"))
            slot.stage(manifest.model_id)
        _remove(path)


def _check(model: Path, manifest: Manifest) -> None:
    with model.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != manifest.sha256:
            raise ManifestError("wrong-hash", f"model {manifest.model_id} is not the one that its manifest declares")


def _remove(path: Path) -> None:
    path.unlink()
    path.with_suffix(".onnx").unlink(missing_ok=True)


def _folder(state_dir: Path) -> Path:
    return state_dir / "inbox"


def _give(path: Path, state_dir: Path) -> None:
    """Let the agent's user own what root left for it."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
