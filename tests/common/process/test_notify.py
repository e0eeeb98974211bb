from __future__ import annotations

import socket
from pathlib import Path

import pytest

from culling.common.process.notify import ALIVE, READY, tell


def listen(address: str) -> socket.socket:
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(address)
    inbox.settimeout(5)
    return inbox


def test_a_manager_is_told_over_a_socket_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with listen(str(tmp_path / "notify")) as inbox:
        tell(READY)
        assert inbox.recv(100) == b"READY=1"


def test_a_manager_is_told_over_a_socket_that_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"@culling{tmp_path}")
    with listen(f"\0culling{tmp_path}") as inbox:
        tell(ALIVE)
        assert inbox.recv(100) == b"WATCHDOG=1"


def test_without_a_manager_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell(READY)


def test_a_manager_that_does_not_listen_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    tell(READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "full"))
    with listen(str(tmp_path / "full")):
        for _ in range(10_000):
            tell(ALIVE)
