from __future__ import annotations

from typing import Any

import pytest

from culling.cloud.settings import load_settings
from culling.common.errors import SettingsError


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"round.warmup": 80}, "warmup is 80"),
        ({"round.most_steps": 20}, r"less than patience and most_steps \(20\)"),
        ({"round.int8_steps": 10, "student.int8": True}, "int8_steps changes every weight"),
    ],
)
def test_a_share_of_the_weights_that_would_not_be_trained_or_not_be_kept_is_refused(
    chosen: dict[str, Any], why: str
) -> None:
    folder = {"service.data_dir": "data"}
    load_settings(None, folder | chosen)
    load_settings(None, folder | {"round.trained_share": 0.05})
    with pytest.raises(SettingsError, match=why):
        load_settings(None, folder | {"round.trained_share": 0.05} | chosen)
