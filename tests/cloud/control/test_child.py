from __future__ import annotations

import pytest

from culling.cloud.control.child import environment


def test_a_child_is_told_its_settings_by_its_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CULLING_ROUND__KEPT", "7")
    monkeypatch.setenv("PATH", "/usr/bin")
    told = environment()
    assert told["PATH"] == "/usr/bin"
    assert not [name for name in told if name.startswith("CULLING_")]
