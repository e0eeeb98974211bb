from __future__ import annotations

import http.client
import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from culling.common.errors import SettingsError
from culling.common.health import HealthServer
from culling.common.metrics import Metrics
from culling.common.wire.address import http_url


class Service:
    """A served process whose readiness a test sets."""

    def __init__(self) -> None:
        self.readiness = (True, "2 cameras live")
        registry = CollectorRegistry()
        self.metrics = Metrics(registry, "edge")
        self.server = HealthServer("127.0.0.1", 0, registry, lambda: self.readiness)

    def ask(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Return status, content type and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.getheader("Content-Type", ""), body


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.server.close()


def test_port_0_takes_a_free_port(service: Service) -> None:
    assert service.server.port > 0


def test_metrics_are_in_the_form_prometheus_reads(service: Service) -> None:
    service.metrics.count("frames_seen", 7, camera="gate")
    status, content_type, body = service.ask("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert 'culling_frames_seen_total{camera="gate"} 7.0\n' in body


def test_a_query_on_the_path_is_ignored(service: Service) -> None:
    assert service.ask("/metrics?name=x")[0] == 200


def test_a_running_process_is_healthy_even_when_not_ready(service: Service) -> None:
    service.readiness = (False, "no model")
    assert service.ask("/healthz")[::2] == (200, "ok\n")


def test_readiness_says_why(service: Service) -> None:
    assert service.ask("/readyz")[::2] == (200, "2 cameras live\n")
    service.readiness = (False, "no camera is live")
    assert service.ask("/readyz")[::2] == (503, "no camera is live\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/healthzz"])
def test_any_other_path_is_not_found(service: Service, path: str) -> None:
    assert service.ask(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed_from_here(service: Service, method: str) -> None:
    assert service.ask("/metrics", method)[0] == 501


def test_a_client_that_says_nothing_keeps_no_other_waiting(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.server.port)):
        assert service.ask("/healthz")[0] == 200


def test_a_client_that_leaves_in_the_middle_is_no_event(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.server.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert service.ask("/healthz")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_readiness_check_that_fails_is_logged_and_the_server_stays(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.readiness = None  # type: ignore[assignment]
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        service.ask("/readyz")
    assert service.ask("/healthz")[0] == 200
    assert "health_request_failed" in capsys.readouterr().out


def test_a_taken_port_is_a_wrong_setting(service: Service) -> None:
    with pytest.raises(SettingsError, match=rf"metrics\.port: cannot listen on 127\.0\.0\.1:{service.server.port}"):
        HealthServer("127.0.0.1", service.server.port, CollectorRegistry(), lambda: (True, ""))


def test_it_is_served_over_ipv6_too() -> None:
    server = HealthServer("::1", 0, CollectorRegistry(), lambda: (True, "fine"))
    try:
        with urllib.request.urlopen(f"{http_url('::1', server.port)}/readyz", timeout=5) as answer:
            assert answer.read() == b"fine\n"
        with pytest.raises(SettingsError, match=rf"cannot listen on \[::1\]:{server.port}: "):
            HealthServer("::1", server.port, CollectorRegistry(), lambda: (True, ""))
    finally:
        server.close()


def test_a_host_that_is_not_ours_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1:0"):
        HealthServer("192.0.2.1", 0, CollectorRegistry(), lambda: (True, ""))


def test_a_closed_server_leaves_neither_thread_nor_port() -> None:
    before = threading.active_count()
    service = Service()
    service.server.close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.server.port), timeout=5)
