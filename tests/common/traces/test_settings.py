from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from culling.cloud.settings import CloudSettings
from culling.common.errors import MissingExtraError
from culling.common.traces.settings import TracesSettings, open_traces, traces_or_none
from support.site import Site

DEAD = TracesSettings(endpoint="http://127.0.0.1:1")


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "culling.common.traces.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)


def test_there_are_none_unless_an_endpoint_is_set(tmp_path: Path) -> None:
    assert open_traces(TracesSettings(), "edge") is None
    assert CloudSettings(service={"data_dir": str(tmp_path)}).traces == TracesSettings()  # type: ignore[arg-type]


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "tcp://127.0.0.1:4318", "http://", "file:///tmp/x"])
def test_an_endpoint_is_the_address_of_a_web_server(endpoint: str) -> None:
    with pytest.raises(ValidationError, match=r"expected http://HOST:PORT"):
        TracesSettings(endpoint=endpoint)


def test_a_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        TracesSettings(endpoint="https://me:hunter2@collector.example")


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_is_above_0_and_at_most_1(share: float) -> None:
    with pytest.raises(ValidationError):
        TracesSettings(share=share)


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_it_says_what_to_install() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'culling\[otel\]'"):
        open_traces(DEAD, "cloud")


@pytest.mark.usefixtures("without_the_extra")
def test_a_child_process_works_without_the_extra_and_says_so() -> None:
    with capture_logs() as logs, traces_or_none(DEAD, "cloud") as traces:
        assert traces is None
    assert [line["event"] for line in logs] == ["traces_unavailable"]


def test_a_child_process_closes_what_it_opened() -> None:
    with traces_or_none(DEAD, "cloud") as traces:
        assert traces is not None
    assert traces._closed


def test_nothing_of_opentelemetry_is_imported_before_it_is_wanted(tmp_path: Path) -> None:
    site = Site(tmp_path)
    script = """
import sys
from pathlib import Path
from culling.common.traces.settings import open_traces
from culling.edge.agent import Agent
from culling.edge.settings import load_settings
assert open_traces(load_settings(Path(sys.argv[1]), {}).traces, "edge") is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", script, str(site.write())], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
