"""The newest picture of each camera for those who look: held only while somebody does, and encoded once for all.

    main loop          wanted? → offer       newest only, at most `view.max_fps` a second; a moment's lock
    a viewer's thread  newest → JPEG         the scaler and the encoder work here, never in the camera path

A picture that is offered was masked on its camera's thread. What is not shown is counted: `rate` (more came than are
shown in a second), `newer` (those who look were slower), `unreadable` (it could not be scaled or encoded).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import av

from culling.common.clock import Clock
from culling.common.metrics import Metrics
from culling.common.profile.thinner import Thinner
from culling.common.wire.codec import encode_jpeg
from culling.edge.camera.camera import Frame
from culling.edge.output.seen import Seen
from culling.edge.view.settings import ViewSettings

LOOKS_S = 3.0
"""Whoever has asked for a picture looks for so long; a browser that looks asks again at once."""


@dataclass(frozen=True)
class Shown:
    """One picture: its number, which no other picture of the camera has, and what was found in it; None before a model.

    `frame` is the one that was encoded, at full size.
    """

    number: int
    jpeg: bytes
    frame: Frame
    seen: Seen | None


@dataclass
class _Waiting:
    number: int
    frame: Frame
    seen: Seen | None


@dataclass
class _Slot:
    """One camera that somebody looks at or has looked at; `era` counts how often its pictures were forgotten."""

    thinner: Thinner
    until: float = 0.0
    number: int = 0
    era: int = 0
    waiting: _Waiting | None = None
    shown: Shown | None = None
    turn: threading.Condition = field(default_factory=threading.Condition)
    encoding: threading.Lock = field(default_factory=threading.Lock)

    def other_than(self, last: int) -> bool:
        return self.waiting is not None or (self.shown is not None and self.shown.number != last)

    def forget(self) -> None:
        with self.turn:
            self.waiting = self.shown = None
            self.era += 1


class LiveFrames:
    """What the camera path shows, and viewers see. All methods are safe from any thread."""

    def __init__(self, settings: ViewSettings, metrics: Metrics, clock: Clock) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
        self._closed = False

    def wanted(self, camera: str) -> bool:
        """Return whether somebody looks at a camera; without anybody, none of its pictures is kept."""
        slot = self._slots.get(camera)
        if slot is None:
            return False
        if slot.until > self._clock.monotonic():
            return True
        if slot.waiting is not None or slot.shown is not None:
            slot.forget()
        return False

    def offer(self, frame: Frame, seen: Seen | None) -> None:
        """Show a frame of the camera path, with what was found in it, if somebody looks; never waits for them."""
        if not self.wanted(frame.camera):
            return
        slot, lost = self._slots[frame.camera], "rate"
        with slot.turn:
            if slot.thinner.wants(self._clock.monotonic()):
                lost = "" if slot.waiting is None else "newer"
                slot.number += 1
                slot.waiting = _Waiting(slot.number, frame, seen)
                slot.turn.notify_all()
        if lost:
            self._skip(frame.camera, lost)

    def forget(self, camera: str) -> None:
        """Show no picture from before: it may hold what is masked from now on."""
        if (slot := self._slots.get(camera)) is not None:
            slot.forget()

    def newest(self, camera: str, last: int, within_s: float) -> Shown | None:
        """Return a camera's newest picture, as soon as that is another than number `last`; None if it does not come.

        The camera must be one of the agent's: something is kept for every name that is asked for.
        """
        slot = self._want(camera, within_s + LOOKS_S)
        with slot.turn:
            slot.turn.wait_for(lambda: self._closed or slot.other_than(last), within_s)
        with slot.encoding:  # whoever comes second finds the picture made
            self._encode(camera, slot)
        shown = slot.shown
        return shown if shown is not None and shown.number != last else None

    def want(self, camera: str, for_s: float) -> None:
        """Keep the newest picture of a camera for so many seconds, for who asks for it then."""
        self._want(camera, for_s)

    def _want(self, camera: str, for_s: float) -> _Slot:
        slot = self._slots.setdefault(camera, _Slot(Thinner(self._settings.max_fps)))
        slot.until = max(slot.until, self._clock.monotonic() + for_s)
        return slot

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed = True
        for slot in list(self._slots.values()):
            with slot.turn:
                slot.turn.notify_all()

    def _encode(self, camera: str, slot: _Slot) -> None:
        with slot.turn:
            waiting, slot.waiting, era = slot.waiting, None, slot.era
        if waiting is None:
            return
        try:
            jpeg = self._jpeg(waiting.frame)
        except (av.FFmpegError, ValueError):
            self._skip(camera, "unreadable")
            return
        with slot.turn:
            if slot.era == era:
                slot.shown = Shown(waiting.number, jpeg, waiting.frame, waiting.seen)
        self._metrics.count("view_frames", camera=camera)

    def _jpeg(self, frame: Frame) -> bytes:
        shrunk = min(1.0, self._settings.long_side / max(frame.width, frame.height))
        size = (max(1, round(side * shrunk)) for side in (frame.height, frame.width))
        return encode_jpeg(frame.input(*size), self._settings.jpeg_quality)

    def _skip(self, camera: str, reason: str) -> None:
        self._metrics.count("view_frames_skipped", camera=camera, reason=reason)
