"""`kind = "webhook"`: batches of records to a server, by HTTPS.

A batch that fails is sent again, under the same id, until the server takes it: a server that has seen the id answers
2xx and does nothing. Requests are signed as https://www.standardwebhooks.com says, for which there are libraries:

    webhook-id, Idempotency-Key    the batch's id
    webhook-timestamp              seconds since the epoch, of this attempt
    webhook-signature              v1,BASE64 of HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"), where there is a secret
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
from contextlib import suppress
from importlib.metadata import version
from urllib.parse import unquote

import msgspec

from culling.common.address import in_url
from culling.common.detections import Batch
from culling.edge.output.settings import OutputSettings
from culling.edge.output.sink import Around, DownError, RefusedError, Sink
from culling.edge.output.tls import tls_context, why

LATER = frozenset({401, 403, 404, 407, 408, 410, 425, 429})
"""Answers that may change without the batch: a server that is being set up, or is busy. All of 3xx and 5xx, too."""
MOST_LATER_S = 300.0
"""A server that asks for a longer pause is asked again after so long."""
MAX_ANSWER = 64 * 1024


class Webhook(Sink):
    """One connection, kept open between batches."""

    def __init__(self, settings: OutputSettings, around: Around) -> None:
        super().__init__(settings, around)
        self.most, self.gather_s = settings.batch, settings.batch_s
        self._url = settings.address
        self._key = _signing_key(settings.read_secret())
        self._tls = tls_context(settings) if self._url.scheme == "https" else None
        self._encode = msgspec.json.Encoder().encode
        self._connection: http.client.HTTPConnection | None = None

    @property
    def where(self) -> str:
        """The server alone: many put a token into the path."""
        port = f":{self._url.port}" if self._url.port else ""
        return f"{self._url.scheme}://{in_url(self._url.hostname or '')}{port}"

    def open(self) -> None:
        """Connect."""
        host, port, timeout = self._url.hostname or "", self._url.port, self.settings.timeout_s
        self._connection = (
            http.client.HTTPConnection(host, port, timeout=timeout)
            if self._tls is None
            else http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        )
        try:
            self._connection.connect()
        except (OSError, ValueError) as error:
            raise DownError(f"{self.where}: {why(error)}") from None

    def send(self, batch: Batch) -> None:
        """Send a batch; returns once the server has taken it."""
        assert self._connection is not None, "open comes first"
        body = self._encode(batch)
        try:
            self._connection.request("POST", self._target, body, self._headers(batch.id, body))
            answer = self._connection.getresponse()
            answer.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DownError(f"{self.where}: {why(error)}") from None
        self._judge(answer)
        if not answer.isclosed() or answer.will_close:  # too long an answer, or the last one on this connection
            self._connection.close()  # http.client connects again with the next request

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()

    def check(self) -> str:
        """Send a signed batch without a record."""
        try:
            self.open()
            self.send(Batch(id="check", records=()))
        finally:
            self.close()
        return f"{self.where} takes batches"

    @property
    def _target(self) -> str:
        return (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")

    def _headers(self, batch: str, body: bytes) -> dict[str, str]:
        at = str(int(self.around.clock.now()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"culling/{version('culling')}",
            "webhook-id": batch,
            "Idempotency-Key": batch,
            "webhook-timestamp": at,
        }
        if self._key is not None:
            headers["webhook-signature"] = sign(self._key, batch, at, body)
        if self._url.username is not None:
            user = f"{unquote(self._url.username)}:{unquote(self._url.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        return headers

    def _judge(self, answer: http.client.HTTPResponse) -> None:
        code = answer.status
        if 200 <= code < 300:
            return
        told = f"{self.where}: the server answers {code} {answer.reason}".rstrip()
        if code < 400:
            raise DownError(f"{told}: set url to where that leads")
        if code in LATER or code >= 500:
            raise DownError(told, _later(answer.getheader("Retry-After")))
        raise RefusedError(f"{told}: such a batch is dropped")


def sign(key: bytes, batch: str, at: str, body: bytes) -> str:
    """Return the signature of a request."""
    digest = hmac.digest(key, f"{batch}.{at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _signing_key(secret: str | None) -> bytes | None:
    """Return the bytes to sign with: those that `whsec_` is the base64 of, else the text itself."""
    if secret is not None and secret.startswith("whsec_"):
        with suppress(ValueError):
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return None if secret is None else secret.encode()


def _later(header: str | None) -> float:
    try:
        return min(MOST_LATER_S, max(0.0, float(header or 0)))
    except ValueError:  # a date: the usual pause will do
        return 0.0
