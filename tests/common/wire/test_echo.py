from __future__ import annotations

from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.errors import ProtocolError
from culling.common.frame import Detections
from culling.common.wire.echo import AGES, MOST_BOXES, Echo, decode, encode
from culling.common.wire.messages import MAX_ECHO


def found(count: int, label: int = 0) -> Detections:
    boxes = np.tile(np.array([0, 0, 50, 50], np.float32), (count, 1))
    scores = np.linspace(0.9, 0.1, count, dtype=np.float32)
    return Detections(boxes, scores, np.full(count, label, np.int64))


def echo(count: int = 2, stood: Detections | None = None) -> Echo:
    return Echo(25.0, tuple(range(len(AGES))), (found(count),) * len(AGES), stood)


def test_an_echo_comes_back_as_it_left() -> None:
    back = decode(encode(echo(stood=found(1, label=2))))
    assert (back.rate, back.changes) == (25.0, tuple(range(len(AGES))))
    assert [len(one) for one in back.found] == [2] * len(AGES)
    assert back.stood is not None
    assert back.stood.labels.tolist() == [2]


def test_what_was_looked_at_itself_has_no_answer_that_stood() -> None:
    assert decode(encode(echo())).stood is None


def test_of_a_crowd_the_best_boxes_travel_and_any_crowd_fits() -> None:
    data = encode(echo(300, stood=found(300)))
    assert 0 < len(data) <= MAX_ECHO
    assert [len(one) for one in decode(data).found] == [MOST_BOXES] * len(AGES)


def test_labels_are_told_by_another_list() -> None:
    told = echo(stood=found(1, label=1)).among(("person", "car"), ("car",))
    assert [len(one) for one in told.found] == [0] * len(AGES)
    assert told.stood is not None
    assert told.stood.labels.tolist() == [0]


def test_a_label_that_the_model_has_no_class_for_is_damage() -> None:
    with pytest.raises(ProtocolError, match="label 2, but there are 2 classes"):
        decode(encode(echo(stood=found(1, label=2))), class_count=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"changes": (1, 2)},
        {"changes": (1, 2, 3, 4, 5, 6, 256)},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"found": ()},
    ],
)
def test_what_is_out_of_range_is_damage(wrong: dict[str, object]) -> None:
    told = msgspec.msgpack.decode(encode(echo()))
    with pytest.raises(ProtocolError):
        decode(msgspec.msgpack.encode(told | wrong))


@given(st.binary(max_size=200))
def test_nothing_but_a_protocol_error_comes_out_of_any_bytes(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_nor_out_of_an_echo_that_was_damaged(place: int, noise: bytes) -> None:
    data = bytearray(encode(echo(stood=found(1))))
    data[place : place + len(noise)] = noise
    with suppress(ProtocolError):
        decode(bytes(data))
