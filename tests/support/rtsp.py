"""An RTSP camera for tests: real RTSP, RTP over TCP or UDP, real H.264 from PyAV, and the faults that cameras have.

    none       plays its clip round and round, at its own pace
    mute       accepts the connection and never answers                            (F01)
    silent     answers up to PLAY, then sends nothing
    stall      stops sending in the middle of playing, and stays connected         (F02)
    drip       sends single bytes of a packet that never ends                      (F02)
    reset      resets the connection in the middle of playing                      (F03)
    close      ends the connection properly in the middle of playing               (F03)
    garbage    sends random bytes instead of some frames                           (F04)
    truncate   cuts some frames short                                              (F04)
    resize     goes on with pictures of another size                               (F05)
    freeze     goes on with one and the same picture                               (F06)
    black      goes on with a black picture                                        (F06)
    jump       lets its clock jump an hour forward, then two back                  (F07)

Every fault but the first ones sets in at frame `after` of a connection. `fault` may be set while the server runs. A
transport that is not in `transports` is refused; with a `challenge` (of a WWW-Authenticate header) so is everybody.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from functools import cache
from types import TracebackType
from typing import Self

import av
import numpy as np

from support.clips import picture

Frame = tuple[bytes, ...]
"""The NAL units of one picture."""

CLOCK_HZ = 90_000
GOP = 5
MTU = 1200
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n"
)


class RtspServer:
    """A camera on a free port; `with RtspServer("stall") as camera: … camera.url`. Serves any number of clients."""

    def __init__(
        self,
        fault: str = "none",
        after: int = 15,
        fps: int = 50,
        size: tuple[int, int] = (160, 128),
        transports: tuple[str, ...] = ("tcp", "udp"),
        challenge: str = "",
    ) -> None:
        self.fault = fault
        self.transports = transports
        self.challenge = challenge
        self.played_by: list[str] = []
        self.after = after
        self.fps = fps
        self.size = size
        self.port = 0
        self.connections = 0
        self._clients: set[asyncio.Task[None]] = set()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the camera is, with the password that it was installed with."""
        return f"rtsp://admin:s3cret@127.0.0.1:{self.port}/stream"

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def start(self) -> None:
        """Begin to listen; on the same port as before when it was stopped."""
        _clip(*self.size, "moving")
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="rtsp-server", daemon=True)
        self._thread.start()
        assert ready.wait(10), "the server does not start"

    def stop(self) -> None:
        """Drop all clients and stop listening."""
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server does not stop"

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10) -> bool:
        """Wait until `condition`, about connections and clients, holds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._end.wait()
        server.close()
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._note(lambda: self._clients.add(task))
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the server is stopped
        finally:
            writer.transport.abort()
            self._note(lambda: self._clients.discard(task))

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        player: asyncio.Task[None] | None = None
        send = _interleaved(writer)
        try:
            async for method, headers in _requests(reader):
                if self.fault == "mute":
                    continue
                asked = headers.get("transport", "")
                transport = "tcp" if "interleaved" in asked else "udp"
                if self.challenge and method == "DESCRIBE":
                    writer.write(_refuse(headers, "401 Unauthorized", f"WWW-Authenticate: {self.challenge}"))
                    continue
                if method == "SETUP" and transport not in self.transports:
                    writer.write(_refuse(headers, "461 Unsupported Transport"))
                    continue
                if method == "SETUP":
                    self.played_by.append(transport)
                    send = _interleaved(writer) if transport == "tcp" else _datagrams(writer, asked)
                writer.write(_answer(method, headers))
                if method == "TEARDOWN":
                    return
                if method == "PLAY" and player is None:
                    player = asyncio.create_task(self._play(writer, send))
        finally:
            if player is not None:
                player.cancel()
                await asyncio.gather(player, return_exceptions=True)

    async def _play(self, writer: asyncio.StreamWriter, send: Callable[[bytes], None]) -> None:
        loop, sequence = asyncio.get_running_loop(), 0
        start = loop.time()
        for number in range(1_000_000):
            fault = self.fault if number >= self.after else "none" if self.fault != "silent" else "silent"
            if fault in ("reset", "close"):
                _hang_up(writer, fault)
                return
            if fault not in ("stall", "silent", "drip"):
                for packet in _rtp(self._units(number, fault), sequence, _timestamp(number, self.fps, fault)):
                    sequence += 1
                    send(packet)
            elif fault == "drip":
                writer.write(b"$\0\xff\xff" if number == self.after else b"\x80")
            await writer.drain()
            await asyncio.sleep(max(0.0, start + (number + 1) / self.fps - loop.time()))

    def _units(self, number: int, fault: str) -> Frame:
        if fault == "resize":
            clip = _clip(self.size[0] * 2, self.size[1] * 2, "moving")
        elif fault in ("freeze", "black"):
            clip = _clip(*self.size, fault)
        else:
            clip = _clip(*self.size, "moving")
        units = clip[number % len(clip)]
        if fault == "garbage" and number % GOP == 2:
            noise = random.Random(number)
            return tuple(unit[:1] + noise.randbytes(len(unit) - 1) for unit in units)
        if fault == "truncate" and number % GOP == 2:
            return tuple(unit[: max(2, len(unit) // 2)] for unit in units)
        return units


@cache
def _clip(width: int, height: int, kind: str) -> tuple[Frame, ...]:
    """Return a clip to be played round and round, one frame's NAL units each; every `GOP`th is a key frame."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, 50), Fraction(50), GOP
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "scenecut=0"}
    encoder.thread_count = 2  # else a picture has as many slices as the machine has cores
    clip = []
    for number in range(40 if kind == "moving" else GOP):
        rgb = picture(number if kind == "moving" else 0, width, height)
        if kind == "black":
            rgb = np.random.default_rng(number).integers(0, 6, rgb.shape, np.uint8)
        if kind == "freeze" and clip:
            clip.append(clip[0])
            continue
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, encoder.time_base
        [packet] = encoder.encode(frame)
        clip.append(tuple(unit for unit in bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit))
    return tuple(clip)


