from __future__ import annotations

import threading
from typing import Any

from culling.edge.camera.ending import replace_source, stop_all


class Source:
    """A camera that ends when `mute` is set, and says in which order it was told what."""

    name = "gate"

    def __init__(self, told: list[str], word: str, mute: threading.Event | None = None) -> None:
        self._told, self._word, self._mute = told, word, mute
        self.done = threading.Event()

    def start(self) -> None:
        self._told.append(f"start {self._word}")
        self.done.set()

    def stop(self) -> None:
        if self._mute is not None:
            self._mute.wait()
        self._told.append(f"stop {self._word}")
        self.done.set()


def test_all_are_told_to_end_though_one_answers_nothing() -> None:
    told: list[str] = []
    ever = threading.Event()
    mute, other = Source(told, "mute", ever), Source(told, "other")
    cameras: Any = [mute, other]
    stop_all(cameras, lambda: 0.01)
    assert other.done.wait(10)
    assert told == ["stop other"]
    ever.set()
    assert mute.done.wait(10)


def test_the_next_source_begins_when_the_one_before_has_ended() -> None:
    told: list[str] = []
    ever = threading.Event()
    before, after = Source(told, "before", ever), Source(told, "after")
    pair: Any = (before, after)
    replace_source(*pair)
    assert told == [], "nobody waits for it"
    ever.set()
    assert after.done.wait(10)
    assert told == ["stop before", "start after"]
