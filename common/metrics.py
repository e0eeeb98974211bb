"""Every series Culling exports, in one table, and the prometheus objects made from it.

Counters come first: rates are computed from them, never exported. The reference's table is `markdown()`'s output.
A camera that is down reads as `culling_camera_state{state="connecting"} 1`, never as a rate of zero.

A scrape costs as much as it has lines: beyond some hundred cameras a cloud merges them (`Metrics.merged`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

Kind = Literal["counter", "gauge", "histogram"]
Side = Literal["edge", "cloud", "both"]
Merge = Literal["sum", "greatest", "none", ""]

REASONS = ("hard", "audit", "bootstrap", "manual")
"""Why frames are forwarded."""
ALL = "(all)"
"""The label `camera` of what is merged; no camera can have this name."""

# Seconds of what one frame costs, from a student on a GPU to one on a busy CPU.
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Seconds that a record may wait: up to the longest deadline of `[cascade]`.
_WAITS = (0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0)
# Seconds of what waits for a network, a disk or a training.
_SLOW = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# A box adds 0.5 to 2 to the loss under the default policy, so these reach from one box to a crowd.
LOSS_BUCKETS = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)


@dataclass(frozen=True)
class Series:
    """One exported series; code calls it `name`, Prometheus reads it as `exported`.

    `merge` is what a gauge's values of all cameras become where they are merged: their sum, the greatest of them, or
    none; "" where there is nothing to merge. Counters and histograms are added up.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    meaning: str
    side: Side
    buckets: tuple[float, ...] = ()
    merge: Merge = ""

    @property
    def exported(self) -> str:
        """The name on `/metrics`: prefix `culling_`, and `_total` for a counter."""
        return f"culling_{self.name}{'_total' if self.kind == 'counter' else ''}"


def _count(name: str, labels: str, unit: str, meaning: str, side: Side) -> Series:
    return Series(name, "counter", tuple(labels.split()), unit, meaning, side)


def _gauge(name: str, labels: str, unit: str, meaning: str, side: Side, merge: Merge = "") -> Series:
    return Series(name, "gauge", tuple(labels.split()), unit, meaning, side, merge=merge)


def _spread(name: str, labels: str, unit: str, meaning: str, side: Side, buckets: tuple[float, ...]) -> Series:
    return Series(name, "histogram", tuple(labels.split()), unit, meaning, side, buckets)


