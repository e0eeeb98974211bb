"""A TCP balancer in front of services that all do the same: each connection goes to the next one that answers."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress


class Balancer:
    """Listens on a free port of this machine; `endpoint` is what edges are given. A backend is (host, port)."""

    def __init__(self, backends: Iterable[tuple[str, int]]) -> None:
        self._backends = list(backends)
        self._turns = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, name="balancer", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if (backend := self._next()) is None:
                    client.close()
                    continue
                for source, target in ((client, backend), (backend, client)):
                    threading.Thread(target=_pump, args=(source, target), daemon=True).start()

    def _next(self) -> socket.socket | None:
        first = next(self._turns)
        for turn in range(len(self._backends)):
            with suppress(OSError):
                return socket.create_connection(self._backends[(first + turn) % len(self._backends)], timeout=1)
        return None


def _pump(source: socket.socket, target: socket.socket) -> None:
    source.settimeout(None)
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
