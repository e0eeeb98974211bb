"""What is packed comes back; what is not a message is refused by name, within bounds, whatever the bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import tracemalloc
from collections.abc import Iterator
from typing import Any, get_args

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.wire.ignored import place
from culling.common.wire.messages import (
    MAX_BOXES,
    MAX_CHUNK,
    MAX_FEATURES,
    MAX_HEADER,
    MAX_JPEG,
    MAX_LIVE,
    MAX_MANIFEST,
    MAX_OFFER,
    Ack,
    Beside,
    CameraState,
    Desired,
    Escalate,
    FromCloud,
    FromEdge,
    HardFrame,
    Heartbeat,
    Hello,
    LivePicture,
    Look,
    Message,
    ModelChunk,
    ModelOffer,
    ModelRequest,
    Nack,
    Refused,
    Sender,
    SwapReport,
    Text,
    Verdict,
    Welcome,
    WireDetections,
    WireFeatures,
    from_wire,
    pack,
    plain,
    to_wire,
    unpack,
)
from culling.common.wire.profile import Profile
from culling.common.wire.versions import PROTOCOL_VERSION

STATE = CameraState("gate-1", "live", "gate-1-r6", 900, 880, {"hard": 3, "audit": 1}, 2, 2, 0, {"full": 1}, 1.5, 0.25)
FOUND = Detections(
    np.array([[1, 2, 30, 40], [0, 0, 5.5, 6]], np.float32),
    np.array([0.9, 0.25], np.float32),
    np.array([2, 0], np.int64),
)
FRAME = HardFrame(
    "gate-1", "b1", 7, 120, 4.0, 1.8e9, "hard", 3.25, "gate-1-r6", 1920, 1080, "ab" * 32, to_wire(FOUND),
    WireFeatures(1, [0.5, -2.0]),
)  # fmt: skip
ASIDE = msgspec.structs.replace(FRAME, ignored=(place(((0.5, 0.0), (1.0, 0.0), (1.0, 1.0)), ("car",)),))
AUDIT = msgspec.structs.replace(FRAME, reason="audit", probability=0.005)
SHADOWED = msgspec.structs.replace(AUDIT, shadow=Beside("gate-1-r7", to_wire(FOUND)))
EDGE: list[tuple[Message, bytes | None]] = [
    (Hello("culling 0.1.0", "b1", [STATE]), None),
    (FRAME, b"\xff\xd8jpeg"),
    (AUDIT, b"\xff\xd8jpeg"),
    (msgspec.structs.replace(AUDIT, echo=b"echo"), b"\xff\xd8jpeg"),
    (ASIDE, b"\xff\xd8jpeg"),
    (SHADOWED, b"\xff\xd8jpeg"),
    (Heartbeat("b1", [STATE, STATE]), None),
    (ModelRequest("gate-1", "gate-1-r7", 262_144, 262_144), None),
    (SwapReport("gate-1", "gate-1-r7", None, "live", "", 41.5, 1.8e9), None),
    (LivePicture("gate-1", 1.8e9, "gate-1-r7", 1920, 1080, to_wire(FOUND)), b"\xff\xd8jpeg"),
    (LivePicture("gate-1", 1.8e9, "none", 1920, 1080), b"\xff\xd8jpeg"),
    (SwapReport("gate-1", "gate-1-r7", "gate-1-r6", "rolled-back", "scores are NaN", 0.0, 1.8e9), None),
    (Escalate("gate-1", "b1", 3, 1.8e9, 2.0, "gate-1-r7", 1920, 1080), b"\xff\xd8jpeg"),
]
CLOUD: list[tuple[Message, bytes | None]] = [
    (Welcome("culling 0.1.0", 16), None),
    (Ack("b1", 7, 16), None),
    (Nack("b1", 7, "busy", True), None),
    (ModelOffer("gate-1", b"signed"), None),
    (ModelOffer("gate-1", b"signed", 0.1), None),
    (ModelChunk("gate-1", "gate-1-r7", 0, 9_000_000), b"onnx"),
    (Desired("gate-1", True, 12, 4), None),
    (Desired("gate-1", False, None, None), None),
    (Desired("gate-1", False, None, None, pace=0.25), None),
    (Desired("gate-1", False, None, None, profile=Profile(4.0, 8, echo=True)), None),
    (Look("gate-1", 5.0), None),
    (Welcome("culling 0.3.0", 16, verdicts=True), None),
    (Verdict("gate-1", "b1", 3, to_wire(FOUND), "ensemble"), None),
    (Verdict("gate-1", "b1", 3, reason="allowance"), None),
    (Refused("unknown-type"), None),
]
ALL: list[tuple[Message, bytes | None, Sender]] = [(m, p, "edge") for m, p in EDGE] + [
    (m, p, "cloud") for m, p in CLOUD
]


def header(message: Message, **changes: Any) -> bytes:
    """Return the header of `message` with fields replaced, encoded by the reference implementation."""
    fields = msgpack.unpackb(msgspec.msgpack.encode(message)) | changes
    return bytes([PROTOCOL_VERSION]) + bytes(msgpack.packb(fields))


def refusal(parts: list[bytes], kind: Sender = "edge") -> str:
    """Return the reason why `parts` are refused."""
    with pytest.raises(ProtocolError) as caught:
        unpack(parts, kind)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_frame_without_features_or_probability_is_understood() -> None:
    fields = msgpack.unpackb(msgspec.msgpack.encode(AUDIT))
    del fields["features"], fields["probability"]
    parts = [bytes([PROTOCOL_VERSION]) + bytes(msgpack.packb(fields)), b"jpeg"]
    assert unpack(parts, "edge")[0] == msgspec.structs.replace(AUDIT, features=None, probability=None)


def test_a_frame_that_is_no_audit_is_understood_by_clouds_that_know_no_probability() -> None:
    assert "probability" not in msgpack.unpackb(msgspec.msgpack.encode(FRAME))


def test_a_pace_of_one_is_understood_by_edges_that_know_none() -> None:
    wanted = Desired("gate-1", True, None, None)
    told = msgpack.unpackb(msgspec.msgpack.encode(wanted))
    assert told == {"type": "Orders", "camera": "gate-1", "paused": True, "frames_per_window": None, "frame": None}


@pytest.mark.parametrize("pace", [0.0, -1.0, 65.0, float("nan"), "1"])
def test_a_pace_out_of_bounds_is_refused(pace: Any) -> None:
    assert refusal([header(Desired("gate-1", False, None, None), pace=pace)], "cloud") == "malformed"


@pytest.mark.parametrize(
    "wrong", [{"rate": -1.0}, {"rate": 241.0}, {"difference": 256}, {"difference": 1.5}, {"echo": 2}]
)
def test_a_profile_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    assert refusal([header(Desired("gate-1", False, None, None), profile=wrong)], "cloud") == "malformed"


def test_a_cloud_that_answers_no_edge_says_nothing_of_it_to_those_that_never_ask() -> None:
    assert msgpack.unpackb(msgspec.msgpack.encode(Welcome("x", 1))) == {"type": "Welcome", "software": "x", "window": 1}


@pytest.mark.parametrize("within_s", [0.0, -1.0, 61.0, float("nan"), "1"])
def test_a_time_to_answer_in_that_is_out_of_bounds_is_refused(within_s: Any) -> None:
    escalate = Escalate("gate-1", "b1", 3, 1.8e9, 2.0, "gate-1-r7", 1920, 1080)
    assert refusal([header(escalate, within_s=within_s), b"jpeg"]) == "malformed"


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.0001, float("nan"), "1"])
def test_a_probability_out_of_bounds_is_refused(probability: Any) -> None:
    assert refusal([header(AUDIT, probability=probability), b"jpeg"]) == "malformed"


@pytest.mark.parametrize("values", [[float("nan")], [1e10], [0.0] * (MAX_FEATURES + 1), ["loss"]])
def test_features_out_of_bounds_are_refused(values: list[Any]) -> None:
    assert refusal([header(FRAME, features={"spec": 1, "values": values}), b"jpeg"]) == "malformed"


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Make an allocation of more than 2 GiB fail."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def test_every_type_of_message_is_among_the_samples() -> None:
    assert {type(message) for message, _ in EDGE} == set(get_args(FromEdge))
    assert {type(message) for message, _ in CLOUD} == set(get_args(FromCloud))


@pytest.mark.parametrize(("message", "payload", "kind"), ALL, ids=lambda value: type(value).__name__)
def test_packed_message_comes_back(message: Message, payload: bytes | None, kind: Sender) -> None:
    assert unpack(pack(message, payload), kind) == (message, payload)


@pytest.mark.parametrize(("message", "payload", "kind"), ALL, ids=lambda value: type(value).__name__)
def test_header_is_a_version_byte_and_plain_messagepack(message: Message, payload: bytes | None, kind: Sender) -> None:
    packed = pack(message, payload)
    assert packed[1:] == ([] if payload is None else [payload])
    assert packed[0][0] == PROTOCOL_VERSION == 1
    fields = msgpack.unpackb(packed[0][1:])
    kind_on_the_wire = "Orders" if isinstance(message, Desired) else type(message).__name__
    told = msgspec.to_builtins(message, builtin_types=(bytes,))
    assert fields == {"type": kind_on_the_wire} | msgpack.unpackb(msgpack.packb(told))
    assert unpack([header(message), *packed[1:]], kind)[0] == message


def test_golden_bytes_of_version_1_still_decode() -> None:
    ack = bytes.fromhex("0184a474797065a341636ba4626f6f74a26231a373657107a677696e646f7710")
    assert unpack([ack], "cloud") == (Ack("b1", 7, 16), None)
    assert pack(Ack("b1", 7, 16)) == [ack]
    nack = bytes.fromhex("0185a474797065a44e61636ba4626f6f74a26231a373657107a6726561736f6ea462757379a57265747279c3")
    assert unpack([nack], "cloud") == (Nack("b1", 7, "busy", True), None)
    assert pack(Nack("b1", 7, "busy", True)) == [nack]
    desired = bytes.fromhex(
        "0185a474797065a64f7264657273a663616d657261a6676174652d31a6706175736564c3"
        "b16672616d65735f7065725f77696e646f770ca56672616d6504"
    )
    assert unpack([desired], "cloud") == (Desired("gate-1", True, 12, 4), None)
    assert pack(Desired("gate-1", True, 12, 4)) == [desired]


FRAME_BYTES = bytes.fromhex(
    "01de000fa474797065a9486172644672616d65a663616d657261a6676174652d31a4626f6f74a26231a373657107a5667261"
    "6d6578a3707473cb4010000000000000a86361707475726564cb41dad27480000000a6726561736f6ea468617264a46c6f73"
    "73cb400a000000000000a86d6f64656c5f6964a9676174652d312d7236a57769647468cd0780a6686569676874cd0438a673"
    "6861323536d94061626162616261626162616261626162616261626162616261626162616261626162616261626162616261"
    "626162616261626162616261626162616261626162aa646574656374696f6e7383a5626f786573c4200000803f0000004000"
    "00f0410000204200000000000000000000b0400000c040a673636f726573c4086666663f0000803ea66c6162656c73c40202"
    "00a8666561747572657382a47370656301a676616c75657392cb3fe0000000000000cbc000000000000000"
)
AUDIT_BYTES = bytes.fromhex(
    "01de0010a474797065a9486172644672616d65a663616d657261a6676174652d31a4626f6f74a26231a373657107a5667261"
    "6d6578a3707473cb4010000000000000a86361707475726564cb41dad27480000000a6726561736f6ea56175646974a46c6f"
    "7373cb400a000000000000a86d6f64656c5f6964a9676174652d312d7236a57769647468cd0780a6686569676874cd0438a6"
    "736861323536d940616261626162616261626162616261626162616261626162616261626162616261626162616261626162"
    "61626162616261626162616261626162616261626162aa646574656374696f6e7383a5626f786573c4200000803f00000040"
    "0000f0410000204200000000000000000000b0400000c040a673636f726573c4086666663f0000803ea66c6162656c73c402"
    "0200a8666561747572657382a47370656301a676616c75657392cb3fe0000000000000cbc000000000000000ab70726f6261"
    "62696c697479cb3f747ae147ae147b"
)


@pytest.mark.parametrize(("frame", "header"), [(FRAME, FRAME_BYTES), (AUDIT, AUDIT_BYTES)])
def test_golden_bytes_of_frames_with_and_without_a_probability_still_decode(frame: HardFrame, header: bytes) -> None:
    assert pack(frame, b"jpeg")[0] == header
    assert unpack([header, b"jpeg"], "edge")[0] == frame


@pytest.mark.parametrize(("message", "payload", "kind"), ALL, ids=lambda value: type(value).__name__)
def test_a_side_refuses_messages_that_only_it_may_send(message: Message, payload: bytes | None, kind: Sender) -> None:
    assert refusal(pack(message, payload), "cloud" if kind == "edge" else "edge") == "unknown-type"


def test_another_version_is_refused_and_named() -> None:
    newer = bytes([2]) + pack(Ack("b1", 7, 1))[0][1:]
    assert refusal([newer], "cloud") == "version"
    with pytest.raises(ProtocolError, match="speaks protocol version 2, this side 1"):
        unpack([newer], "cloud")


def test_unknown_type_is_refused() -> None:
    assert refusal([header(EDGE[0][0], type="Shutdown")]) == "unknown-type"
    assert refusal([header(EDGE[0][0], type=7)]) == "unknown-type"


@pytest.mark.parametrize(("message", "payload", "kind"), ALL, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("value", [True, None, -7, 2.5, "x" * 5000, b"x" * 5000, list(range(2000)), {"a": {"b": [{}]}}])
def test_unknown_fields_are_passed_over(message: Message, payload: bytes | None, kind: Sender, value: object) -> None:
    parts = [header(message, unheard_of=value), *([] if payload is None else [payload])]
    assert unpack(parts, kind) == (message, payload)


def test_unknown_fields_are_passed_over_in_parts_of_messages() -> None:
    told = msgspec.to_builtins(ASIDE, builtin_types=(bytes,))
    for part in (told["detections"], told["features"], told["ignored"][0]):
        part["unheard_of"] = [1, 2]
    assert unpack([b"\x01" + msgpack.packb(told), b"jpeg"], "edge")[0] == ASIDE
    state = msgspec.to_builtins(STATE) | {"unheard_of": {"a": 1}}
    assert unpack([header(EDGE[0][0], cameras=[state])], "edge")[0] == EDGE[0][0]


def test_an_unknown_field_never_makes_up_for_one_that_is_missing_or_wrong() -> None:
    assert refusal([header(EDGE[0][0], unheard_of=1, boot="../up")]) == "malformed"
    assert refusal([b"\x01" + msgpack.packb({"type": "Ack", "unheard_of": 1})], "cloud") == "malformed"


def test_unknown_fields_count_against_the_limits_and_nothing_is_made_of_them() -> None:
    full = header(EDGE[0][0], unheard_of=list(range(MAX_HEADER // 4)))
    assert MAX_HEADER // 2 < len(full) <= MAX_HEADER
    unpack([full], "edge")
    tracemalloc.start()
    unpack([full], "edge")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(full), "thousands of numbers would take more"
    assert refusal([header(EDGE[0][0], unheard_of=b"x" * MAX_HEADER)]) == "oversized"
    offer = CLOUD[3][0]
    assert isinstance(offer, ModelOffer)
    assert refusal([header(offer, unheard_of=b"x" * MAX_OFFER)], "cloud") == "oversized"


def test_missing_field_and_wrong_type_are_refused() -> None:
    assert refusal([header(EDGE[0][0], boot=7)]) == "malformed"
    assert refusal([b"\x01" + msgpack.packb({"type": "Hello"})]) == "malformed"


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "a\\b",
        "a..b",
        ".hidden",
        "-rf",
        "name\n",
        "nul\0",
        "é",
        "a b",
        "x" * 65,
        "x" * 4096,
    ],
)
@pytest.mark.parametrize("field", ["camera", "boot", "model_id"])
def test_path_like_names_are_refused_in_every_field(field: str, identifier: str) -> None:
    assert refusal([header(FRAME, **{field: identifier}), b"jpeg"]) == "malformed"


@pytest.mark.parametrize("name", ["../up", "a\nb", "x" * 65])
def test_path_like_names_are_refused_as_counter_keys(name: str) -> None:
    state = msgspec.to_builtins(STATE) | {"dropped": {name: 1}}
    assert refusal([header(EDGE[0][0], cameras=[state])]) == "malformed"


@pytest.mark.parametrize("name", ["a", "gate-1", "2026.11.20_night", "x" * 64])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert unpack([header(FRAME, camera=name), b"jpeg"], "edge")[0] == msgspec.structs.replace(FRAME, camera=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": -1},
        {"seq": 2**60},
        {"seq": 1.5},
        {"seq": True},
        {"loss": float("nan")},
        {"pts": float("inf")},
        {"captured": -1.0},
        {"captured": float("nan")},
        {"reason": "because"},
        {"width": 0},
        {"height": 65_501},
        {"sha256": "AB" * 32},
        {"sha256": "ab" * 31},
        {"detections": None},
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()),
)
def test_out_of_bounds_fields_are_refused(changes: dict[str, Any]) -> None:
    assert refusal([header(FRAME, **changes), b"jpeg"]) == "malformed"


def test_too_many_cameras_or_counters_are_refused() -> None:
    state = msgspec.to_builtins(STATE)
    assert refusal([header(EDGE[0][0], cameras=[state] * 65)]) == "malformed"
    crowded = state | {"dropped": {f"reason-{index}": 1 for index in range(65)}}
    assert refusal([header(EDGE[0][0], cameras=[crowded])]) == "malformed"


def test_oversized_headers_are_refused_before_they_are_decoded() -> None:
    assert refusal([bytes(MAX_HEADER + 1)]) == "oversized"
    assert refusal([bytes(MAX_OFFER + 1)], "cloud") == "oversized"


def test_only_an_offer_may_be_as_large_as_an_offer() -> None:
    offer = ModelOffer("gate-1", bytes(MAX_MANIFEST))
    assert unpack(pack(offer), "cloud") == (offer, None)
    with pytest.raises(ProtocolError, match="at most"):
        pack(ModelOffer("gate-1", bytes(MAX_OFFER)))
    assert refusal([header(Refused("no"), reason="x" * MAX_HEADER)], "cloud") == "malformed"


def test_payload_caps_hold_on_both_sides() -> None:
    chunk, live = ModelChunk("gate-1", "r7", 0, 1), LivePicture("gate-1", 1.8e9, "none", 640, 480)
    assert refusal([header(live), bytes(MAX_LIVE + 1)]) == "oversized"
    assert refusal([header(FRAME), bytes(MAX_JPEG + 1)]) == "oversized"
    assert refusal([header(chunk), bytes(MAX_CHUNK + 1)], "cloud") == "oversized"
    with pytest.raises(ProtocolError):
        pack(chunk, bytes(MAX_CHUNK + 1))


def test_payloads_come_exactly_where_they_belong() -> None:
    assert refusal([header(FRAME)]) == "payload-missing"
    assert refusal([header(FRAME), b""]) == "payload-missing"
    assert refusal([header(EDGE[0][0]), b"jpeg"]) == "payload-unexpected"
    assert refusal([header(FRAME), b"jpeg", b"more"]) == "payload-unexpected"
    with pytest.raises(ProtocolError):
        pack(FRAME)


def test_nothing_at_all_is_refused() -> None:
    assert refusal([]) == "empty"
    assert refusal([b""]) == "empty"


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x83\xa4type\xa5Hello\xa7cameras\xdd\xff\xff\xff\xff",
        b"\x83\xa4type\xa5Hello\xa4boot\xdb\xff\xff\xff\xff",
        b"\x83\xa4type\xa5Hello\xa7unknown\xdd\xff\xff\xff\xff",
        b"\x83\xa4type\xa5Hello\xa7cameras\x91\x81\xa7dropped\xdf\xff\xff\xff\xff",
        b"\x83\xa3foo\xdd\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_declared_huge_costs_no_memory(body: bytes) -> None:
    assert refusal([b"\x01" + body]) == "malformed"


@pytest.mark.parametrize("opening", [b"", b"\x83\xa3foo", b"\x83\xa4type\xa5Hello\xa7cameras"])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    assert refusal([b"\x01" + opening + b"\x91" * 60_000]) == "malformed"


@pytest.mark.parametrize("body", [b"\x81\xa4type\xa2\xff\xff", b"\xc1", b"\x81\xc0\x00", b"\xcf" + b"\xff" * 8])
def test_what_makes_other_decoders_raise_strange_errors_is_refused(body: bytes) -> None:
    assert refusal([b"\x01" + body]) == "malformed"


def test_truncated_at_every_byte_is_refused() -> None:
    whole = header(FRAME)
    assert {refusal([whole[:cut], b"jpeg"]) for cut in range(1, len(whole))} == {"malformed"}
    assert refusal([whole + b"\0", b"jpeg"]) == "malformed"


def test_plain_text_always_fits_a_text_field() -> None:
    assert plain("é\n" + "x" * 500) == "??" + "x" * 198
    assert msgspec.convert(plain("\0 ü ~"), Text) == "? ? ~"


def test_detections_come_back() -> None:
    found = from_wire(to_wire(FOUND), class_count=3)
    np.testing.assert_array_equal(found.boxes, FOUND.boxes)
    np.testing.assert_array_equal(found.scores, FOUND.scores)
    np.testing.assert_array_equal(found.labels, FOUND.labels)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)


def test_no_detection_comes_back() -> None:
    found = from_wire(to_wire(Detections.empty()))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_only_the_best_boxes_travel_best_first() -> None:
    scores = np.linspace(0, 1, MAX_BOXES + 20, dtype=np.float32)
    many = Detections(np.zeros((len(scores), 4), np.float32), scores, np.zeros(len(scores), np.int64))
    np.testing.assert_array_equal(from_wire(to_wire(many)).scores, scores[::-1][:MAX_BOXES])


@pytest.mark.parametrize("label", [-1, 256])
def test_a_label_that_does_not_fit_is_not_sent(label: int) -> None:
    with pytest.raises(ProtocolError):
        to_wire(dataclasses.replace(FOUND, labels=np.array([label, 0])))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("labels", b"\0"),
        ("labels", b"\0\0\0"),
        ("scores", b"\0" * 7),
        ("scores", np.array([0.9, np.nan], "<f4").tobytes()),
        ("scores", np.array([1.5, 0.1], "<f4").tobytes()),
        ("scores", np.array([0.1, 0.9], "<f4").tobytes()),
        ("boxes", b"\0" * 33),
        ("boxes", np.full(8, np.inf, "<f4").tobytes()),
        ("boxes", np.full(8, np.nan, "<f4").tobytes()),
        ("boxes", np.full(8, 1e7, "<f4").tobytes()),
        ("boxes", np.array([9, 0, 1, 1, 0, 0, 1, 1], "<f4").tobytes()),
        ("labels", b"\0\x06"),
    ],
)
def test_unsound_detections_are_refused(part: str, value: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        from_wire(msgspec.structs.replace(to_wire(FOUND), **{part: value}), class_count=6)
    assert caught.value.reason == "malformed"


def test_more_boxes_than_allowed_are_refused() -> None:
    count = MAX_BOXES + 1
    with pytest.raises(ProtocolError):
        from_wire(WireDetections(bytes(16 * count), bytes(4 * count), bytes(count)))


NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
COUNTS = st.integers(0, 2**53)


@given(NAMES, NAMES, COUNTS, COUNTS, st.floats(-1e9, 1e9), st.binary(min_size=1, max_size=64))
def test_any_frame_within_bounds_comes_back(
    camera: str, boot: str, seq: int, frame: int, loss: float, jpeg: bytes
) -> None:
    message = msgspec.structs.replace(FRAME, camera=camera, boot=boot, seq=seq, frame=frame, loss=loss)
    assert unpack(pack(message, jpeg), "edge") == (message, jpeg)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from([message for message, _ in EDGE + CLOUD]), st.data(), st.sampled_from(["edge", "cloud"]))
def test_any_value_in_any_field_is_accepted_or_refused_by_name(
    message: Message, data: st.DataObject, kind: Sender
) -> None:
    field = data.draw(st.sampled_from(message.__struct_fields__))
    with contextlib.suppress(ProtocolError):
        unpack([header(message, **{field: data.draw(VALUES)})], kind)


@given(st.lists(st.binary(max_size=200), max_size=3), st.sampled_from(["edge", "cloud"]))
def test_random_bytes_are_refused_by_name(parts: list[bytes], kind: Sender) -> None:
    assert refusal(parts, kind) in {"empty", "version", "malformed", "unknown-type", "payload-unexpected"}


@given(st.binary(max_size=200), st.sampled_from(["edge", "cloud"]))
def test_random_bytes_after_the_version_are_refused_by_name(body: bytes, kind: Sender) -> None:
    assert refusal([b"\x01" + body], kind) in {"malformed", "unknown-type"}


@given(st.builds(WireDetections, st.binary(max_size=99), st.binary(max_size=24), st.binary(max_size=6)))
def test_random_detections_are_sound_or_refused(wire: WireDetections) -> None:
    try:
        found = from_wire(wire)
    except ProtocolError:
        return
    assert len(found.boxes) == len(found.scores) == len(found.labels)
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.scores).all()
