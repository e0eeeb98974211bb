"""Strangers who wear a port down: `python flood.py PORT HALF_OPEN DRIPPING PER_SECOND`, until its standard input ends.

`HALF_OPEN` connections say nothing, `DRIPPING` send a greeting byte by byte, and `PER_SECOND` more send a greeting and
then declare a message of 2^62 bytes, or bytes that mean nothing. Whatever the port closes is opened again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import struct
import sys

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"
NULL = b"NULL".ljust(20, b"\0") + bytes(32)
HUGE = b"\x06" + struct.pack("!Q", 1 << 62)


async def half_open(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while await reader.read(1024):
                pass
            writer.close()
        await asyncio.sleep(0.1)


async def dripping(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in GREETING + NULL + HUGE:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
            writer.close()
        await asyncio.sleep(0.1)


async def lying(port: int, per_second: int) -> None:
    dice = random.Random(2)
    while True:
        await asyncio.sleep(1 / per_second)
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GREETING + NULL + HUGE + bytes(4096) if dice.random() < 0.5 else dice.randbytes(2000))
            await writer.drain()
            writer.close()


async def main(port: int, silent: int, slow: int, per_second: int) -> None:
    loop = asyncio.get_running_loop()
    work = [half_open(port) for _ in range(silent)] + [dripping(port) for _ in range(slow)] + [lying(port, per_second)]
    tasks = [asyncio.create_task(one) for one in work]
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(len(tasks) == 0)


if __name__ == "__main__":
    os.nice(10)  # strangers have machines of their own; this one is to serve
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(*map(int, sys.argv[1:])))
