from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from culling.common.clock import SystemClock
from culling.common.detections import follow
from culling.common.errors import SettingsError
from culling.common.metrics import Metrics
from culling.edge.output.outlets import Outlets
from culling.edge.output.sink import Around
from support.outputs import seen, settings
from support.waiting import wait_until


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), "edge")


def file(folder: Path, name: str) -> dict[str, object]:
    return {"kind": "jsonl", "name": name, "path": folder / f"{name}.jsonl"}


def outlets(metrics: Metrics, *told: dict[str, object]) -> Outlets:
    tables = [settings(str(one["kind"]), **{key: one[key] for key in one if key != "kind"}) for one in told]
    found = Outlets(tables, Around(SystemClock()), metrics)
    found.start()
    return found


def test_a_frame_goes_to_every_output_and_one_that_breaks_costs_the_others_nothing(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outlets(metrics, file(tmp_path, "one"), file(tmp_path, "two"))
    monkeypatch.setattr(found._outlets["one"]._choice, "takes", lambda seen: 1 / 0)
    found.offer(seen(3))
    found.close(5.0)
    assert [record.seq for record in follow(tmp_path / "two.jsonl", timeout_s=0)] == [3]
    assert metrics.total("items_failed", loop="outputs") == 1


def test_others_take_the_place_of_those_that_changed_or_go(tmp_path: Path, metrics: Metrics) -> None:
    found = outlets(metrics, file(tmp_path, "one"), file(tmp_path, "two"))
    others = found.prepare([settings("jsonl", name="two", path=tmp_path / "moved.jsonl")], ["one"])
    found.offer(seen(1))
    found.take(others)
    assert len(found) == 1
    wait_until(lambda: (tmp_path / "moved.jsonl").exists() and metrics.by("output", "output_up") == {"two": 1})
    found.offer(seen(2))
    found.close(5.0)
    for name, sequences in (("one", [1]), ("two", [1]), ("moved", [2])):
        assert [record.seq for record in follow(tmp_path / f"{name}.jsonl", timeout_s=0)] == sequences


def test_what_cannot_be_made_changes_nothing(tmp_path: Path, metrics: Metrics) -> None:
    found = outlets(metrics, file(tmp_path, "one"))
    with pytest.raises(SettingsError):
        found.prepare([settings("kafka")], ["one"])
    assert len(found) == 1
    found.close(5.0)


def test_a_frame_that_waited_goes_to_those_that_it_was_due_at_as_far_as_they_are_still_there(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = {**file(tmp_path, "yard"), "cameras": ["yard"]}
    found = outlets(metrics, file(tmp_path, "one"), file(tmp_path, "two"), yard)
    to = found.due("gate", 1000.0)
    assert to == {"one", "two"}
    monkeypatch.setattr(found._outlets["one"]._choice, "tells", lambda seen: 1 / 0)
    found.offer_due(seen(3, teacher="big"), to | {"gone"})
    found.close(5.0)
    [record] = follow(tmp_path / "two.jsonl", timeout_s=0)
    assert (record.seq, record.by, record.teacher) == (3, "teacher", "big")
    assert metrics.total("items_failed", loop="outputs") == 1
    assert not (tmp_path / "yard.jsonl").stat().st_size
