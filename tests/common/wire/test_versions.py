"""Two sides use the lower of their newest versions; bytes of other versions are read for ever."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from culling.common.errors import ProtocolError
from culling.common.wire.earlier import in_words_of_0_2
from culling.common.wire.messages import FromCloud, FromEdge, ModelRequest, Sender, Welcome, pack, unpack
from culling.common.wire.versions import FIRST, SPEAKS, Speaks, agreed
from support import recorded

EARLIER = ["0.2.0", "strict"]
SENDERS: list[Sender] = ["edge", "cloud"]


@pytest.mark.parametrize(
    ("edge", "cloud", "used"),
    [
        (Speaks(1, 1), Speaks(1, 1), 1),
        (Speaks(1, 2), Speaks(1, 3), 2),
        (Speaks(2, 4), Speaks(1, 3), 3),
        (Speaks(3, 3), Speaks(1, 3), 3),
        (None, Speaks(1, 2), 1),
        (Speaks(1, 2), None, 1),
        (None, None, 1),
    ],
)
def test_the_lower_of_the_two_newest_is_used(edge: Speaks | None, cloud: Speaks | None, used: int) -> None:
    assert agreed(edge, cloud) == used


@pytest.mark.parametrize(
    ("edge", "cloud", "told"),
    [
        (Speaks(3, 4), Speaks(1, 2), "the edge speaks protocol version 3 to 4, the cloud 1 to 2: .* at the cloud"),
        (None, Speaks(2, 3), "the edge speaks protocol version 1, the cloud 2 to 3: .* at the edge"),
        (Speaks(2, 2), None, "the edge speaks protocol version 2, the cloud 1: .* at the cloud"),
    ],
)
def test_no_version_in_common_names_both_and_who_is_behind(
    edge: Speaks | None, cloud: Speaks | None, told: str
) -> None:
    with pytest.raises(ProtocolError, match=told) as caught:
        agreed(edge, cloud)
    assert caught.value.reason == "version"


def test_this_side_speaks_with_those_that_say_no_range() -> None:
    assert agreed(SPEAKS, None) == agreed(None, SPEAKS) == FIRST.newest


@pytest.mark.parametrize("speaks", [{"oldest": 0, "newest": 1}, {"oldest": 1, "newest": 256}, {"oldest": 1}, 1, "1"])
def test_a_range_out_of_bounds_is_refused(speaks: object) -> None:
    body = msgspec.msgpack.encode({"type": "Welcome", "software": "x", "window": 1, "speaks": speaks})
    with pytest.raises(ProtocolError, match="speaks"):
        unpack([b"\x01" + body], "cloud")


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("version", EARLIER)
def test_every_message_of_earlier_versions_is_still_read_and_says_the_same(version: str, sender: Sender) -> None:
    for parts in recorded.said(version, sender):
        message, payload = unpack(parts, sender)
        assert recorded.kind(parts) == recorded.kind(again := pack(message, payload))
        assert recorded.understood_by(version, again)
        assert unpack(again, sender) == (message, payload)


@pytest.mark.parametrize("sender", SENDERS)
def test_the_last_state_that_refused_fields_is_written_in_the_same_bytes(sender: Sender) -> None:
    for parts in recorded.said("strict", sender):
        assert pack(*unpack(parts, sender)) == parts


def test_all_that_an_edge_says_in_the_words_of_0_2_is_understood_there() -> None:
    for parts in recorded.said("future", "edge"):
        message, payload = unpack(parts, "edge")
        told = pack(in_words_of_0_2(message), payload)  # type: ignore[arg-type]
        assert recorded.understood_by("0.2.0", told)
    assert not all(recorded.understood_by("0.2.0", parts) for parts in recorded.said("strict", "edge"))


def test_a_cloud_of_0_2_is_not_told_what_the_edge_has_and_sends_the_whole() -> None:
    request = ModelRequest("gate", "gate-2", 0, 100, ("1" * 64,))
    assert not recorded.understood_by("0.2.0", pack(request))
    assert recorded.understood_by("0.2.0", pack(in_words_of_0_2(request)))


@pytest.mark.parametrize("version", EARLIER)
def test_earlier_versions_are_recorded_whole(version: str) -> None:
    kinds = {recorded.kind(parts) for sender in SENDERS for parts in recorded.said(version, sender)}
    assert kinds == {
        "Hello", "HardFrame", "Heartbeat", "ModelRequest", "SwapReport",
        "Welcome", "Ack", "Nack", "ModelOffer", "ModelChunk", "Orders", "Refused",
    }  # fmt: skip
    assert len(get_args(FromEdge)) + len(get_args(FromCloud)) >= len(kinds)


@pytest.mark.parametrize("sender", SENDERS)
def test_what_a_future_version_adds_is_passed_over(sender: Sender) -> None:
    """At every level, and to the letter: what is understood is what was said before, but for who says it."""
    for now, then in zip(recorded.said("future", sender), recorded.said("strict", sender), strict=True):
        assert b"colour" in now[0]
        message, payload = unpack(now, sender)
        fields = msgspec.structs.asdict(message) | {"software": "", "speaks": None}
        before = msgspec.structs.asdict(unpack(then, sender)[0]) | {"software": "", "speaks": None}
        assert (fields, payload) == (before, then[1] if then[1:] else None)


def test_a_future_version_says_its_range() -> None:
    welcome = unpack(recorded.said("future", "cloud")[0], "cloud")[0]
    assert isinstance(welcome, Welcome)
    assert agreed(SPEAKS, welcome.speaks) == SPEAKS.newest
