"""Whether a model may run: the trust rules, free of I/O (after python-tuf's trusted metadata set).

A signed blob is a MessagePack map {body, signature, key_id}; `body` is the MessagePack of a Manifest, `signature` the
Ed25519 signature (RFC 8032) of a fixed context string followed by those very bytes. The rules, in the order applied;
the first that fails refuses the manifest by the reason in brackets:

 1. The blob is no longer than MAX_MANIFEST; nothing is parsed before this is known.                     [oversized]
 2. The envelope is exactly {body, signature, key_id}; a blob cut short, or unsigned, ends here.         [malformed]
 3. The key is one of the trusted ones: rotation means trusting two keys for a while.                    [unknown-key]
 4. The signature over the body verifies under that key; the body is not parsed before.                  [bad-signature]
 5. The body is a Manifest of a spec we know, every field within bounds, no field unknown.               [malformed]
 6. It names our camera.                                                                                 [wrong-camera]
 7. Its model was not revoked; the counter does not matter.                                              [revoked]
 8. Its counter is not below the highest accepted so far.                                                [rolled-back]
 9. At that same counter it names the same model bytes, so that re-offering what we accepted is fine.    [conflicting]
10. It was not made more than a day in our future.                                                       [not-yet]
11. It has not expired.                                                                                  [expired]

Rules 10 and 11 apply to offers only, and not to one that ends what runs beside the model in use. A model that was
installed, or accepted once, keeps running when it expires: a camera with an old model sees more than a camera with
none.

And when the model itself has arrived: it has exactly the size [wrong-size] and the SHA-256 [wrong-hash] declared.
Whoever accepts a manifest stores its counter and hash before acting on it; golden frames and probation come after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from culling.common.errors import ManifestError
from culling.common.selection.ranker import Ranker
from culling.common.wire.messages import (
    MAX_MANIFEST,
    MAX_MODEL,
    Identifier,
    Seconds,
    Sha256,
    Text,
    WireDetections,
    plain,
)

_T = TypeVar("_T")

CLOCK_SKEW_S = 86_400.0
"""An edge without a battery clock may start hours off; a day also covers a clock set to the wrong time zone."""

_CONTEXT = b"culling model manifest 1\0"  # a signature made for anything else never fits


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model must find on one frame, at the manifest's scale; boxes in pixels of the JPEG."""

    jpeg: Annotated[bytes, Meta(min_length=1, max_length=MAX_MANIFEST)]
    detections: WireDetections


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is promised about one model for one camera.

    `counter` rises by at least one with every manifest of a camera; `scale` and `long_side` give the student's input
    (see `scaler.input_size`); `parent` is the model it was trained from; `created` and `expires` are seconds since the
    epoch. `ranker` chooses the frames to forward in place of their loss: there is one where it has proven better.
    """

    model_id: Identifier
    camera: Identifier
    counter: Annotated[int, Meta(ge=1, le=2**53)]
    sha256: Sha256
    size: Annotated[int, Meta(ge=1, le=MAX_MODEL)]
    scale: Annotated[float, Meta(gt=0, le=1)]
    long_side: Annotated[int, Meta(ge=64, le=8192)]
    classes: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=256)]
    parent: Identifier | None
    created: Seconds
    expires: Seconds
    golden: Annotated[tuple[Golden, ...], Meta(max_length=16)] = ()
    ranker: Ranker | None = None
    spec: Literal[1] = 1


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    body: bytes
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    key_id: Identifier


@dataclass(frozen=True)
class Trust:
    """What one camera believes: the keys by `key_id`, the highest counter accepted (0: none) with its model hash, and
    the ids of revoked models.
    """

    keys: Mapping[str, Ed25519PublicKey]
    camera: str
    counter: int = 0
    sha256: str | None = None
    revoked: frozenset[str] = field(default_factory=frozenset)


def key_id(public: Ed25519PublicKey) -> str:
    """Return the short name of a signing key: the first 32 hex digits of the SHA-256 of its raw bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:32]


