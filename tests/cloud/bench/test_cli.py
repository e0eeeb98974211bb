from __future__ import annotations

import pytest

from culling.common.cli import main


def test_a_folder_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ingest", "--folder", "nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
