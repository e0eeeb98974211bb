"""Addresses as people write them, IPv4, IPv6 or by name: what a setting takes, and what stands in a URL."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from typing import Annotated

from pydantic import AfterValidator

LOOK_UP_S = 2.0
"""A name server that is slower than this must not hold up the agent; the next connection asks again."""

MOST_PORT = 65_535

_IPV4 = re.compile(r"[\d.]+")
_ENDPOINT = re.compile(r"tcp://(\[[^\s\[\]/]+\]|[^\s\[\]/:]+):(\d+)")


def _endpoint(text: str) -> str:
    if not is_endpoint(text):
        raise ValueError("expected tcp://HOST:PORT, an IPv6 address in brackets, as in tcp://[::1]:5577")
    return text


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("expected an IP address, or a network such as 10.0.0.0/8") from None
    return text


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]") if host.startswith("[") else host


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""`tcp://HOST:PORT`."""

Host = Annotated[str, AfterValidator(_bare)]
"""A name or an address to listen on; an IPv6 address may stand in brackets."""


Network = Annotated[str, AfterValidator(_network)]
"""An IP address, or a network such as 10.0.0.0/8."""


def is_endpoint(text: str) -> bool:
    """Return whether `text` is an `Endpoint`."""
    match = _ENDPOINT.fullmatch(text)
    return match is not None and int(match[2]) <= MOST_PORT  # ZeroMQ would take what is left of a larger one


def is_loopback(host: str) -> bool:
    """Return whether a `Host`, also as it stands in a URL, is this machine's own and reached from nowhere else."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def http_url(host: str, port: int) -> str:
    """Return the `http://` URL of a `Host` and port."""
    return f"http://{in_url(host)}:{port}"


def in_url(host: str) -> str:
    """Return a `Host` as it stands in a URL or a Host header: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def family(host: str) -> socket.AddressFamily:
    """Return the family of sockets that listen on a `Host`."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def by_ipv6(endpoint: str) -> bool | None:
    """Return whether a peer at `endpoint` is to be reached by IPv6: only where it has no IPv4 address.

    None when its name cannot be looked up within two seconds: then nothing is known yet.
    """
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or match[1].startswith("["):
        return match is not None
    if _IPV4.fullmatch(match[1]):
        return False
    found: list[set[int]] = []

    def look_up() -> None:
        try:
            found.append({entry[0] for entry in socket.getaddrinfo(match[1], None, type=socket.SOCK_STREAM)})
        except (OSError, UnicodeError):
            return

    waiting = threading.Thread(target=look_up, name="look-up", daemon=True)
    waiting.start()
    waiting.join(LOOK_UP_S)
    return socket.AF_INET not in found[0] if found else None
