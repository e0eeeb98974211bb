from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.model.base import base_artefact
from support.cloud import CAMERA, CloudState
from support.narrow import install
from support.rounds import QUICK, add


@pytest.fixture
def cloud(tmp_path: Path, narrow: Path) -> Iterator[CloudState]:
    """A camera with a narrow student and a narrow teacher, and a dozen frames that wait for a round."""
    weights = str(narrow / "student.safetensors")
    sections = {**QUICK, "student": {**QUICK["student"], "weights": weights}}
    sections["teacher"] = {**QUICK["teacher"], "file": weights}
    state = CloudState(tmp_path, **sections)
    install(narrow, state.data_dir)
    state.enroll()
    state.publisher.publish(CAMERA, base_artefact(state.settings, state.files), "base")
    add(state, range(1, 13))
    yield state
    state.close()
