"""Which log-in a camera asks for: FFmpeg knows Basic and MD5 digests (RFC 2617), and of others says "unauthorized".

A digest by SHA-256 (RFC 7616) is what some cameras offer alone; the right password does not help then.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import ExitStack
from urllib.parse import urlsplit

MOST = 65_536
"""Bytes of an answer that are looked at."""

_ALGORITHM = re.compile(r'algorithm\s*=\s*"?([^",\s]+)', re.IGNORECASE)
_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}


def unknown_digest(url: str, timeout_s: float) -> str | None:
    """Return the digest algorithm that the server at `url` insists on, if FFmpeg does not know it, e.g. "SHA-256".

    Asks once, without the password, and gives up after `timeout_s` of silence.
    """
    try:
        return _unknown(_challenges(url, timeout_s))
    except (OSError, ValueError):
        return None


def _unknown(challenges: list[str]) -> str | None:
    algorithms = []
    for challenge in challenges:
        found = _ALGORITHM.search(challenge)
        algorithm = found[1] if found else "MD5"
        if not challenge.lower().startswith("digest") or algorithm.upper() in ("MD5", "MD5-SESS"):
            return None
        algorithms.append(algorithm)
    return algorithms[0] if algorithms else None


def _challenges(url: str, timeout_s: float) -> list[str]:
    head = _ask(url, timeout_s).partition(b"\r\n\r\n")[0].decode("latin-1")
    headers = [line.partition(":") for line in head.split("\r\n")[1:]]
    return [value.strip() for name, _, value in headers if name.strip().lower() == "www-authenticate"]


def _ask(url: str, timeout_s: float) -> bytes:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    place = parts.netloc.rpartition("@")[2]
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    if parts.scheme.startswith("rtsp"):
        request = f"DESCRIBE {parts.scheme}://{place}{path} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    else:
        request = f"GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n"
    with ExitStack() as life:
        connection = life.enter_context(socket.create_connection((host, port), timeout_s))
        if parts.scheme.endswith("s"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as FFmpeg; no secret is sent
            connection = life.enter_context(context.wrap_socket(connection, server_hostname=host))
        connection.sendall(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < MOST and (more := connection.recv(4096)):
            answer += more
        return answer
