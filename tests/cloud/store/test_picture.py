from __future__ import annotations

import msgspec
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from culling.cloud.store.picture import FrameRecord, seal, sealed_size, unseal
from support.cloud import hard_frame

FRAME, JPEG = hard_frame(1)
RECORD = FrameRecord("e" * 40, 1_800_000_000.0, FRAME)


def test_a_sealed_file_gives_back_picture_and_record() -> None:
    assert unseal(seal(JPEG, RECORD)) == (JPEG, RECORD)


@pytest.mark.parametrize("received", [0.0, 1_800_000_000.123])
def test_the_size_of_a_file_is_known_before_it_is_made(received: float) -> None:
    record = FrameRecord("e" * 40, received, FRAME)
    assert sealed_size(JPEG, record) == len(seal(JPEG, record))


def test_a_sealed_file_is_still_a_picture_to_others() -> None:
    assert (simplejpeg.decode_jpeg(seal(JPEG, RECORD)) == simplejpeg.decode_jpeg(JPEG)).all()


def test_a_file_of_version_0_1_has_no_record() -> None:
    assert unseal(JPEG) == (JPEG, None)


@pytest.mark.parametrize("cut", [1, 8, 12, 40])
def test_a_torn_file_has_no_record(cut: int) -> None:
    assert unseal(seal(JPEG, RECORD)[:-cut])[1] is None


def test_a_record_of_an_unknown_form_is_none() -> None:
    sealed = seal(JPEG, RECORD)
    other = msgspec.msgpack.encode({"edge_key": 7})
    spoiled = JPEG + other + len(other).to_bytes(4, "big") + sealed[-8:]
    assert unseal(spoiled) == (JPEG, None)


def test_a_record_of_version_0_2_has_no_probability_and_one_of_an_audit_keeps_its_own() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(RECORD))
    assert fields["frame"].pop("probability", None) is None
    body = msgspec.msgpack.encode(fields)
    assert unseal(JPEG + body + len(body).to_bytes(4, "big") + b"CULLFRM1") == (JPEG, RECORD)
    audit, _ = hard_frame(2, reason="audit", probability=0.01)
    record = FrameRecord("e" * 40, 1_800_000_000.0, audit)
    assert unseal(seal(JPEG, record)) == (JPEG, record)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_an_error(data: bytes) -> None:
    for blob in (data, data + b"CULLFRM1", JPEG + data):
        unseal(blob)
