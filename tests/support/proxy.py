"""A TCP proxy with the faults that networks have, between real peers.

    delay_s      every byte arrives so much later, each way
    stall_share  so many of the chunks wait `STALL_S` longer: what a lost packet costs a TCP connection
    rate         bytes per second each way, 0 for no limit
    corrupt      one byte in so many is another one, 0 for none
    half_open    nothing arrives any more, and nobody is told: a pulled cable, a NAT that forgot
    up           False refuses and resets connections, as a router that restarts

All may be set while it runs. TCP delivers in order, so packets that overtake each other are seen as delay alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from types import TracebackType
from typing import Self

CHUNK = 4096
STALL_S = 0.2


class Proxy:
    """Listens on a free port of this machine and relays to `port`; `with Proxy(port) as proxy: … proxy.endpoint`."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self.delay_s = 0.0
        self.stall_share = 0.0
        self.rate = 0
        self.corrupt = 0
        self.half_open = False
        self.connections = 0
        self.relayed = 0
        self.port = 0
        self._up = True
        self._target = port
        self._random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy does not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy does not stop"

    @property
    def endpoint(self) -> str:
        """Where clients connect to."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def up(self) -> bool:
        """Whether connections are let through."""
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        self._up = up
        if not up:
            self.cut()

    def cut(self) -> None:
        """Reset every connection; new ones are let through as `up` says."""
        self._loop.call_soon_threadsafe(lambda: [_reset(writer) for writer in list(self._writers)])

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for relay in list(self._relays):
            relay.cancel()
        for writer in list(self._writers):
            _reset(writer)
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self._up:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._relay(source, sink, {writer, far_writer}))
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)

    async def _relay(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, both: set[asyncio.StreamWriter]
    ) -> None:
        """Read at once, and deliver when it is time; a bounded queue between keeps a slow line from buffering all."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        delivery = asyncio.create_task(self._deliver(line, sink))
        try:
            while data := await source.read(CHUNK):
                await line.put((self._loop.time() + self.delay_s, data))
            await line.put((0.0, b""))
            await delivery
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
            for writer in both:
                writer.close()
                self._writers.discard(writer)

    async def _deliver(self, line: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        while True:
            at, data = await line.get()
            if not data:
                return
            stalled = STALL_S if self._random.random() < self.stall_share else 0.0
            await asyncio.sleep(max(0.0, at - self._loop.time()) + stalled)
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            if self.half_open:
                continue
            self.relayed += len(data)
            with contextlib.suppress(ConnectionError):
                sink.write(self._damaged(data))
                await sink.drain()

    def _damaged(self, data: bytes) -> bytes:
        if not self.corrupt or self._random.random() >= len(data) / self.corrupt:
            return data
        place = self._random.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
