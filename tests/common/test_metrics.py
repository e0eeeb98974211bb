from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from culling.common.metrics import ALL, KNOWN, LOSS_BUCKETS, SERIES, Metrics, Series, markdown
from culling.common.wire.messages import CameraState

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def edge(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, "edge")


@pytest.fixture
def many(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, "cloud", merged=True)


class TestAnnouncing:
    def test_a_camera_counts_from_nothing_before_anything_happens(self, registry: CollectorRegistry) -> None:
        Metrics(registry, "cloud").announce("gate")
        text = generate_latest(registry).decode()
        for line in (
            'culling_frames_stored_total{camera="gate"} 0.0',
            'culling_rollbacks_total{by="operator",camera="gate"} 0.0',
            'culling_rounds_total{camera="gate",outcome="failed"} 0.0',
            "culling_model_lag_seconds_count 0.0",
            'culling_round_seconds_count{stage="train"} 0.0',
        ):
            assert line in text

    def test_what_is_not_known_has_no_value(self, edge: Metrics, registry: CollectorRegistry) -> None:
        edge.announce("gate")
        text = generate_latest(registry).decode()
        assert "culling_threshold{" not in text
        assert "culling_camera_state{" not in text

    def test_known_values_are_those_of_the_label_beside_the_camera(self) -> None:
        labels = {series.name: series.labels for series in SERIES}
        assert all(len([label for label in labels[name] if label != "camera"]) == 1 for name in KNOWN)
        assert all(labels[name][0] == "camera" or len(labels[name]) == 1 for name in KNOWN)

    @pytest.mark.parametrize("side", ["edge", "cloud"])
    def test_when_a_series_began_is_not_exported(self, side: Literal["edge", "cloud"]) -> None:
        registry = CollectorRegistry()
        Metrics(registry, side).announce("gate")
        assert b"_created" not in generate_latest(registry)


class TestMerging:
    def test_what_is_written_for_a_camera_counts_for_all(self, many: Metrics, registry: CollectorRegistry) -> None:
        for camera in ("gate", "yard"):
            many.count("frames_received", 2, camera=camera)
            many.count("frames_refused", camera=camera, reason="busy")
        text = generate_latest(registry).decode()
        assert 'culling_frames_received_total{camera="(all)"} 4.0' in text
        assert 'culling_frames_refused_total{camera="(all)",reason="busy"} 2.0' in text
        assert 'camera="gate"' not in text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("store_bytes", 7),
            ("teacher_queue", 7),
            ("frames_waiting", 7),
            ("camera_live", 7),
            ("camera_heard_seconds", 4),
            ("last_round_time", 4),
        ],
    )
    def test_a_gauge_of_all_is_the_sum_or_the_greatest(
        self, many: Metrics, registry: CollectorRegistry, name: str, value: float
    ) -> None:
        many.set_each(name, {"gate": 3, "yard": 4})
        assert registry.get_sample_value(f"culling_{name}", {"camera": "(all)"}) == value
        many.set(name, 100, camera="gate")
        assert registry.get_sample_value(f"culling_{name}", {"camera": "(all)"}) == value, "one of many says nothing"

    def test_of_no_camera_there_is_a_sum_and_no_greatest(self, many: Metrics, registry: CollectorRegistry) -> None:
        for name in ("camera_live", "camera_heard_seconds"):
            many.set_each(name, {"gate": 1})
            many.set_each(name, {})
        assert registry.get_sample_value("culling_camera_live", {"camera": "(all)"}) == 0
        assert registry.get_sample_value("culling_camera_heard_seconds", {"camera": "(all)"}) is None

    def test_what_has_no_meaning_for_all_is_not_exported(self, many: Metrics, registry: CollectorRegistry) -> None:
        many.set("measured_accuracy", 0.5, camera="gate", bound="value")
        assert b"culling_measured_accuracy{" not in generate_latest(registry)
        with pytest.raises(AssertionError, match="measured_accuracy"):
            many.set_each("measured_accuracy", {"gate": 0.5})

    def test_not_merged_each_camera_has_its_own(self, registry: CollectorRegistry) -> None:
        Metrics(registry, "cloud").set_each("store_bytes", {"gate": 3, "yard": 4})
        found = [
            registry.get_sample_value("culling_store_bytes", {"camera": name}) for name in ("gate", "yard", "(all)")
        ]
        assert found == [3, 4, None]

    def test_a_scrape_has_as_many_lines_however_many_cameras(self, many: Metrics, registry: CollectorRegistry) -> None:
        lines = set()
        for cameras in (["gate"], [f"camera-{number}" for number in range(100)]):
            for camera in cameras:
                many.announce(camera)
                many.count("frames_stored", camera=camera)
            many.set_each("camera_live", dict.fromkeys(cameras, 1.0))
            lines.add(generate_latest(registry).count(b"\nculling_"))
        assert len(lines) == 1
        assert registry.get_sample_value("culling_rounds_total", {"camera": "(all)", "outcome": "failed"}) == 0

    def test_no_camera_has_the_name_of_all(self) -> None:
        said = dict.fromkeys(("state", "model_id"), "live")
        with pytest.raises(msgspec.ValidationError, match="camera"):
            msgspec.convert({"camera": ALL, **said}, type=CameraState)

    def test_every_gauge_of_the_clouds_cameras_has_a_rule_and_nothing_else(self) -> None:
        ruled = {series.name for series in SERIES if series.merge}
        assert ruled == {
            series.name
            for series in SERIES
            if series.side == "cloud" and series.kind == "gauge" and "camera" in series.labels
        }


