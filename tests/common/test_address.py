from __future__ import annotations

import socket
import threading

import pytest
from pydantic import TypeAdapter, ValidationError

from culling.common import address
from culling.common.address import Endpoint, Host, by_ipv6, http_url, in_url, is_endpoint


@pytest.mark.parametrize(
    "text",
    ["tcp://127.0.0.1:5577", "tcp://*:0", "tcp://cloud.example:5577", "tcp://[::1]:5577", "tcp://[fe80::1%eth0]:1"],
)
def test_an_endpoint_is_an_address_and_a_port(text: str) -> None:
    assert TypeAdapter(Endpoint).validate_python(text) == text
    assert is_endpoint(text)


@pytest.mark.parametrize(
    "text", ["tcp://cloud", "tcp://::1:5577", "udp://cloud:1", "tcp://[::1]", "tcp://a/b:1", "tcp://a:65536", ""]
)
def test_what_is_none_is_told_how_one_is_written(text: str) -> None:
    with pytest.raises(ValidationError, match="an IPv6 address in brackets"):
        TypeAdapter(Endpoint).validate_python(text)
    assert not is_endpoint(text)


def test_a_host_may_stand_in_brackets_and_does_in_a_url() -> None:
    assert TypeAdapter(Host).validate_python("[::1]") == TypeAdapter(Host).validate_python("::1") == "::1"
    assert http_url("::1", 80) == "http://[::1]:80"
    assert http_url("cloud.example", 80) == "http://cloud.example:80"
    assert in_url("127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ([socket.AF_INET6], True),
        ([socket.AF_INET], False),
        ([socket.AF_INET6, socket.AF_INET], False),
    ],
)
def test_a_name_is_reached_by_ipv6_only_where_it_must(
    monkeypatch: pytest.MonkeyPatch, families: list[int], expected: bool
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(family,) for family in families])
    assert by_ipv6("tcp://cloud.example:5577") is expected


def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    assert by_ipv6("tcp://[::1]:5577") is True
    assert by_ipv6("tcp://10.0.0.5:5577") is False


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(address, "LOOK_UP_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(answer.wait(20),)])
    assert by_ipv6("tcp://cloud.example:5577") is None
    answer.set()
