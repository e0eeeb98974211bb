"""Simulated edges that speak the real protocol over real CURVE, many in one process.

Each has the real sending rules (`SendWindow`) and a spool in memory. `made = acked + given up + left` at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import zmq

from culling.common.errors import ProtocolError
from culling.common.wire.codec import encode_jpeg
from culling.common.wire.messages import Ack, HardFrame, Heartbeat, Nack, Refused, Welcome, pack, unpack
from culling.common.wire.protocol import FrameKey, SendWindow
from culling.common.wire.transport import EdgeSocket
from support.cloud import CloudState, camera_state, hard_frame, hello


class SimulatedEdge:
    """One edge with one camera; its frames are numbered from 1."""

    def __init__(
        self,
        endpoint: str,
        server_key: str,
        secret: str,
        camera: str,
        context: zmq.Context[zmq.Socket[bytes]],
        beat_s: float,
    ) -> None:
        self.camera = camera
        self.greeted_at: float | None = None
        self._beat_s = beat_s
        self.made = 0
        self.acked: list[int] = []
        self.given_up: dict[int, str] = {}
        self.busy: dict[str, int] = {}
        self.refused: list[str] = []
        self.window = 1
        self._waiting: dict[FrameKey, tuple[HardFrame, bytes]] = {}
        self._sending = SendWindow(longest_s=15.0)
        self._socket = EdgeSocket(
            endpoint, server_key, secret, on_event=self._on_event, reconnect_s=0.1, context=context
        )
        self._next_beat = 0.0

    @property
    def left(self) -> int:
        """How many frames wait."""
        return len(self._waiting)

    @property
    def greeted(self) -> bool:
        """Whether the cloud has welcomed this edge on its connection."""
        return self.greeted_at is not None

    def make(self, count: int = 1, padding: bytes = b"") -> None:
        """Make `count` frames that are to be sent, each with `padding` after its picture."""
        for _ in range(count):
            self.made += 1
            picture = encode_jpeg(np.full((48, 64, 3), self.made % 256, np.uint8))
            frame, data = hard_frame(self.made, self.camera, picture + padding)
            self._waiting[frame.boot, frame.seq] = (frame, data)

    def turn(self) -> None:
        """Send what may be sent, and take what has come; never waits."""
        now = time.monotonic()
        if self._socket.connected and now >= self._next_beat:
            self._next_beat = now + self._beat_s
            state = camera_state(self.camera, f"{self.camera}-1")
            self._socket.send(pack(Heartbeat("boot-1", [state]) if self.greeted else hello(state)))
        if self.greeted:
            for key in self._sending.next(self._waiting, now):
                if not self._socket.send(pack(*self._waiting[key])):
                    break
                self._sending.sent(key, now)
        while (parts := self._socket.poll(0)) is not None:
            self._take(parts, now)

    def close(self) -> None:
        self._socket.close()

    def _take(self, parts: list[bytes], now: float) -> None:
        message, _ = unpack(parts, "cloud")
        match message:
            case Welcome():
                if self.greeted_at is None:
                    self._sending.reopen(message.window, now)
                    self.greeted_at = now
            case Ack():
                self.window = message.window
                if self._sending.ack((message.boot, message.seq), message.window, now):
                    self.acked.append(message.seq)
                    del self._waiting[message.boot, message.seq]
            case Nack():
                self.busy[message.reason] = self.busy.get(message.reason, 0) + 1
                if self._sending.nack((message.boot, message.seq), message.retry, now):
                    self.given_up[message.seq] = message.reason
                    del self._waiting[message.boot, message.seq]
            case Refused():
                self.refused.append(message.reason)
            case _:
                raise ProtocolError("unexpected", type(message).__name__)

    def _on_event(self, event: str) -> None:
        self.greeted_at = None
        self._next_beat = 0.0


class Fleet:
    """Edges enrolled at `state`, one camera each, that reach its service at `endpoint`."""

    def __init__(self, state: CloudState, endpoint: str, count: int, beat_s: float = 1.0) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.max_sockets = 4 * count + 64
        for number in range(count):
            state.publisher.publish(f"camera-{number}", state.artefact(tag=str(number)), "base")
        self.edges = [
            SimulatedEdge(
                endpoint,
                state.keys.curve_public,
                state.enroll(f"camera-{number}", edge=f"edge-{number}"),
                f"camera-{number}",
                self._context,
                beat_s,
            )
            for number in range(count)
        ]

    def run(self, until: Callable[[], bool], within_s: float = 60.0) -> None:
        """Let every edge go on until `until` holds."""
        deadline = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < deadline, f"not within {within_s} s: {self}"
            for edge in self.edges:
                edge.turn()
            time.sleep(0.002)

    def drained(self) -> bool:
        """Whether no frame waits anywhere."""
        return not any(edge.left for edge in self.edges)

    def acked(self) -> int:
        """How many frames were acked in all."""
        return sum(len(edge.acked) for edge in self.edges)

    def run_for(self, seconds: float, enough: int | None = None) -> None:
        """Let every edge go on for a while, or until `enough` frames were acked."""
        until = time.monotonic() + seconds
        self.run(
            lambda: time.monotonic() >= until or (enough is not None and self.acked() >= enough), within_s=seconds + 60
        )

    def close(self) -> None:
        for edge in self.edges:
            edge.close()
        self._context.term()

    def __repr__(self) -> str:
        return ", ".join(
            f"{edge.camera}: made {edge.made}, acked {len(edge.acked)}, left {edge.left}" for edge in self.edges[:10]
        )