class TestSpread:
    def test_each_bucket_counts_its_own_values_alone(self, edge: Metrics) -> None:
        for loss in (0.1, 0.2, 0.6, 1000.0):
            edge.observe("confidence_loss", loss, camera="gate")
        counts = edge.spread("confidence_loss", camera="gate")
        assert (counts[0], counts[1], counts[-1]) == (2, 1, 1)
        assert sum(counts) == 4
        assert len(counts) == len(LOSS_BUCKETS) + 1


class TestTable:
    def test_no_name_stands_twice(self) -> None:
        names = [series.name for series in SERIES]
        assert len(names) == len(set(names))

    @pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
    def test_a_row_says_what_a_reader_needs(self, series: Series) -> None:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", series.name)
        assert series.unit
        assert series.meaning
        assert "|" not in series.meaning
        assert (series.kind == "histogram") == bool(series.buckets)
        assert list(series.buckets) == sorted(set(series.buckets))
        assert not series.name.endswith("_total")

    def test_a_name_that_ends_in_a_unit_has_that_unit(self) -> None:
        for series in SERIES:
            for unit in ("seconds", "bytes"):
                if series.name.endswith(f"_{unit}"):
                    assert series.unit == unit

    @pytest.mark.parametrize("side", ["edge", "cloud"])
    def test_every_series_of_a_side_is_made_under_its_exported_name(self, side: Literal["edge", "cloud"]) -> None:
        registry = CollectorRegistry()
        Metrics(registry, side)
        made = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in registry.collect()
            if family.name.startswith("culling_")
        }
        assert made == {series.exported for series in SERIES if series.side in (side, "both")}

    def test_the_table_for_readers_has_a_row_for_each(self) -> None:
        lines = markdown().splitlines()
        assert len(lines) == len(SERIES) + 2
        assert len({line.count("|") for line in lines}) == 1
        (seen,) = [line for line in lines if "frames_seen" in line]
        assert seen.startswith("| `culling_frames_seen_total` | counter | camera | frames | edge | - |")

    def test_the_table_says_what_becomes_of_a_series_of_many_cameras(self) -> None:
        cells = {line.split("`")[1]: line.split(" | ")[5] for line in markdown().splitlines()[2:]}
        assert cells["culling_frames_stored_total"] == cells["culling_store_bytes"] == "sum"
        assert cells["culling_camera_heard_seconds"] == "greatest"
        assert cells["culling_measured_accuracy"] == "not exported"
        assert cells["culling_round_seconds"] == cells["culling_threshold"] == "-"


