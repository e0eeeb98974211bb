from __future__ import annotations

import pytest
from pydantic import ValidationError

from culling.edge.view.settings import ViewSettings


def test_it_is_off_on_this_machine_alone_and_only_shows() -> None:
    view = ViewSettings()
    assert (view.enabled, view.host, view.token, view.actions) == (False, "127.0.0.1", True, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "edge.example"])
def test_without_a_token_it_is_served_on_loopback_only(host: str) -> None:
    with pytest.raises(ValidationError, match=r"keep the token, or set host to 127\.0\.0\.1"):
        ViewSettings(host=host, token=False)
    assert ViewSettings(host=host).token


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_on_loopback_it_may_do_without(host: str) -> None:
    assert not ViewSettings(host=host, token=False).token


def test_no_more_than_ten_pictures_a_second_can_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 10"):
        ViewSettings(max_fps=11)
