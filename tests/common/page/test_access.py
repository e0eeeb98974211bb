from __future__ import annotations

import stat
from pathlib import Path

import pytest

from culling.common.errors import StorageError
from culling.common.page.access import holds, make_token, own


def test_the_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "page.token"
    token = make_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_token(path) == token
    path.chmod(0o644)
    assert make_token(path) != token  # others may have read it


def test_a_folder_that_takes_no_token_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"view\.token"):
        make_token(tmp_path / "gone" / "view.token")


def test_a_token_is_taken_from_either_header_and_a_wrong_one_is_none() -> None:
    assert holds({"x-culling-token": "right"}, "right")
    assert holds({"authorization": "Bearer right"}, "right")
    for headers in ({}, {"authorization": "Basic right"}, {"x-culling-token": "wrong"}, {"x-culling-token": "rïght"}):
        assert not holds(headers, "right")


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", "https://[", "https://wall.example.elsewhere"])
def test_the_page_of_another_host_is_not_ours(origin: str) -> None:
    assert own("https://wall.example", "wall.example", []) is True
    assert own("https://WALL.example:8443", "127.0.0.1:9466", ["Wall.example"]) is True
    assert own(origin, "127.0.0.1:9466", ["wall.example"]) is False
