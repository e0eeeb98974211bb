from __future__ import annotations

import subprocess

import pytest

from culling.common.errors import MissingExtraError
from culling.edge.bench import material
from culling.edge.bench.material import bundled_student


def test_without_torch_the_bundled_student_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], MissingExtraError.exit_code, "", "culling: needs torch")
    monkeypatch.setattr(material.subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(MissingExtraError, match=r"--model FILE\.onnx"):
        bundled_student()