SERIES: tuple[Series, ...] = (
    # beside the camera, in the order a frame travels
    _gauge("camera_state", "camera state", "0 or 1", "1 for the state the camera is in, 0 for every other", "edge"),
    _count("reconnects", "camera", "connections", "the camera was lost and is being opened again", "edge"),
    _count("decode_errors", "camera", "errors", "packets or frames the decoder could not use", "edge"),
    _count("frames_seen", "camera", "frames", "frames the decoder delivered; the base of the forwarded rate", "edge"),
    _count("frames_dropped", "camera stage reason", "frames", "frames lost at a stage, and why", "edge"),
    _count("frames_inferred", "camera", "frames", "frames the student scored", "edge"),
    _count("frames_skipped", "camera reason", "frames", "scored frames that were not forwarded, and why", "edge"),
    _count("frames_forwarded", "camera reason", "frames", "frames chosen to leave the camera, and why", "edge"),
    _count("frames_spooled", "camera", "frames", "frames written durably to the spool", "edge"),
    _count("frames_evicted", "camera reason", "frames", "spooled frames given up before they were acked", "edge"),
    _count("frames_acked", "camera", "frames", "spooled frames the cloud made durable", "edge"),
    _count("frames_nacked", "camera reason", "frames", "forwarded frames the cloud refused, and why", "edge"),
    _count("detections", "camera label", "boxes", "boxes the student found above the confidence floor", "edge"),
    _spread("confidence_loss", "camera", "loss", "confidence loss of each scored frame", "edge", LOSS_BUCKETS),
    _gauge("threshold", "camera", "loss", "confidence loss above which a frame is forwarded now; 0: none", "edge"),
    _gauge("ranker", "camera", "0 or 1", "1 while a learned ranker chooses frames, 0 while their loss does", "edge"),
    _spread("inference_seconds", "camera", "seconds", "student time per frame, its share of a batch", "edge", _FAST),
    _spread(
        "detection_seconds",
        "camera",
        "seconds",
        "from a frame's arrival at the agent to its detections; when it was captured no camera tells",
        "edge",
        _FAST,
    ),
    _spread("ack_seconds", "camera", "seconds", "from a frame's capture to the cloud's ack", "edge", _SLOW),
    _gauge("spool_bytes", "", "bytes", "size of the spool's frames", "edge"),
    _gauge("spool_frames", "", "frames", "frames in the spool, ready or held", "edge"),
    _gauge("oldest_unacked_seconds", "", "seconds", "how long the oldest ready frame waits for its ack", "edge"),
    _gauge("spool_limit_bytes", "", "bytes", "size beyond which the spool gives up its least valuable frames", "edge"),
    _count("spools_moved_aside", "", "files", "spool files found broken and set aside, since the first start", "edge"),
    _gauge("connected", "", "0 or 1", "1 while the link to the cloud is up", "edge"),
    _gauge(
        "refused", "", "0 or 1", "1 while the cloud refuses this edge: it was revoked, or its key is not known", "edge"
    ),
    _gauge("incompatible", "", "0 or 1", "1 while this edge and its cloud speak no version in common", "edge"),
    _count("refusals", "reason", "messages", "messages of this edge that the cloud refused, and why", "edge"),
    _gauge("gpu", "", "0 or 1", "1 when the student runs on the GPU, 0 on the CPU", "edge"),
    _gauge("gpu_memory_bytes", "device", "bytes", "memory in use on a GPU, by all its processes", "edge"),
    # detections out
    _gauge("output_up", "output", "0 or 1", "1 while an output takes records, 0 while it is down or stalls", "edge"),
    _gauge("output_waiting", "output", "records", "records that wait for an output", "edge"),
    _count("output_records", "output", "records", "records that an output handed over", "edge"),
    _count("output_records_dropped", "output reason", "records", "records that were not handed over, and why", "edge"),
    _count("output_retries", "output", "attempts", "attempts of an output that failed, to be made again", "edge"),
    # the cascade
    _count(
        "escalations",
        "camera",
        "frames",
        "unsure frames that the teacher was asked about: their records waited",
        "edge",
    ),
    _count(
        "escalations_skipped", "camera reason", "frames", "unsure frames that it was not asked about, and why", "edge"
    ),
    _count("verdicts_taken", "camera", "records", "records that went out with the teacher's answer", "edge"),
    _count(
        "verdicts_missed",
        "camera reason",
        "records",
        "records that waited for it and went out with the student's, and why",
        "edge",
    ),
    _count("verdicts_dropped", "camera reason", "verdicts", "verdicts that no record waited for, and why", "edge"),
    _spread("verdict_seconds", "camera", "seconds", "from asking the teacher to its answer", "edge", _WAITS),
    # the live picture
    _gauge("view_viewers", "", "browsers", "browsers that look at a live picture now", "edge"),
    _count("view_frames", "camera", "frames", "pictures encoded for those who look", "edge"),
    _count(
        "view_frames_skipped",
        "camera reason",
        "frames",
        "frames that somebody looked for and were not shown, and why",
        "edge",
    ),
    _count("live_pictures_sent", "camera", "frames", "live pictures sent for the cloud's page", "edge"),
    _count(
        "live_pictures_skipped",
        "camera reason",
        "frames",
        "live pictures wanted on the cloud's page and not sent then, and why",
        "edge",
    ),
    # models
    _count(
        "models_fetched",
        "camera how",
        "models",
        "models that came, by how: whole, as a delta, or here already under another name",
        "edge",
    ),
    _count(
        "frames_shadowed",
        "camera outcome",
        "frames",
        "frames that the model beside the one in use was to look at: ran, or why it did not count",
        "edge",
    ),
    _count("swaps", "camera outcome", "swaps", "models offered, by how it ended: live, rejected, rolled-back", "edge"),
    _spread("swap_gap_seconds", "camera", "seconds", "longest time between two results across a swap", "edge", _FAST),
    _gauge("model_counter", "camera", "counter", "counter of the model in use; a camera's first one has 1", "edge"),
    _gauge("model_scale", "camera", "ratio", "input scale of the model in use", "edge"),
    _gauge("model_age_seconds", "camera", "seconds", "time since the model in use was made", "edge"),
    # both sides of the wire
    _count("bytes_sent", "", "bytes", "bytes of messages sent", "both"),
    _count("bytes_received", "", "bytes", "bytes of messages received", "both"),
    _count("messages_refused", "reason", "messages", "messages that were not understood or not allowed", "both"),
    _count("handshake_failures", "", "handshakes", "connections refused before any message", "both"),
    _count("items_failed", "loop", "items", "items that a loop could not deal with, logged and left out", "both"),
    _count("spans_exported", "", "spans", "spans of forwarded frames that the collector took (`[traces]`)", "both"),
    _count("spans_dropped", "reason", "spans", "spans that it did not take, and why", "both"),
    _count("restarts", "thread", "restarts", "threads that were stuck or broken, and were started again", "both"),
    _gauge("storage_failing", "", "0 or 1", "1 while the disk refuses frames; everything else goes on", "both"),
    _gauge("disk_free_bytes", "", "bytes", "free space where state is kept", "both"),
    # in the cloud
    _gauge("control_elected", "", "0 or 1", "1 where this process is control, 0 where it stands by", "cloud"),
    _gauge("edges_connected", "", "edges", "edges heard from within three beats", "cloud"),
    _gauge(
        "camera_heard_seconds",
        "camera",
        "seconds",
        "time since the camera's edge last told its state",
        "cloud",
        "greatest",
    ),
    _gauge(
        "camera_live", "camera", "0 or 1", "1 while its edge says that it is live, and is not silent", "cloud", "sum"
    ),
    _count("live_pictures", "camera", "frames", "live pictures that came for who looks", "cloud"),
    _count("live_pictures_ignored", "reason", "frames", "live pictures that were not kept, and why", "cloud"),
    _count("escalations_received", "camera", "frames", "frames that edges asked the teacher about", "cloud"),
    _count("verdicts_sent", "camera", "verdicts", "answers of the teacher sent to edges in time", "cloud"),
    _count("escalations_unanswered", "camera reason", "frames", "escalations without an answer, and why", "cloud"),
    _count("frames_taken", "camera", "frames", "frames that a student looked at, as its edge told", "cloud"),
    _count("frames_missed", "camera", "frames", "frames that came while it was busy, as its edge told", "cloud"),
    _count("frames_received", "camera", "frames", "hard frames that arrived", "cloud"),
    _count("frames_refused", "camera reason", "frames", "hard frames that were refused, and why", "cloud"),
    _count("frames_duplicate", "camera", "frames", "hard frames that were there already, acked again", "cloud"),
    _count("frames_stored", "camera", "frames", "hard frames made durable", "cloud"),
    _count(
        "frames_expired", "camera reason", "frames", "stored frames removed by quota, retention or a full disk", "cloud"
    ),
    _spread("store_seconds", "", "seconds", "time to make a frame durable", "cloud", _FAST),
    _gauge("store_bytes", "camera", "bytes", "size of a camera's stored frames", "cloud", "sum"),
    _gauge("teacher_queue", "camera", "frames", "stored frames that wait for the teacher", "cloud", "sum"),
    _gauge("labelling_failing", "", "0 or 1", "1 while the process that labels cannot work", "cloud"),
    _count("labelling_deaths", "", "deaths", "times that the process that labels died, or was killed", "cloud"),
    _gauge("frames_waiting", "camera", "frames", "labelled frames that no round has read", "cloud", "sum"),
    _count("frames_labelled", "camera", "frames", "frames the teacher labelled", "cloud"),
    _count("frames_passed_over", "camera reason", "frames", "frames the teacher did not label within a day", "cloud"),
    _count(
        "features_dropped", "camera reason", "frames", "frames whose features of the teacher were given up", "cloud"
    ),
    _count("frames_kept", "camera", "frames", "frames kept in a culled set", "cloud"),
    _count(
        "audits_labelled", "camera", "frames", "random frames, not hard by their loss, that the teacher saw", "cloud"
    ),
    _count(
        "audits_missed",
        "camera",
        "frames",
        "those of them that the student got mostly wrong: hard, but missed",
        "cloud",
    ),
    _gauge(
        "measured_accuracy",
        "camera bound",
        "AP50",
        "of the student in use on all that the camera sees, by its audits: value, and low and high of its interval",
        "cloud",
        "none",
    ),
    _gauge(
        "wrong_records",
        "camera bound",
        "share",
        "of a camera's records that were mostly wrong, by its audits: value, and high, which it is at most",
        "cloud",
        "none",
    ),
    _gauge(
        "pace",
        "camera",
        "times its budget",
        "how many candidates a camera is asked for, of those that its budget leaves room for; 1 without `[pace]`",
        "cloud",
        "none",
    ),
    _gauge(
        "profile_looks",
        "camera",
        "share",
        "of its frames that a camera's student is to look at by the profile that was chosen; 1 without `[profile]`",
        "cloud",
        "none",
    ),
    _count("echoes_dropped", "camera", "echoes", "of audits that could not be read; the audits count", "cloud"),
    _count("rounds", "camera outcome", "rounds", "rounds finished, by how: published, refused, failed", "cloud"),
    _count("rounds_stalled", "camera", "kills", "processes of rounds killed because they stopped moving", "cloud"),
    _count(
        "zoo_students",
        "camera outcome",
        "students",
        "earlier students that a round tried before it trained: published again, trained from, worse, or unusable",
        "cloud",
    ),
    _count(
        "frames_distilled",
        "camera outcome",
        "frames",
        "frames that rounds with `round.distil` trained on: taught by the teacher's features, or why not",
        "cloud",
    ),
    _spread("round_seconds", "stage", "seconds", "time of each stage of a round, of any camera", "cloud", _SLOW),
    _count("cost_gflops", "camera part", "GFLOPs", "what a camera cost: edge, labels, stages of rounds", "cloud"),
    _count("cost_seconds", "camera part", "seconds", "how long that took; of the edge it is not known", "cloud"),
    _count(
        "full_training_gflops",
        "camera",
        "GFLOPs",
        "what labelling all frames that came to the student, and training on each 40 times, would have cost",
        "cloud",
    ),
    _gauge(
        "last_round_time",
        "camera",
        "seconds since the epoch",
        "when the last round finished; before the first, when the edge was enrolled",
        "cloud",
        "greatest",
    ),
    _count(
        "trials",
        "camera outcome",
        "students",
        "students that were new to a camera, by how that ended: passed, failed, taken back by a person, left undecided",
        "cloud",
    ),
    _gauge("rollouts_halted", "", "rollouts", "rollouts of a student that were halted, and not gone on with", "cloud"),
    _count("models_published", "camera", "models", "models signed and offered", "cloud"),
    _count("swap_reports", "camera outcome", "reports", "swaps the edges reported, by outcome", "cloud"),
    _count(
        "rollbacks",
        "camera by",
        "rollbacks",
        "models gone back from, by the edge, a gate, a person or a trial",
        "cloud",
    ),
    _spread("model_lag_seconds", "", "seconds", "last training frame to first detection by it", "cloud", _SLOW),
)

