"""One test per attack on a signed model, named after the threat (The Update Framework's list), and what must pass."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from culling.common.errors import ManifestError
from culling.common.frame import Detections
from culling.common.wire.manifest import Golden, Manifest, Trust, authentic, key_id, sign, verify, verify_model
from culling.common.wire.messages import MAX_MANIFEST, to_wire
from support.scores import ranker

NOW = 1_800_000_000.0
DAY = 86_400.0
MODEL = b"the weights of a student" * 40
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
TRUST = Trust(keys={key_id(KEY.public_key()): KEY.public_key()}, camera="gate-1")


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "model_id": "gate-1-r7",
        "camera": "gate-1",
        "counter": 7,
        "sha256": hashlib.sha256(MODEL).hexdigest(),
        "size": len(MODEL),
        "scale": 0.81,
        "long_side": 640,
        "classes": ("person", "traffic light"),
        "parent": "gate-1-r6",
        "created": NOW - 60,
        "expires": NOW + 30 * DAY,
        "golden": (Golden(b"jpeg", to_wire(Detections.empty())),),
    }
    return Manifest(**(fields | changes))


def refusal(blob: bytes, trust: Trust = TRUST, now: float = NOW) -> str:
    """Return the reason why `blob` is refused."""
    with pytest.raises(ManifestError) as caught:
        verify(blob, trust, now)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def envelope(blob: bytes, **changes: Any) -> bytes:
    """Return `blob` with parts of its envelope replaced, the signature left as it is."""
    return bytes(msgpack.packb(msgpack.unpackb(blob) | changes))


def signed_body(body: bytes) -> bytes:
    """Return a blob whose signature is right, whatever the body says."""
    signature = KEY.sign(b"culling model manifest 1\0" + body)
    return bytes(msgpack.packb({"body": body, "signature": signature, "key_id": key_id(KEY.public_key())}))


def test_a_good_manifest_comes_back_as_it_was_signed() -> None:
    assert verify(sign(manifest(), KEY), TRUST, NOW) == manifest()


def test_a_ranker_is_signed_with_the_rest() -> None:
    rule = ranker(0.5, loss=0.25)
    blob = sign(manifest(ranker=rule), KEY)
    assert verify(blob, TRUST, NOW).ranker == rule
    body = msgpack.unpackb(msgpack.unpackb(blob)["body"])
    body["ranker"]["bias"] = 0.6
    assert refusal(envelope(blob, body=msgpack.packb(body))) == "bad-signature"


def test_a_ranker_beyond_its_bounds_is_refused() -> None:
    body = msgpack.unpackb(msgpack.unpackb(sign(manifest(ranker=ranker()), KEY))["body"])
    body["ranker"]["weights"][0] = 1e10
    assert refusal(signed_body(msgpack.packb(body))) == "malformed"


def test_accepted_manifest_may_be_offered_again() -> None:
    trust = replace(TRUST, counter=7, sha256=manifest().sha256)
    assert verify(sign(manifest(), KEY), trust, NOW).counter == 7


def test_a_gap_in_the_counters_is_fine() -> None:
    assert verify(sign(manifest(counter=900), KEY), replace(TRUST, counter=7, sha256="0" * 64), NOW).counter == 900


def test_unsigned() -> None:
    blob = sign(manifest(), KEY)
    assert refusal(msgspec.msgpack.encode(manifest())) == "malformed"
    assert refusal(envelope(blob, signature=b"")) == "malformed"
    assert refusal(envelope(blob, signature=bytes(64))) == "bad-signature"


def test_wrong_key() -> None:
    assert refusal(sign(manifest(), OTHER_KEY)) == "unknown-key"


def test_wrong_key_under_the_name_of_the_right_one() -> None:
    assert refusal(envelope(sign(manifest(), OTHER_KEY), key_id=key_id(KEY.public_key()))) == "bad-signature"


def test_tampered_body() -> None:
    blob = sign(manifest(), KEY)
    richer = msgspec.msgpack.encode(manifest(counter=8))
    assert refusal(envelope(blob, body=richer)) == "bad-signature"


def test_signature_made_for_something_else() -> None:
    body = msgspec.msgpack.encode(manifest())
    assert refusal(envelope(sign(manifest(), KEY), signature=KEY.sign(body))) == "bad-signature"


def test_expired() -> None:
    blob = sign(manifest(expires=NOW), KEY)
    assert refusal(blob) == "expired"
    assert verify(blob, TRUST, NOW - 1).expires == NOW


def test_frozen_clock_cannot_be_thawed_by_a_manifest_from_the_future() -> None:
    assert refusal(sign(manifest(created=NOW + 2 * DAY, expires=NOW + 9 * DAY), KEY)) == "not-yet"
    assert verify(sign(manifest(created=NOW + DAY / 2), KEY), TRUST, NOW)


@pytest.mark.parametrize("now", [NOW - 400 * DAY, NOW + 400 * DAY])
def test_what_is_authentic_stays_so_whatever_the_time(now: float) -> None:
    blob = sign(manifest(), KEY)
    with pytest.raises(ManifestError):
        verify(blob, TRUST, now)
    assert authentic(blob, TRUST).counter == 7
    with pytest.raises(ManifestError, match="camera"):
        authentic(blob, replace(TRUST, camera="yard"))


def test_counter_rolled_back() -> None:
    assert refusal(sign(manifest(counter=6), KEY), replace(TRUST, counter=7, sha256="0" * 64)) == "rolled-back"


def test_same_counter_other_hash() -> None:
    assert refusal(sign(manifest(), KEY), replace(TRUST, counter=7, sha256="0" * 64)) == "conflicting"


def test_truncated() -> None:
    blob = sign(manifest(), KEY)
    assert {refusal(blob[:cut]) for cut in range(len(blob))} == {"malformed"}


def test_longer_than_declared() -> None:
    with pytest.raises(ManifestError) as caught:
        verify_model(manifest(), MODEL + b"!")
    assert caught.value.reason == "wrong-size"
    assert refusal(sign(manifest(), KEY) + b"!") == "malformed"


def test_shorter_than_declared() -> None:
    with pytest.raises(ManifestError) as caught:
        verify_model(manifest(), MODEL[:-1])
    assert caught.value.reason == "wrong-size"


def test_mixed_model_and_manifest() -> None:
    verify_model(manifest(), MODEL)
    with pytest.raises(ManifestError) as caught:
        verify_model(manifest(), MODEL[::-1])
    assert caught.value.reason == "wrong-hash"


def test_revoked_replay() -> None:
    blob = sign(manifest(), KEY)
    assert refusal(blob, replace(TRUST, revoked=frozenset({"gate-1-r7"}))) == "revoked"
    accepted = replace(TRUST, counter=7, sha256=manifest().sha256, revoked=frozenset({"gate-1-r7"}))
    assert refusal(blob, accepted) == "revoked"


def test_another_cameras_model() -> None:
    assert refusal(sign(manifest(camera="gate-2"), KEY)) == "wrong-camera"


def test_key_rotation() -> None:
    old, new = KEY.public_key(), OTHER_KEY.public_key()
    both = replace(TRUST, keys={key_id(old): old, key_id(new): new})
    only_new = replace(TRUST, keys={key_id(new): new})
    assert verify(sign(manifest(), KEY), both, NOW) == verify(sign(manifest(), OTHER_KEY), both, NOW)
    assert verify(sign(manifest(), OTHER_KEY), only_new, NOW)
    assert refusal(sign(manifest(), KEY), only_new) == "unknown-key"


def test_trust_in_no_key_accepts_nothing() -> None:
    assert refusal(sign(manifest(), KEY), replace(TRUST, keys={})) == "unknown-key"


def test_oversized() -> None:
    assert refusal(bytes(MAX_MANIFEST + 1)) == "oversized"
    with pytest.raises(ManifestError) as caught:
        sign(manifest(golden=(Golden(bytes(MAX_MANIFEST), to_wire(Detections.empty())),)), KEY)
    assert caught.value.reason == "oversized"


def test_declared_huge_costs_no_memory() -> None:
    start = msgpack.packb(msgpack.unpackb(msgspec.msgpack.encode(manifest(golden=()))))
    huge = start.replace(b"\xa6golden\x90", b"\xa6golden\xdd\xff\xff\xff\xff")
    assert huge != start
    assert refusal(signed_body(huge)) == "malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": "../../etc/passwd"},
        {"model_id": "a..b"},
        {"model_id": "name\n"},
        {"camera": "gate-1\0"},
        {"counter": 0},
        {"counter": 2**60},
        {"sha256": "A" * 64},
        {"size": 0},
        {"size": 201 * 1024 * 1024},
        {"scale": 0.0},
        {"scale": 1.5},
        {"scale": float("nan")},
        {"long_side": 10**9},
        {"classes": []},
        {"classes": ["x"] * 257},
        {"expires": float("inf")},
        {"spec": 2},
        {"surprise": 1},
    ],
    ids=lambda change: "-".join(change),
)
def test_signed_but_out_of_bounds(change: dict[str, Any]) -> None:
    body = msgpack.packb(msgpack.unpackb(msgspec.msgpack.encode(manifest())) | change)
    assert refusal(signed_body(body)) == "malformed"


def test_the_signer_refuses_what_the_edge_would_refuse() -> None:
    with pytest.raises(ManifestError) as caught:
        sign(manifest(model_id="../up"), KEY)
    assert caught.value.reason == "malformed"


def test_the_body_is_not_read_before_the_signature_holds() -> None:
    assert refusal(envelope(sign(manifest(), KEY), body=b"\xc1 not MessagePack")) == "bad-signature"
    assert refusal(signed_body(b"\xc1 not MessagePack")) == "malformed"


def test_a_key_is_named_by_its_hash() -> None:
    assert key_id(KEY.public_key()) == hashlib.sha256(KEY.public_key().public_bytes_raw()).hexdigest()[:32]
    assert key_id(KEY.public_key()) != key_id(OTHER_KEY.public_key())


def test_golden_blob_of_version_1_still_verifies() -> None:
    """These bytes were signed by version 0.1.0; Ed25519 is deterministic, so they must never change."""
    blob = sign(manifest(), KEY)
    assert hashlib.sha256(blob).hexdigest() == "70bcd7d03d2c7cbe3caf41dc69ff90bba431b35aa4c9344b4071ee58dc5502fd"


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_by_name(blob: bytes) -> None:
    assert refusal(blob) == "malformed"


@given(st.data())
def test_one_flipped_bit_is_always_refused(data: st.DataObject) -> None:
    blob = bytearray(sign(manifest(), KEY))
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[bit // 8] ^= 1 << bit % 8
    assert refusal(bytes(blob)) in {"malformed", "unknown-key", "bad-signature"}
