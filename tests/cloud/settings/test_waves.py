from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from culling.cloud.settings import WavesSettings


def test_without_a_word_no_student_runs_beside_another_and_a_tenth_of_the_cameras_comes_first() -> None:
    assert (WavesSettings().shadow, WavesSettings().waves) == (0.0, (0.1, 1.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"shadow": -0.1},
        {"shadow": 1.1},
        {"audits": 9},
        {"deadline_s": 0},
        {"waves": []},
        {"waves": [0.1]},
        {"waves": [0.0, 1.0]},
        {"waves": [0.5, 0.2, 1.0]},
        {"waves": [0.5, 1.5]},
        {"waves": [1.0, 1.0]},
        {"max_failure_rate": 1.0},
    ],
)
def test_waves_that_lead_nowhere_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WavesSettings.model_validate(wrong)