_OUTCOMES = ("live", "rejected", "rolled-back")
_ROUND_STAGES = ("label", "zoo", "score", "cull", "learn", "resolution", "train", "export", "gate")
_COST_PARTS = ("edge", "labels", "answers", "zoo", "score", "cull", "learn", "resolution", "train", "export", "gate")
KNOWN: dict[str, tuple[str, ...]] = {
    "frames_forwarded": REASONS,
    "models_fetched": ("whole", "delta", "here"),
    "frames_shadowed": ("ran", "busy", "failed", "unreadable", "late", "storage"),
    "swaps": _OUTCOMES,
    "swap_reports": _OUTCOMES,
    "rounds": ("published", "refused", "failed"),
    "round_seconds": _ROUND_STAGES,
    "cost_gflops": _COST_PARTS,
    "cost_seconds": _COST_PARTS[1:],
    "zoo_students": ("published", "start", "worse", "unusable"),
    "features_dropped": ("allowance", "disk"),
    "frames_distilled": ("taught", "none", "damaged", "another-teacher", "of-a-person"),
    "rollbacks": ("edge", "gate", "operator", "waves"),
    "trials": ("passed", "failed", "back", "left"),
    "escalations_skipped": ("no-line", "allowance", "queue-full", "unanswered"),
    "verdicts_missed": (
        "deadline",
        "refused",
        "malformed",
        "queue-full",
        "upload-limit",
        "unreadable",
        "oversized",
        "stopped",
    ),
    "verdicts_dropped": ("late", "repeat", "unasked"),
    "escalations_unanswered": ("allowance", "overdue", "unreadable", "unknown-model", "repeat"),
    "live_pictures_skipped": ("hard-frames", "upload-limit", "queue-full", "oversized"),
}
"""The values of a series' last label, beside the camera if it has that, where all are known in advance."""


