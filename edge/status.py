"""The counters of a running agent, read from its `/metrics`."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from culling.common.errors import InputError
from culling.common.wire.address import http_url

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
    mean `loss`, the current `threshold`, and the counter of its `model`. Without a frame, rate and loss are None.
    """
    samples = list(_samples(metrics))
    cameras = sorted({sample.labels["camera"] for sample in samples if sample.name == "culling_camera_state"})
    return [_row(camera, [sample for sample in samples if sample.labels.get("camera") == camera]) for camera in cameras]


def _row(camera: str, samples: list[Sample]) -> Row:
    def total(name: str) -> float:
        return sum(sample.value for sample in samples if sample.name == f"culling_{name}")

    states = [sample.labels["state"] for sample in samples if sample.name == "culling_camera_state" and sample.value]
    counts = {name: int(total(f"frames_{name}_total")) for name in COUNTS}
    return {
        "camera": camera,
        "state": next(iter(states), "unknown"),
        **counts,
        "rate": round(counts["forwarded"] / counts["seen"], 4) if counts["seen"] else None,
        "loss": round(total("confidence_loss_sum") / counts["inferred"], 3) if counts["inferred"] else None,
        "threshold": round(total("threshold"), 3),
        "model": int(total("model_counter")),
    }


def _samples(metrics: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(metrics):
        yield from family.samples
