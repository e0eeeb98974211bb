from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.edge.model import families
from culling.edge.model.families import OUTLINES, open_family


@pytest.mark.parametrize("name", OUTLINES)
def test_each_family_is_opened_without_weights_and_runs_at_any_size(name: str) -> None:
    graph = open_family(name, "cpu", 1)
    assert graph.info.classes == CLASSES
    picture = np.random.default_rng(0).integers(0, 255, (1, 96, 128, 3), np.uint8)
    assert len(graph.run(picture)) == 1


def test_a_package_without_its_files_is_to_be_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match="install Culling again"):
        open_family("yolox", "cpu", 1)
