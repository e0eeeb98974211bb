"""The hand-over of the newest frame."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from culling.edge.camera.latest import LatestFrame


def test_a_frame_is_taken_once() -> None:
    latest = LatestFrame[int]()
    assert latest.put(1) is None
    assert latest.ready
    assert latest.take() == 1
    assert not latest.ready
    assert latest.take() is None


def test_a_newer_frame_takes_the_older_ones_place_and_names_it() -> None:
    latest = LatestFrame[int]()
    assert [latest.put(number) for number in range(4)] == [None, 0, 1, 2]
    assert latest.take() == 3


def test_lossless_hand_over_delivers_each_frame_exactly_once() -> None:
    latest, taken = LatestFrame[int](arrivals := threading.Condition()), []
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(lambda: [latest.put_when_free(number) for number in range(200)])
        while len(taken) < 200:
            with arrivals:
                assert arrivals.wait_for(lambda: latest.ready, 10)
            taken.append(latest.take())
        assert lost.result(10) == [None] * 200
    assert taken == list(range(200))


def test_close_wakes_a_waiting_hand_over_and_gives_its_frame_back() -> None:
    latest = LatestFrame[int]()
    latest.put(1)
    waiting = threading.Event()

    def hand_over() -> int | None:
        waiting.set()
        return latest.put_when_free(2)

    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(hand_over)
        assert waiting.wait(10)
        assert latest.close() == 1
        assert lost.result(10) == 2


def test_nothing_comes_in_after_close() -> None:
    latest = LatestFrame[int]()
    assert latest.close() is None
    assert latest.put(1) == 1
    assert latest.put_when_free(2) == 2
    assert latest.take() is None


def test_one_condition_tells_of_any_camera() -> None:
    arrivals = threading.Condition()
    gate, yard = LatestFrame[str](arrivals), LatestFrame[str](arrivals)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(yard.put, "picture")
        with arrivals:
            assert arrivals.wait_for(lambda: gate.ready or yard.ready, 10)
    assert (gate.take(), yard.take()) == (None, "picture")


def test_every_frame_is_either_taken_or_named_as_lost() -> None:
    latest, arrivals = LatestFrame[int](condition := threading.Condition()), 2000
    done = threading.Event()

    def give() -> list[int | None]:
        lost = [latest.put(number) for number in range(arrivals)]
        done.set()
        return lost

    taken: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(give)
        while not (done.is_set() and not latest.ready):
            with condition:
                condition.wait_for(lambda: latest.ready, 0.01)
            if (frame := latest.take()) is not None:
                taken.append(frame)
        names = [frame for frame in lost.result(10) if frame is not None]
    assert sorted(taken + names) == list(range(arrivals))
    assert taken == sorted(taken)
