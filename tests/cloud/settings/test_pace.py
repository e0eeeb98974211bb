from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from culling.cloud.settings import PaceSettings


def test_it_is_off_unless_asked_for() -> None:
    assert not PaceSettings().on


@pytest.mark.parametrize(
    "wrong", [{"halve_above": 0.8}, {"double_below": 0.95}, {"least": 0.0}, {"least": 1.5}, {"most": 0.5}, {"most": 65}]
)
def test_what_would_steer_nowhere_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PaceSettings.model_validate(wrong)
