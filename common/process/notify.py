"""What a service manager is told, over the socket that it names in NOTIFY_SOCKET (sd_notify(3)): ready, alive, ending.

Without such a socket nothing is told. Nothing here waits, and what cannot be told is no error: a service manager that
hears nothing acts by itself.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = "READY=1"
ALIVE = "WATCHDOG=1"
STOPPING = "STOPPING=1"


def tell(state: str) -> None:
    """Tell `state`, one of the above."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