class Metrics:
    """The series of one side, made from the table; an unknown name or label is a programming error.

    Where `merged`, what is written for a camera counts for all of them, under `camera="(all)"`: a scrape costs the same
    however many there are. A gauge of cameras is then exported by `set_each` alone.
    """

    def __init__(self, registry: CollectorRegistry, side: Literal["edge", "cloud"], merged: bool = False) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # lines for every child, and nothing asks for them
        self.merged = merged
        self._announced = False
        self._series = {series.name: series for series in SERIES if series.side in (side, "both")}
        self._made = {series.name: _make(series, registry) for series in self._series.values()}
        for series in self._series.values():
            if len(series.labels) == 1:
                for value in KNOWN.get(series.name, ()):
                    self._child(series.name, {series.labels[0]: value})
        ProcessCollector(registry=registry)

    def announce(self, camera: str) -> None:
        """Export a camera's counters and histograms as 0 from now on: a series that starts at 1 shows no rise."""
        if self.merged and self._announced:
            return
        self._announced = True
        for series in self._series.values():
            if series.kind == "gauge" or series.labels[:1] != ("camera",):
                continue
            if len(series.labels) == 1:
                self._child(series.name, {"camera": camera})
            for value in KNOWN.get(series.name, ()):
                self._child(series.name, {"camera": camera, series.labels[1]: value})

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add `amount` (0 or more; 0 makes the series visible) to a counter."""
        counter = self._child(name, labels)
        assert isinstance(counter, Counter), name
        counter.inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. Where cameras are merged, that of one camera is exported nowhere."""
        if self.merged and "camera" in labels:
            return
        gauge = self._child(name, labels)
        assert isinstance(gauge, Gauge), name
        gauge.set(value)

    def set_each(self, name: str, values: Mapping[str, float]) -> None:
        """Set a gauge of every camera there is, or, where they are merged, the one value that theirs become."""
        if not self.merged:
            for camera, value in values.items():
                self.set(name, value, camera=camera)
            self.keep(name, values)
            return
        rule = self._series[name].merge
        if rule == "greatest" and not values:  # 0 would be a value
            self.forget(name, camera=ALL)
            return
        assert rule in ("sum", "greatest"), name
        gauge = self._child(name, {"camera": ALL})
        assert isinstance(gauge, Gauge), name
        gauge.set(sum(values.values()) if rule == "sum" else max(values.values()))

    def keep(self, name: str, cameras: Collection[str]) -> None:
        """Export a gauge of cameras for these alone from now on: any other is gone."""
        if not self.merged:
            for labels, _ in self._read(name, {}):
                if labels["camera"] not in cameras:
                    self.forget(name, **labels)

    def follow(self, name: str, value: Callable[[], float], **labels: str) -> None:
        """Set a gauge to call `value` whenever it is read."""
        gauge = self._child(name, labels)
        assert isinstance(gauge, Gauge), name
        gauge.set_function(value)

    def forget(self, name: str, **labels: str) -> None:
        """Export a gauge no longer: what it was about is gone."""
        with suppress(KeyError):
            self._made[name].remove(*(labels[label] for label in self._series[name].labels))

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one value to a histogram."""
        histogram = self._child(name, labels)
        assert isinstance(histogram, Histogram), name
        histogram.observe(value)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a counter or gauge over every label that is not given."""
        return sum(value for _, value in self._read(name, labels))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return a counter or gauge summed per value of `label`."""
        split: dict[str, float] = {}
        for found, value in self._read(name, labels):
            split[found[label]] = split.get(found[label], 0.0) + value
        return split

    def spread(self, name: str, **labels: str) -> list[int]:
        """Return how many values fell into each bucket of a histogram; the last entry counts those above all."""
        rising = [
            int(sample.value)
            for family in self._made[name].collect()
            for sample in family.samples
            if sample.name.endswith("_bucket") and labels.items() <= sample.labels.items()
        ]
        return [above - below for below, above in pairwise([0, *rising])]

    def _child(self, name: str, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        made = self._made[name]
        if self.merged and "camera" in labels:
            labels = labels | {"camera": ALL}
        return made.labels(**labels) if labels else made

    def _read(self, name: str, labels: dict[str, str]) -> list[tuple[dict[str, str], float]]:
        exported = self._series[name].exported
        return [
            (sample.labels, sample.value)
            for family in self._made[name].collect()
            for sample in family.samples
            if sample.name == exported and labels.items() <= sample.labels.items()
        ]


def markdown() -> str:
    """Return the table of all series for the reference."""
    rows = [
        f"| `{series.exported}` | {series.kind} | {', '.join(series.labels) or '-'} "
        f"| {series.unit} | {series.side} | {_merge(series)} | {series.meaning} |"
        for series in SERIES
    ]
    return "\n".join(["| series | type | labels | unit | side | merged | meaning |", "|---" * 7 + "|", *rows]) + "\n"


def _merge(series: Series) -> str:
    if series.side != "cloud" or "camera" not in series.labels:
        return "-"
    return {"": "sum", "none": "not exported"}.get(series.merge, series.merge)


def _make(series: Series, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name = f"culling_{series.name}"
    if series.kind == "counter":
        return Counter(name, series.meaning, series.labels, registry=registry)
    if series.kind == "gauge":
        return Gauge(name, series.meaning, series.labels, registry=registry)
    return Histogram(name, series.meaning, series.labels, registry=registry, buckets=series.buckets)
