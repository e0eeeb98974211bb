"""`kind = "zmq"`: every record to all who subscribe (ZeroMQ PUB): the camera's name, then the record as JSON.

With `readers`, CURVE is on and only their keys are let in. A reader that is too slow loses records, counted once each
as `slow-reader` however many readers are slow; the others get them all.
"""

from __future__ import annotations

from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from culling.common.detections import Batch
from culling.common.errors import ProtocolError, SettingsError
from culling.common.wire.transport import public_key
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, DownError, Sink

HWM = 1000
"""Records that wait in memory for one slow reader."""
LINGER_MS = 1000
DOMAIN = "culling-output"


class ZmqPublisher(Sink):
    """Binds the endpoint; `endpoint` is the one bound to, with the real port where 0 was asked for."""

    def __init__(self, settings: OutputSettings, around: Around) -> None:
        super().__init__(settings, around)
        self.endpoint = settings.bind
        self._secret = settings.read_secret()
        try:
            self.public = None if self._secret is None else public_key(self._secret)
        except ProtocolError as error:
            raise SettingsError(f"output {settings.name}: secret: {error}") from None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._doorman: Any = None

    @property
    def where(self) -> str:
        return f"{self.endpoint}{' with CURVE' if self._secret else ''}"

    def open(self) -> None:
        """Listen."""
        self._context = zmq.Context()
        if self._secret is not None:
            self._doorman = ThreadAuthenticator(self._context)
            self._doorman.start()
            self._doorman.configure_curve_callback(DOMAIN, _Readers(self.settings.readers))
        socket = self._socket = self._context.socket(zmq.PUB)
        socket.linger, socket.sndhwm = LINGER_MS, HWM
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.ipv6 = self.settings.bind.startswith(("tcp://[", "tcp://*"))
        if self._secret is not None:
            socket.curve_server, socket.curve_secretkey = True, self._secret.encode()
            socket.zap_domain = DOMAIN.encode()
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        try:
            socket.bind(self.settings.bind)
        except zmq.ZMQError as error:
            raise DownError(f"cannot listen on {self.settings.bind}: {error.strerror}") from None
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, batch: Batch) -> None:
        """Publish each record."""
        missed = sum(not self._publish(record.camera.encode(), self.encode(record)) for record in batch.records)
        if missed:
            self.lost(missed, "slow-reader")

    def _publish(self, topic: bytes, data: bytes) -> bool:
        """Send to every reader that has room; return whether all had."""
        assert self._socket is not None
        try:
            self._socket.send_multipart((topic, data), zmq.NOBLOCK)
        except zmq.Again:  # one has not: libzmq tells so only while it may not drop
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._socket.send_multipart((topic, data), zmq.NOBLOCK)
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
            return False
        return True

    def close(self) -> None:
        """Send what is queued, for a second at most, and free the port."""
        if self._socket is not None:
            self._socket.close()
        if self._doorman is not None:
            self._doorman.stop()
        if self._context is not None:
            self._context.term()
        self._socket = self._doorman = self._context = None


class _Readers:
    """Who is let in, as the authenticator asks."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = frozenset(keys)

    def callback(self, domain: str, key: bytes) -> bool:
        return key.decode() in self._keys
