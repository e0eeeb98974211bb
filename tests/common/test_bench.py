from __future__ import annotations

import json
import os

import pytest

from culling.common.bench import (
    Comparison,
    Measured,
    Report,
    Spread,
    Stated,
    Target,
    at_least,
    at_most,
    in_turn,
    machine,
    print_report,
    resident,
)
from culling.common.errors import CullingError


def comparison(
    ours: tuple[float, ...], reference: tuple[float, ...], target: Target | None = None, name: str = "speed"
) -> Comparison:
    return Comparison(name, Measured("ours", "frames/s", ours), Measured("theirs", "frames/s", reference), target)


def test_a_ratio_is_taken_round_by_round() -> None:
    assert comparison((2.0, 9.0, 8.0), (1.0, 3.0, 2.0)).ratio == Spread(3.0, 2.0, 4.0)


def test_a_round_that_was_slow_for_both_sides_changes_no_ratio() -> None:
    assert comparison((10.0, 1.0), (10.0, 1.0)).ratio == Spread(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("target", "ratio", "met"),
    [
        (at_least(0.95), 0.95, True),
        (at_least(0.95), 0.94, False),
        (at_most(1.5), 1.5, True),
        (at_most(1.5), 1.6, False),
    ],
)
def test_a_target_is_met_at_its_value(target: Target, ratio: float, met: bool) -> None:
    assert comparison((ratio,), (1.0,), target).met is met


def test_the_decisive_comparison_is_the_one_furthest_from_its_target() -> None:
    near = comparison((0.9,), (1.0,), at_least(0.95), "near")
    far = comparison((4.0,), (1.0,), at_most(2.0), "far")
    free = comparison((99.0,), (1.0,), None, "free")
    assert Report("x", (near, far, free)).decisive is far
    assert Report("x", (free,)).decisive is free


@pytest.mark.parametrize(
    ("target", "figure", "shortfall"),
    [
        (at_least(2.0), 1.0, 2.0),
        (at_least(2.0), 4.0, 0.5),
        (at_most(2.0), 4.0, 2.0),
        (at_most(0.0), 0.0, 1.0),
        (at_most(0.0), 1.0, float("inf")),
        (at_least(1.0), 0.0, float("inf")),
    ],
)
def test_a_shortfall_says_how_many_times_a_target_is_missed(target: Target, figure: float, shortfall: float) -> None:
    assert target.shortfall(figure) == shortfall


def test_sides_are_called_once_a_round_and_each_round_begins_with_the_next() -> None:
    called: list[str] = []

    def side(name: str) -> float:
        called.append(name)
        return float(len(called))

    found = in_turn(3, lambda: side("a"), lambda: side("b"))
    assert called == ["a", "b", "b", "a", "a", "b"]
    assert found == [(1.0, 4.0, 5.0), (2.0, 3.0, 6.0)]


def test_how_far_a_bench_is_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    in_turn(2, lambda: 1.0, lambda: 2.0)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "bench: measurement 4/4\n"  # those before it took less than half a minute


def test_json_has_stable_keys(capsys: pytest.CaptureFixture[str]) -> None:
    met, missed = comparison((1.0,), (1.0,), at_least(0.9)), Stated(Measured("lost", "frames", (1.0,)), at_most(0))
    print_report(Report("x", (met,), (missed,), ("a note",), machine("cpu")), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert told["target"] == {"sense": "at least", "value": 0.9}
    assert told["ours"] == {
        "what": "ours", "unit": "frames/s", "values": [1.0], "median": 1.0, "min": 1.0, "max": 1.0
    }  # fmt: skip
    assert told["met"] is False, "a stated figure missed its target"
    assert told["comparisons"][0]["met"] is True
    assert told["stated"][0]["met"] is False
    assert told["notes"] == ["a note"]
    assert {"cpu", "cores", "load", "provider", "system", "python", "versions"} == told["machine"].keys()


def test_the_table_names_both_sides_their_figures_and_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(Report("x", (comparison((3.0,), (4.0,), at_least(0.9)),), machine=machine("cpu")), as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert "culling bench x" in out
    assert "speed: ours, against theirs" in out
    assert "0.75" in out
    assert "provider cpu" in out


def test_memory_of_a_process_is_read_in_bytes() -> None:
    assert 5e6 < resident() < 1e11
    assert resident(os.getpid()) > 5e6


def test_memory_of_a_process_that_has_ended_is_an_error() -> None:
    with pytest.raises(CullingError, match="has ended"):
        resident(2**22 + 1)
