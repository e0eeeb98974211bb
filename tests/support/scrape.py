"""What a running process tells of itself over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The metrics of a process at `address`, e.g. `http://127.0.0.1:9464`."""

    def __init__(self, address: str) -> None:
        self.address = address

    @classmethod
    def of_agent(cls, log: Path) -> Scrape:
        """Find the address that the newest agent logged."""
        served = [json.loads(line) for line in log.read_text().splitlines() if '"metrics_served"' in line]
        return cls(f"http://{served[-1]['host']}:{served[-1]['port']}")

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a series, without its `culling_`, over all other labels; 0 where there is none."""
        return self.sums(name, **labels)[0]

    def sums(self, *names: str, **labels: str) -> list[float]:
        """Return as `sum` does, several series of one moment."""
        families = list(text_string_to_metric_families(self.text("/metrics")))
        return [
            sum(
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == f"culling_{name}" and labels.items() <= sample.labels.items()
            )
            for name in names
        ]

    def ready(self) -> tuple[bool, str]:
        """Return whether the process says that it does its job, and why not."""
        try:
            return True, self.text("/readyz").strip()
        except urllib.error.HTTPError as error:
            return False, error.read().decode().strip()

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=10) as answer:
            return str(answer.read().decode())
