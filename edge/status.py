"""The counters of a running agent, read from its `/metrics`."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from culling.common.address import http_url
from culling.common.errors import InputError
from culling.common.process.keeping_up import KeepingUp, Look, keeping_up, look

TIMEOUT_S = 3.0
"""The agent is on this machine and answers in milliseconds, or hangs."""
COUNTS = ("seen", "dropped", "inferred", "forwarded", "spooled", "acked", "evicted")

Row = dict[str, str | float | None]


def fetch(host: str, port: int) -> str:
    """Return the metrics of the agent at that address, as text. Raises `InputError` when none answers."""
    url = f"{http_url(host, port)}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read()).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"no agent answers at {url}: {reason}; is `culling edge run` running?") from None


def rows(metrics: str) -> list[Row]:
    """Return one row per camera, by name: counts since the agent started, `rate` (forwarded / seen) in [0, 1], the
    mean `loss`, the current `threshold`, and the counter of its `model`; and the agent's link to the `cloud`. Without a
    frame, rate and loss are None.
    """
    samples = list(_samples(metrics))
    link = _link({sample.name: sample.value for sample in samples if not sample.labels})
    return [_row(camera, link, _of(camera, samples)) for camera in _cameras(samples)]


def outputs(metrics: str) -> list[Row]:
    """Return one row per output, by name: its state, and records that were sent, that wait, and that were dropped."""
    samples = list(_samples(metrics))
    names = sorted({sample.labels["output"] for sample in samples if sample.name == "culling_output_up"})
    return [_output(name, [sample for sample in samples if sample.labels.get("output") == name]) for name in names]


def pace(before: str, after: str, seconds: float) -> dict[str, KeepingUp | None]:
    """Return how each camera's student keeps up, from two metrics texts that are so many seconds apart."""
    first, last = list(_samples(before)), list(_samples(after))
    return {
        camera: keeping_up(_look(0.0, _of(camera, first)), _look(seconds, _of(camera, last)))
        for camera in _cameras(last)
    }


def _cameras(samples: list[Sample]) -> list[str]:
    return sorted({sample.labels["camera"] for sample in samples if sample.name == "culling_camera_state"})


def _of(camera: str, samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.labels.get("camera") == camera]


def _link(gauges: dict[str, float]) -> str:
    if gauges.get("culling_refused"):
        return "refused"
    if gauges.get("culling_incompatible"):
        return "incompatible"
    return "connected" if gauges.get("culling_connected") else "away"


def _look(at: float, samples: list[Sample]) -> Look:
    dropped: Counter[str] = Counter()
    inferred = 0.0
    for sample in samples:
        if sample.name == "culling_frames_dropped_total":
            dropped[sample.labels["reason"]] += sample.value  # type: ignore[assignment]
        elif sample.name == "culling_frames_inferred_total":
            inferred += sample.value
    return look(at, inferred, dropped)


def _row(camera: str, link: str, samples: list[Sample]) -> Row:
    def total(name: str) -> float:
        return sum(sample.value for sample in samples if sample.name == f"culling_{name}")

    states = [sample.labels["state"] for sample in samples if sample.name == "culling_camera_state" and sample.value]
    counts = {name: int(total(f"frames_{name}_total")) for name in COUNTS}
    return {
        "camera": camera,
        "state": next(iter(states), "unknown"),
        "cloud": link,
        **counts,
        "rate": round(counts["forwarded"] / counts["seen"], 4) if counts["seen"] else None,
        "loss": round(total("confidence_loss_sum") / counts["inferred"], 3) if counts["inferred"] else None,
        "threshold": round(total("threshold"), 3),
        "model": int(total("model_counter")),
    }


def _output(name: str, samples: list[Sample]) -> Row:
    def total(series: str) -> int:
        return int(sum(sample.value for sample in samples if sample.name == f"culling_output_{series}"))

    return {
        "output": name,
        "state": "up" if total("up") else "down",
        "sent": total("records_total"),
        "waiting": total("waiting"),
        "dropped": total("records_dropped_total"),
    }


def _samples(metrics: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(metrics):
        yield from family.samples
