from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bench = Callable[..., dict[str, Any]]


def test_ingest_is_held_against_the_smaller_of_socket_and_disk(bench: Bench) -> None:
    told = bench("ingest", "--edges", "3", "--frames", "6", "--size", "2000")
    assert [one["name"] for one in told["comparisons"]] == ["1 edge", "3 edges"]
    disk, one, three = (stated["median"] for stated in told["stated"])
    assert [one["reference"]["median"] for one in told["comparisons"]] == [min(disk, one), min(disk, three)]
