"""How a new model arrives: its offer is verified, its file fetched piece by piece, its hash checked, and handed over.

What is fetched is the whole file, or what changed since a model that is here (`rebuild.py`), whichever the cloud sends.
A model whose bytes are here already, as after a rollback, is not fetched at all. Where a delta comes to nothing, the
whole is fetched.

A shell around `protocol.Transfer` and the rules of `manifest.py`. Every piece is on disk before the next is requested,
so a power cut costs at most one piece; a resumed file that turns out wrong is fetched again from 0. Everything runs on
the forwarder's thread.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from culling.common.clock import Clock
from culling.common.errors import ManifestError, ProtocolError, StorageError
from culling.common.wire.manifest import Manifest, authentic, check_time
from culling.common.wire.messages import MAX_BASES, ModelChunk, ModelOffer, ModelRequest, SwapReport
from culling.common.wire.protocol import Transfer
from culling.edge.model.rebuild import copy, rebuild, resumable
from culling.edge.model.slot import ModelSlot

log = structlog.get_logger(__name__)

RETRY_S = 10.0
"""Until an offer that came too early, or failed on the disk, is tried again; a probation lasts about as long."""


class _Download:
    """The files that one transfer fills for `slot`; `resumed` says whether it was started earlier.

    Where the whole model is not begun, and is not to be `whole` in any case, the cloud is told what is here already.
    """

    def __init__(self, slot: ModelSlot, offer: ModelOffer, manifest: Manifest, whole: bool = False) -> None:
        self.slot = slot
        self.offer = offer
        self.manifest = manifest
        self.part = slot.path(manifest.model_id, "part")
        self.delta = slot.path(manifest.model_id, "delta")
        here = {} if whole else slot.files()
        begun = resumable(self.delta, manifest, here)
        if self.delta.exists():  # a power cut came while the model was being made of it
            self.part.unlink(missing_ok=True)
        if begun is not None:
            self.transfer = self._transfer(begun[1], self.delta.stat().st_size, base=begun[0])
        else:
            self.delta.unlink(missing_ok=True)
            size = self._size_so_far()
            bases = tuple(here)[:MAX_BASES] if size == 0 else ()
            self.transfer = self._transfer(manifest.size, size, bases)
        self.resumed = self.transfer.offset > 0

    def append(self, data: bytes) -> None:
        """Write what came to the file that it is of, durably."""
        with (self.part if self.transfer.base is None else self.delta).open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _transfer(self, total: int, offset: int, bases: tuple[str, ...] = (), base: str | None = None) -> Transfer:
        return Transfer(self.manifest.camera, self.manifest.model_id, total, offset, bases=bases, base=base)

    def _size_so_far(self) -> int:
        size = self.part.stat().st_size if self.part.exists() else 0
        if size > self.manifest.size:
            self.part.unlink()
            return 0
        return size


class Updater:
    """Brings the models of all cameras of an agent.

    `on_refused` is called with a short stable word for everything that was refused or failed: the `reason` of a
    ManifestError or ProtocolError, or "storage". `on_fetched` is called with a camera and how its model came: `whole`,
    as a `delta`, or not at all, since it was `here`.
    """

    def __init__(
        self,
        slots: Mapping[str, ModelSlot],
        keys: Mapping[str, Ed25519PublicKey],
        clock: Clock,
        on_refused: Callable[[str], None],
        on_fetched: Callable[[str, str], None] = lambda camera, how: None,
    ) -> None:
        self._slots = dict(slots)
        self._keys = keys
        self._clock = clock
        self._on_refused = on_refused
        self._on_fetched = on_fetched
        self._downloads: dict[str, _Download] = {}
        self._later: dict[str, tuple[ModelOffer, float]] = {}

    def serve(self, slots: Mapping[str, ModelSlot]) -> None:
        """Bring models to other cameras from now on. Safe from any thread."""
        self._slots = dict(slots)

    def offered(self, offer: ModelOffer) -> None:
        """Handle an offer. One that cannot be trusted is refused and counted; one that comes too early waits."""
        slot = self._slots.get(offer.camera)
        if slot is None:
            self._refuse(offer.camera, "unknown-camera", f"there is no camera {offer.camera} here")
            return
        self._later.pop(offer.camera, None)
        try:
            manifest = authentic(offer.manifest, slot.trust(self._keys))
            if not _ends_what_runs(offer, manifest, slot):
                check_time(manifest, self._clock.now())
            if slot.offer(manifest, offer.shadow):
                self._start(slot, offer, manifest)
            elif offer.shadow == 0 and (begun := self._downloads.get(offer.camera)) and begun.manifest == manifest:
                del self._downloads[offer.camera]  # it is not wanted any more
        except ManifestError as error:
            if error.reason == "busy":
                self._put_off(offer)
            else:
                self._refuse(offer.camera, error.reason, str(error))
        except (StorageError, OSError) as error:
            self._postpone(offer, error)

    def chunk(self, chunk: ModelChunk, data: bytes) -> None:
        """Handle a piece of a model; one that was not requested is ignored."""
        download = self._downloads.get(chunk.camera)
        if download is None:
            return
        try:
            if accepted := download.transfer.accept(chunk, data):
                download.append(accepted)
            self._finish_if_done(download)
        except ProtocolError as error:
            self._refuse(chunk.camera, error.reason, str(error))
            if download.transfer.base is not None:
                self._fetch_whole(download)
            else:
                self._give_up(download, error.reason)
        except (StorageError, OSError) as error:
            self._postpone(download.offer, error)

    def outgoing(self) -> list[ModelRequest | SwapReport]:
        """Return what to send to the cloud now; a report is returned until it is `sent`."""
        now, slots = self._clock.monotonic(), self._slots
        self._later = {camera: later for camera, later in self._later.items() if camera in slots}
        self._downloads = {name: one for name, one in self._downloads.items() if slots.get(name) is one.slot}
        for offer, due in list(self._later.values()):
            if due <= now:
                self.offered(offer)
        requests = [download.transfer.request(now) for download in self._downloads.values()]
        return [*(request for request in requests if request is not None), *self.reports()]

    def reports(self) -> list[SwapReport]:
        """Return the verdicts that the cloud has not received yet."""
        return [report for slot in self._slots.values() for report in slot.reports()]

    def sent(self, report: SwapReport) -> None:
        """Note that a report was handed to the socket."""
        if (slot := self._slots.get(report.camera)) is not None:
            slot.reported(report)

    def reopen(self) -> None:
        """Request again what was under way on the lost connection."""
        for download in self._downloads.values():
            download.transfer.reopen()

    def _start(self, slot: ModelSlot, offer: ModelOffer, manifest: Manifest) -> None:
        running = self._downloads.get(slot.camera)
        if running is not None and running.manifest == manifest:
            return
        self._downloads.pop(slot.camera, None)
        whole = slot.path(manifest.model_id, "onnx")
        if whole.exists():
            if _proven(whole, manifest):
                slot.downloading()
                slot.stage(manifest.model_id)
                return
            whole.unlink()
        slot.downloading()
        if self._take_what_is_here(slot, manifest):
            return
        download = self._downloads[slot.camera] = _Download(slot, offer, manifest)
        log.info("download_started", camera=slot.camera, model_id=manifest.model_id, offset=download.transfer.offset)
        self._finish_if_done(download)

    def _take_what_is_here(self, slot: ModelSlot, manifest: Manifest) -> bool:
        """Return whether the model is another's bytes under a new name, as one that was renewed or gone back to."""
        if (same := slot.files().get(manifest.sha256)) is None:
            return False
        part = slot.path(manifest.model_id, "part")
        try:
            copy(same, part)
            good = _proven(part, manifest)
        except OSError:  # a bad sector does not pass; a full disk shows in the download too
            good = False
        if not good:
            part.unlink(missing_ok=True)
            return False
        self._hand_over(slot, manifest, "here")
        return True

    def _hand_over(self, slot: ModelSlot, manifest: Manifest, how: str) -> None:
        os.replace(slot.path(manifest.model_id, "part"), slot.path(manifest.model_id, "onnx"))
        slot.path(manifest.model_id, "delta").unlink(missing_ok=True)
        log.info("model_fetched", camera=slot.camera, model_id=manifest.model_id, how=how)
        self._on_fetched(slot.camera, how)
        slot.stage(manifest.model_id)

    def _finish_if_done(self, download: _Download) -> None:
        if not download.transfer.done:
            return
        manifest, slot, base = download.manifest, download.slot, download.transfer.base
        try:
            if base is not None:
                rebuild(download.delta, base, slot.files(), download.part, manifest)
        except ProtocolError as error:
            self._refuse(manifest.camera, error.reason, str(error))
            self._fetch_whole(download)
            return
        if _proven(download.part, manifest):
            del self._downloads[manifest.camera]
            self._hand_over(slot, manifest, "whole" if base is None else "delta")
            return
        self._refuse(manifest.camera, "wrong-hash", f"the file of model {manifest.model_id} is not the one declared")
        if base is not None:
            self._fetch_whole(download)
        elif download.resumed:
            download.part.unlink()
            self._downloads[manifest.camera] = _Download(slot, download.offer, manifest)
        else:
            self._give_up(download, "wrong-hash")

    def _fetch_whole(self, download: _Download) -> None:
        """Fetch the whole model after all: what the delta was to make of it came to nothing."""
        for path in (download.delta, download.part):
            path.unlink(missing_ok=True)
        self._downloads[download.manifest.camera] = _Download(download.slot, download.offer, download.manifest, True)
        log.info("download_restarted", camera=download.manifest.camera, model_id=download.manifest.model_id)

    def _give_up(self, download: _Download, reason: str) -> None:
        del self._downloads[download.manifest.camera]
        download.slot.reject(download.manifest.model_id, reason)

    def _postpone(self, offer: ModelOffer, error: Exception) -> None:
        log.warning("download_postponed", camera=offer.camera, error=str(error), retry_s=RETRY_S)
        self._on_refused("storage")
        self._downloads.pop(offer.camera, None)
        self._put_off(offer)

    def _put_off(self, offer: ModelOffer) -> None:
        self._later[offer.camera] = (offer, self._clock.monotonic() + RETRY_S)

    def _refuse(self, camera: str, reason: str, message: str) -> None:
        log.warning("model_refused", camera=camera, reason=reason, error=message)
        self._on_refused(reason)


def _ends_what_runs(offer: ModelOffer, manifest: Manifest, slot: ModelSlot) -> bool:
    """Return whether an offer only ends what runs beside the model in use: it brings nothing, and may have expired."""
    return offer.shadow == 0 and manifest.model_id == slot.shadow[0]


def _proven(path: Path, manifest: Manifest) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == manifest.sha256