def uses() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Every `metrics.count("name", label=…)` in the source: where, the name, and its labels."""
    for path in sorted(p for side in ("common", "edge", "cloud") for p in (ROOT / side).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=value, attr="count" | "set" | "set_each" | "observe" as how),
                    args=[ast.Constant(value=name), *_],
                ):
                    if "metrics" in ast.unparse(value):
                        labels = frozenset(str(word.arg) for word in node.keywords) - {"amount", "value"}
                        labels |= {"camera"} if how == "set_each" else set()
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", str(name), labels


def test_the_code_counts_nothing_that_the_table_does_not_hold() -> None:
    labels = {series.name: frozenset(series.labels) for series in SERIES}
    assert [use for use in uses() if labels.get(use[1]) != use[2]] == []


class TestCounting:
    def test_a_counter_only_grows(self, edge: Metrics, registry: CollectorRegistry) -> None:
        edge.count("frames_seen", camera="gate")
        edge.count("frames_seen", 4, camera="gate")
        assert registry.get_sample_value("culling_frames_seen_total", {"camera": "gate"}) == 5
        with pytest.raises(ValueError, match="non-negative"):
            edge.count("frames_seen", -1, camera="gate")

    def test_a_counter_of_nothing_is_shown_as_zero(self, edge: Metrics, registry: CollectorRegistry) -> None:
        edge.count("frames_seen", 0, camera="gate")
        assert registry.get_sample_value("culling_frames_seen_total", {"camera": "gate"}) == 0

    def test_a_gauge_takes_the_last_value(self, edge: Metrics, registry: CollectorRegistry) -> None:
        edge.set("spool_bytes", 10)
        edge.set("spool_bytes", 3)
        assert registry.get_sample_value("culling_spool_bytes") == 3

    def test_a_histogram_sorts_into_buckets(self, edge: Metrics, registry: CollectorRegistry) -> None:
        edge.observe("confidence_loss", 4.0, camera="gate")
        assert registry.get_sample_value("culling_confidence_loss_sum", {"camera": "gate"}) == 4
        assert registry.get_sample_value("culling_confidence_loss_bucket", {"camera": "gate", "le": "3.0"}) == 0
        assert registry.get_sample_value("culling_confidence_loss_bucket", {"camera": "gate", "le": "5.0"}) == 1

    def test_the_process_itself_is_measured(self, edge: Metrics, registry: CollectorRegistry) -> None:
        assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 0

    def test_a_name_is_escaped_not_trusted(self, edge: Metrics, registry: CollectorRegistry) -> None:
        edge.count("frames_seen", camera='a"} 1\nforged 1')
        assert b"\nforged" not in generate_latest(registry)


class TestMisuse:
    def test_an_unknown_name_is_an_error(self, edge: Metrics) -> None:
        with pytest.raises(KeyError):
            edge.count("frames_sene", camera="gate")

    def test_a_series_of_the_other_side_is_an_error(self, edge: Metrics) -> None:
        with pytest.raises(KeyError):
            edge.count("frames_stored", camera="gate")

    def test_a_wrong_label_is_an_error(self, edge: Metrics) -> None:
        with pytest.raises(ValueError, match="label"):
            edge.count("frames_seen", lens="gate")

    def test_a_missing_label_is_an_error(self, edge: Metrics) -> None:
        with pytest.raises(ValueError, match="label"):
            edge.count("frames_seen")

    def test_a_wrong_kind_is_an_error(self, edge: Metrics) -> None:
        with pytest.raises(AssertionError):
            edge.set("frames_seen", 1, camera="gate")


class TestReadingBack:
    @pytest.fixture(autouse=True)
    def _counted(self, edge: Metrics) -> None:
        edge.count("frames_forwarded", 2, camera="gate", reason="hard")
        edge.count("frames_forwarded", 1, camera="gate", reason="audit")
        edge.count("frames_forwarded", 5, camera="yard", reason="hard")

    def test_a_total_sums_over_the_labels_not_named(self, edge: Metrics) -> None:
        assert edge.total("frames_forwarded") == 8
        assert edge.total("frames_forwarded", camera="gate") == 3
        assert edge.total("frames_forwarded", camera="gate", reason="audit") == 1
        assert edge.total("frames_seen") == 0

    def test_a_split_sums_per_value_of_one_label(self, edge: Metrics) -> None:
        assert edge.by("reason", "frames_forwarded", camera="gate") == {"hard": 2, "audit": 1}
        assert edge.by("reason", "frames_forwarded") == {"hard": 7, "audit": 1}


def test_a_camera_that_is_gone_has_no_gauge_any_more() -> None:
    metrics = Metrics(CollectorRegistry(), "cloud")
    metrics.set_each("store_bytes", {"gate": 3, "yard": 4})
    metrics.set_each("store_bytes", {"yard": 5})
    assert metrics.by("camera", "store_bytes") == {"yard": 5}
    for bound in ("low", "high"):
        metrics.set("measured_accuracy", 0.5, camera="gate", bound=bound)
        metrics.set("measured_accuracy", 0.5, camera="yard", bound=bound)
    metrics.keep("measured_accuracy", ["yard"])
    assert metrics.by("bound", "measured_accuracy", camera="gate") == {}
    assert metrics.by("bound", "measured_accuracy", camera="yard") == {"low": 0.5, "high": 0.5}


def test_a_gauge_whose_subject_is_gone_is_exported_no_longer() -> None:
    metrics = Metrics(CollectorRegistry(), "edge")
    metrics.set("output_up", 1, output="broker")
    metrics.forget("output_up", output="broker")
    metrics.forget("output_up", output="never-there")
    assert metrics.by("output", "output_up") == {}
