from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.outputs import MOSQUITTO

Bench = Callable[..., dict[str, Any]]


def test_the_overhead_says_how_many_frames_went_to_the_spool(bench: Bench) -> None:
    told = bench("overhead", "--frames", "16")
    assert told["ours"]["unit"] == told["reference"]["unit"] == "ms a frame"
    assert 0 < told["stated"][0]["median"] <= 1


def test_the_view_is_compared_with_none_and_a_watcher_is_stated(bench: Bench) -> None:
    told = bench("overhead", "--view", "--frames", "600")
    assert told["ours"]["what"] == "the agent with a view that nobody looks at"
    assert told["target"] == {"sense": "at least", "value": 0.99}
    watched, pictures = told["stated"]
    assert watched["median"] > 0
    assert pictures["median"] >= 1


def test_outputs_are_compared_with_none_and_each_says_its_records_a_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("culling.edge.bench.outputs.RECORDS", 500)
    told = bench("overhead", "--outputs", "--frames", "16")
    speed, latency = told["comparisons"]
    assert speed["ours"]["unit"] == speed["reference"]["unit"] == "frames/s"
    assert speed["target"] == {"sense": "at least", "value": 0.98}
    assert "zmq, webhook, mqtt stall" in latency["ours"]["what"]
    assert latency["ours"]["median"] > 0
    kinds = {"jsonl", "stdout", "zmq", "webhook"} | ({"mqtt"} if MOSQUITTO else set())
    assert {one["what"].split("through ")[1].partition(",")[0] for one in told["stated"]} == kinds
    assert all(one["median"] > 100 for one in told["stated"])
    assert bool(told["notes"]) == (MOSQUITTO is None)
