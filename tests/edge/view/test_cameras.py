from __future__ import annotations

from typing import get_args

import pytest

from culling.edge.camera.camera import State
from culling.edge.output.sink import CameraNow
from culling.edge.view.cameras import why


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_in_which_no_picture_comes_has_a_sentence(state: str) -> None:
    told = why(CameraNow("gate", state, ("person",)), new=False)
    assert told.endswith(".")
    assert state in ("live", "connecting") or told != why(CameraNow("gate", "live", ("person",)), new=False)


def test_a_camera_whose_picture_comes_needs_none() -> None:
    assert why(CameraNow("gate", "live", ("person",)), new=True) == ""


def test_without_a_model_the_picture_is_shown_and_it_says_why_nothing_is_found() -> None:
    assert "no model yet" in why(CameraNow("gate", "live"), new=True)