def _rtp(units: Frame, sequence: int, timestamp: int) -> Iterator[bytes]:
    """Yield the RTP packets of one frame (RFC 6184: single NAL units, and FU-A fragments of long ones)."""
    payloads = [payload for unit in units for payload in _payloads(unit)]
    for index, payload in enumerate(payloads):
        marker = 0x80 if index == len(payloads) - 1 else 0
        number = (sequence + index) & 0xFFFF
        yield struct.pack("!BBHII", 0x80, 96 | marker, number, timestamp & 0xFFFFFFFF, 0xC0FFEE) + payload


def _payloads(unit: bytes) -> Iterator[bytes]:
    if len(unit) <= MTU:
        yield unit
        return
    head, body = unit[0], unit[1:]
    for start in range(0, len(body), MTU):
        first, last = start == 0, start + MTU >= len(body)
        yield bytes([(head & 0xE0) | 28, first << 7 | last << 6 | (head & 0x1F)]) + body[start : start + MTU]


def _timestamp(number: int, fps: int, fault: str) -> int:
    jump = 3600 if fault == "jump" and number % 20 < 10 else -3600 if fault == "jump" else 0
    return (2 * 3600 + jump) * CLOCK_HZ + number * CLOCK_HZ // fps


def _hang_up(writer: asyncio.StreamWriter, fault: str) -> None:
    if fault == "close":
        writer.close()
        return
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _interleaved(writer: asyncio.StreamWriter) -> Callable[[bytes], None]:
    return lambda packet: writer.write(b"$\0" + struct.pack("!H", len(packet)) + packet)


def _datagrams(writer: asyncio.StreamWriter, transport: str) -> Callable[[bytes], None]:
    port = int(transport.partition("client_port=")[2].partition("-")[0])
    host = writer.get_extra_info("peername")[0]

    def send(packet: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(packet, (host, port))

    return send


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Yield the method and headers of each request; the client's RTCP reports in between are skipped."""
    while first := await reader.read(1):
        if first == b"$":
            _, length = struct.unpack("!BH", await reader.readexactly(3))
            await reader.readexactly(length)
            continue
        line, *lines = (first + await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        pairs = (header.partition(":") for header in lines)
        yield line.split()[0], {name.lower(): value.strip() for name, _, value in pairs}


def _answer(method: str, asked: dict[str, str]) -> bytes:
    headers = {
        "OPTIONS": "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n",
        "SETUP": f"Session: 1\r\nTransport: {asked.get('transport', '')}\r\n",
    }.get(method, "Session: 1\r\n")
    body = SDP if method == "DESCRIBE" else ""
    return f"RTSP/1.0 200 OK\r\nCSeq: {asked['cseq']}\r\n{headers}\r\n{body}".encode()


def _refuse(asked: dict[str, str], status: str, *headers: str) -> bytes:
    lines = [f"RTSP/1.0 {status}", f"CSeq: {asked['cseq']}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
