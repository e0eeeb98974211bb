from __future__ import annotations

import pytest

from culling.common.errors import ModelError
from culling.common.graph import open_graph
from culling.edge.model.provider import choose_provider, probe


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def test_without_a_gpu_the_cpu_is_taken_where_it_is_allowed() -> None:
    assert choose_provider(allow_cpu=True) == "cpu"


def test_without_a_gpu_and_leave_to_use_the_cpu_the_setting_is_named() -> None:
    with pytest.raises(ModelError, match=r"agent\.allow_cpu"):
        choose_provider(allow_cpu=False)


def test_the_probe_is_a_student_that_finds_nothing() -> None:
    assert open_graph(probe(), provider="cpu").warm(2, 64, 96) >= 0
