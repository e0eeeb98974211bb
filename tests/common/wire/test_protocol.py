"""The rules of the link, driven by a number that stands for the clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from culling.common.errors import ProtocolError
from culling.common.wire.messages import ModelChunk, ModelRequest
from culling.common.wire.protocol import PIECE, Beats, FrameKey, PerMinute, SendWindow, Transfer


def keys(*numbers: int) -> list[FrameKey]:
    return [("b1", number) for number in numbers]


def send(window: SendWindow, ready: list[FrameKey], now: float) -> list[FrameKey]:
    """Send all that the window lets through, as the forwarder does."""
    chosen = window.next(ready, now)
    for key in chosen:
        window.sent(key, now)
    return chosen


@pytest.fixture
def window() -> SendWindow:
    return SendWindow(size=3, timeout_s=10, longest_s=60)


def test_window_lets_its_size_through_oldest_first(window: SendWindow) -> None:
    assert send(window, keys(1, 2, 3, 4, 5), 0) == keys(1, 2, 3)
    assert send(window, keys(1, 2, 3, 4, 5), 1) == []
    assert len(window) == 3


def test_frame_not_taken_by_the_socket_is_offered_again(window: SendWindow) -> None:
    assert window.next(keys(1), 0) == window.next(keys(1), 0) == keys(1)


def test_ack_deletes_and_makes_room(window: SendWindow) -> None:
    send(window, keys(1, 2, 3), 0)
    assert window.ack(("b1", 2), 3, 1)
    assert send(window, keys(1, 3, 4), 1) == keys(4)


def test_forged_and_repeated_acks_delete_nothing(window: SendWindow) -> None:
    send(window, keys(1), 0)
    assert not window.ack(("b1", 2), 3, 1)
    assert not window.ack(("b0", 1), 3, 1)
    assert window.ack(("b1", 1), 3, 1)
    assert not window.ack(("b1", 1), 3, 1)


def test_busy_cloud_narrows_the_window_with_an_ack(window: SendWindow) -> None:
    send(window, keys(1, 2, 3), 0)
    window.ack(("b1", 1), 1, 1)
    assert send(window, keys(2, 3, 4), 1) == []
    window.ack(("b1", 2), 1, 1)
    assert send(window, keys(3, 4), 1) == []
    window.ack(("b1", 3), 1, 1)
    assert send(window, keys(4, 5), 1) == keys(4)


def test_silence_sends_again_with_doubling_patience(window: SendWindow) -> None:
    sent_at = [now for now in range(300) if send(window, keys(1), now)]
    assert sent_at == [0, 10, 30, 70, 130, 190, 250]


def test_silence_closes_the_window_to_one_and_acks_open_it_again(window: SendWindow) -> None:
    send(window, keys(1, 2, 3), 0)
    assert send(window, keys(1, 2, 3), 10) == keys(1)
    assert send(window, keys(1, 2, 3), 11) == []
    window.ack(("b1", 1), 3, 12)
    assert send(window, keys(2, 3, 4), 12) == keys(2)
    window.ack(("b1", 2), 3, 13)
    assert send(window, keys(3, 4, 5), 13) == keys(3)
    window.ack(("b1", 3), 3, 14)
    assert send(window, keys(4, 5, 6), 14) == keys(4, 5)
    window.ack(("b1", 4), 3, 15)
    assert send(window, keys(5, 6, 7), 15) == keys(6, 7)


def test_patience_follows_the_round_trips_of_a_thin_line() -> None:
    window = SendWindow(size=1, timeout_s=10, longest_s=600)
    send(window, keys(1), 0)
    send(window, keys(1), 10)
    window.ack(("b1", 1), 1, 25)
    send(window, keys(2), 25)
    assert send(window, keys(2), 74) == []
    assert send(window, keys(2), 75) == keys(2)


def test_nack_with_retry_keeps_the_place_until_later(window: SendWindow) -> None:
    send(window, keys(1, 2, 3), 0)
    assert not window.nack(("b1", 1), retry=True, now=1)
    assert send(window, keys(1, 2, 3, 4), 2) == []
    assert send(window, keys(1, 2, 3, 4), 9) == []
    assert window.ack(("b1", 2), 3, 9)
    assert window.ack(("b1", 3), 3, 9)
    assert send(window, keys(1, 4, 5, 6), 10) == keys(4, 5)
    assert window.ack(("b1", 4), 3, 10.5)
    assert window.ack(("b1", 5), 3, 10.5)
    assert send(window, keys(1), 11) == keys(1)


def test_nack_for_ever_gives_the_frame_up(window: SendWindow) -> None:
    send(window, keys(1, 2, 3), 0)
    assert window.nack(("b1", 1), retry=False, now=1)
    assert send(window, keys(2, 3, 4), 1) == keys(4)


def test_forged_nack_gives_nothing_up(window: SendWindow) -> None:
    send(window, keys(1), 0)
    assert not window.nack(("b1", 2), retry=False, now=1)
    assert not window.nack(("b0", 1), retry=True, now=1)
    assert len(window) == 1


def test_new_connection_sends_everything_again_at_once(window: SendWindow) -> None:
    send(window, keys(1, 2, 3), 0)
    window.reopen(2, now=1)
    assert send(window, keys(1, 2, 3), 1) == keys(1, 2)
    assert window.ack(("b1", 1), 2, 2)
    assert send(window, keys(2, 3), 2) == keys(3)
    assert send(window, keys(2, 3), 10.9) == []


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_over_a_bad_network_every_frame_is_delivered_and_never_deleted_before(seed: int, size: int) -> None:
    """Messages and Acks are lost, late, doubled and reordered; connections break; the cloud narrows and widens."""
    chance = random.Random(seed)
    window = SendWindow(size, timeout_s=5, longest_s=20)
    spool, stored, now = keys(*range(20)), set[FrameKey](), 0.0
    on_the_way: list[FrameKey] = []
    for _ in range(5_000):
        now += chance.random() * 2
        on_the_way += [key for key in send(window, spool, now) for _ in range(chance.choice([0, 1, 1, 2]))]
        chance.shuffle(on_the_way)
        assert len(window) <= 8
        while on_the_way and chance.random() < 0.7:
            key = on_the_way.pop()
            stored.add(key)
            if chance.random() < 0.8 and window.ack(key, chance.randint(1, size), now):
                spool.remove(key)
        if chance.random() < 0.05:
            on_the_way.clear()
            window.reopen(size, now)
        assert all(key in stored for key in keys(*range(20)) if key not in spool)
        if not spool:
            break
    assert stored == set(keys(*range(20)))
    assert spool == []


MODEL = random.Random(7).randbytes(2 * PIECE + 100)


def answer(request: ModelRequest, total: int = len(MODEL)) -> tuple[ModelChunk, bytes]:
    """Return what the cloud sends for `request`."""
    data = MODEL[request.offset : request.offset + request.length]
    return ModelChunk(request.camera, request.model_id, request.offset, total), data


def test_transfer_fetches_the_model_piece_by_piece() -> None:
    transfer, got = Transfer("gate-1", "r7", len(MODEL)), b""
    offsets = []
    while (request := transfer.request(0)) is not None:
        offsets.append(request.offset)
        got += transfer.accept(*answer(request))
    assert got == MODEL
    assert transfer.done
    assert offsets == [0, PIECE, 2 * PIECE]


def test_transfer_asks_once_and_again_only_after_a_while() -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), timeout_s=60)
    first = transfer.request(0)
    assert first == ModelRequest("gate-1", "r7", 0, PIECE)
    assert transfer.request(59) is None
    assert transfer.request(60) == first


def test_transfer_asks_again_at_once_on_a_new_connection() -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL))
    first = transfer.request(0)
    transfer.reopen()
    assert transfer.request(1) == first


def test_transfer_resumes_at_what_is_on_disk() -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), offset=2 * PIECE + 40)
    request = transfer.request(0)
    assert request == ModelRequest("gate-1", "r7", 2 * PIECE + 40, 60)
    assert transfer.accept(*answer(request)) == MODEL[-60:]
    assert transfer.done
    assert transfer.request(1e9) is None


def test_transfer_of_a_whole_file_on_disk_is_done() -> None:
    assert Transfer("gate-1", "r7", 10, offset=10).done


def test_more_on_disk_than_the_model_has_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        Transfer("gate-1", "r7", 10, offset=11)
    assert caught.value.reason == "beyond-total"


@pytest.mark.parametrize(
    "chunk",
    [
        ModelChunk("gate-2", "r7", 0, len(MODEL)),
        ModelChunk("gate-1", "r6", 0, len(MODEL)),
        ModelChunk("gate-1", "r7", 10, len(MODEL)),
    ],
    ids=["another camera", "another model", "another place"],
)
def test_chunk_that_was_not_asked_for_is_ignored(chunk: ModelChunk) -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL))
    transfer.request(0)
    assert transfer.accept(chunk, b"data") == b""
    assert transfer.offset == 0
    assert transfer.request(1) is None


def test_repeated_chunk_is_taken_once() -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL))
    request = transfer.request(0)
    assert request is not None
    assert transfer.accept(*answer(request)) == MODEL[:PIECE]
    assert transfer.accept(*answer(request)) == b""
    assert transfer.offset == PIECE


@pytest.mark.parametrize("total", [len(MODEL) - 1, len(MODEL) + 1])
def test_total_other_than_the_manifest_declares_is_refused(total: int) -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL))
    with pytest.raises(ProtocolError) as caught:
        transfer.accept(ModelChunk("gate-1", "r7", 0, total), b"data")
    assert caught.value.reason == "wrong-total"


@pytest.mark.parametrize(("offset", "length"), [(0, PIECE + 1), (len(MODEL) - 3, 4)])
def test_endless_data_is_refused(offset: int, length: int) -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), offset)
    with pytest.raises(ProtocolError) as caught:
        transfer.accept(ModelChunk("gate-1", "r7", offset, len(MODEL)), bytes(length))
    assert caught.value.reason == "beyond-total"
    assert transfer.offset == offset


@given(st.integers(0, 2**32))
def test_over_a_bad_network_the_model_arrives_whole(seed: int) -> None:
    chance = random.Random(seed)
    transfer, disk, now = Transfer("gate-1", "r7", len(MODEL), timeout_s=1), b"", 0.0
    on_the_way: list[tuple[ModelChunk, bytes]] = []
    while not transfer.done:
        now += chance.random()
        if (request := transfer.request(now)) is not None:
            on_the_way += [answer(request)] * chance.choice([0, 1, 2])
        if on_the_way and chance.random() < 0.8:
            disk += transfer.accept(*on_the_way.pop(chance.randrange(len(on_the_way))))
        if chance.random() < 0.1:
            transfer = Transfer("gate-1", "r7", len(MODEL), offset=len(disk), timeout_s=1)
    assert disk == MODEL


ONE, OTHER = "1" * 64, "2" * 64


def changed(request: ModelRequest, base: str = ONE, total: int = PIECE + 10) -> tuple[ModelChunk, bytes]:
    """Return what the cloud sends for `request` as a part of a delta."""
    data = MODEL[request.offset : min(total, request.offset + request.length)]
    return ModelChunk(request.camera, request.model_id, request.offset, total, base), data


def test_transfer_tells_what_is_here_until_it_is_told_by_which_delta_a_model_comes() -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), bases=(OTHER, ONE))
    first = transfer.request(0)
    assert first == ModelRequest("gate-1", "r7", 0, PIECE, (OTHER, ONE))
    assert transfer.accept(*changed(first)) == MODEL[:PIECE]
    second = transfer.request(0)
    assert second == ModelRequest("gate-1", "r7", PIECE, 10, (ONE,))
    assert transfer.accept(*changed(second)) == MODEL[PIECE : PIECE + 10]
    assert transfer.done
    assert transfer.base == ONE


def test_transfer_takes_the_whole_where_the_cloud_sends_it() -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), bases=(ONE,))
    request = transfer.request(0)
    assert request is not None
    assert transfer.accept(*answer(request)) == MODEL[:PIECE]
    assert transfer.request(0) == ModelRequest("gate-1", "r7", PIECE, PIECE)
    assert transfer.base is None


def test_transfer_of_a_delta_resumes_as_one() -> None:
    transfer = Transfer("gate-1", "r7", PIECE + 10, offset=PIECE, base=ONE)
    request = transfer.request(0)
    assert request == ModelRequest("gate-1", "r7", PIECE, 10, (ONE,))
    transfer.accept(*changed(request))
    assert transfer.done


@pytest.mark.parametrize("base", [None, ONE])
def test_a_delta_that_nobody_asked_for_is_ignored(base: str | None) -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), base=base)
    request = transfer.request(0)
    assert request is not None
    assert transfer.accept(*changed(request, base=OTHER)) == b""
    assert transfer.base == base


def test_a_delta_that_goes_on_as_the_whole_is_refused() -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), bases=(ONE,))
    request = transfer.request(0)
    assert request is not None
    transfer.accept(*changed(request))
    with pytest.raises(ProtocolError) as caught:
        transfer.accept(ModelChunk("gate-1", "r7", PIECE, len(MODEL)), b"data")
    assert caught.value.reason == "delta-gone"


@pytest.mark.parametrize("total", [len(MODEL), len(MODEL) + 1])
def test_a_delta_as_long_as_the_model_is_refused(total: int) -> None:
    transfer = Transfer("gate-1", "r7", len(MODEL), bases=(ONE,))
    with pytest.raises(ProtocolError) as caught:
        transfer.accept(ModelChunk("gate-1", "r7", 0, total, ONE), b"data")
    assert caught.value.reason == "wrong-total"


def test_peer_is_dead_after_three_silent_intervals() -> None:
    beats = Beats(interval_s=5, now=100)
    assert beats.alive(115)
    assert not beats.alive(115.1)
    beats.heard(115.1)
    assert beats.alive(130)


def test_own_beat_is_due_at_once_then_once_per_interval() -> None:
    beats = Beats(interval_s=5, now=100)
    assert [now for now in range(100, 115) if beats.due(now)] == [100, 105, 110]


def test_missed_beats_are_not_caught_up_on() -> None:
    beats = Beats(interval_s=5, now=0)
    assert beats.due(0)
    assert beats.due(1_000)
    assert not beats.due(1_001)


# An allowance


def test_no_more_pass_in_any_minute_than_are_allowed() -> None:
    allowance = PerMinute(3)
    passed = [second for second in range(0, 300, 7) if allowance.take(float(second))]
    for second in range(300):
        assert sum(second <= one < second + 60 for one in passed) <= 3
    assert len(passed) >= 13


def test_an_allowance_of_0_lets_nothing_through() -> None:
    assert not PerMinute(0).take(0.0)