def sign(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """Return the signed blob of `manifest`. Raises ManifestError if `verify` would refuse its form or its length."""
    body = _body(manifest)
    _parse(body, Manifest)
    signed = _Signed(body, key.sign(_CONTEXT + body), key_id(key.public_key()))
    blob = msgspec.msgpack.encode(signed)
    _check_length(blob)
    return blob


def verify(blob: bytes, trust: Trust, now: float) -> Manifest:
    """Return the manifest in `blob` if every rule of this module holds at `now`, seconds since the epoch.

    Raises ManifestError, whose `reason` is the word in brackets beside the rule that failed.
    """
    manifest = authentic(blob, trust)
    check_time(manifest, now)
    return manifest


def authentic(blob: bytes, trust: Trust) -> Manifest:
    """Return the manifest in `blob` if rules 1 to 9 hold, not looking at the time. Raises ManifestError as `verify`."""
    _check_length(blob)
    manifest = _parse(_authentic_body(blob, trust), Manifest)
    _check_target(manifest, trust)
    return manifest


def check_time(manifest: Manifest, now: float) -> None:
    """Raise ManifestError("not-yet" | "expired") unless rules 10 and 11 hold at `now`, seconds since the epoch."""
    if manifest.created > now + CLOCK_SKEW_S:
        raise ManifestError("not-yet", f"the manifest of {manifest.model_id} was made in the future: check the clock")
    if manifest.expires <= now:
        raise ManifestError("expired", f"the manifest of {manifest.model_id} has expired: publish a new one")


def verify_model(manifest: Manifest, data: bytes) -> None:
    """Raise ManifestError("wrong-size" | "wrong-hash") unless `data` is the very model that `manifest` declares."""
    if len(data) != manifest.size:
        raise ManifestError(
            "wrong-size", f"model {manifest.model_id} has {len(data)} bytes, its manifest declares {manifest.size}"
        )
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ManifestError("wrong-hash", f"model {manifest.model_id} is not the one that its manifest declares")


def _body(manifest: Manifest) -> bytes:
    fields = {name: getattr(manifest, name) for name in Manifest.__struct_fields__}
    if manifest.ranker is None:  # not named, so that what knows of no rankers takes models without one
        del fields["ranker"]
    return msgspec.msgpack.encode(fields)


def _authentic_body(blob: bytes, trust: Trust) -> bytes:
    signed = _parse(blob, _Signed)
    key = trust.keys.get(signed.key_id)
    if key is None:
        raise ManifestError("unknown-key", f"the manifest is signed by {signed.key_id}, which is not a trusted key")
    try:
        key.verify(signed.signature, _CONTEXT + signed.body)
    except InvalidSignature:
        raise ManifestError("bad-signature", f"the manifest's signature by {signed.key_id} does not verify") from None
    return signed.body


def _check_target(manifest: Manifest, trust: Trust) -> None:
    name = f"manifest {manifest.counter} of model {manifest.model_id}"
    if manifest.camera != trust.camera:
        raise ManifestError("wrong-camera", f"{name} is for camera {manifest.camera}, not {trust.camera}")
    if manifest.model_id in trust.revoked:
        raise ManifestError("revoked", f"{name} names a revoked model")
    if manifest.counter < trust.counter:
        raise ManifestError("rolled-back", f"{name} is older than the accepted one, {trust.counter}")
    if manifest.counter == trust.counter and manifest.sha256 != trust.sha256:
        raise ManifestError("conflicting", f"{name} names other bytes than the one accepted with that counter")


def _parse(data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ManifestError("malformed", plain(f"the manifest cannot be read: {error}")) from None


def _check_length(blob: bytes) -> None:
    if len(blob) > MAX_MANIFEST:
        raise ManifestError("oversized", f"a manifest of {len(blob)} bytes, at most {MAX_MANIFEST} are accepted")
