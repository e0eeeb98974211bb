"""What Home Assistant is told, so that a camera shows up there by itself: its state, and counts by class and zone.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery: one retained message for each sensor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from culling.edge.output.sink import CameraNow


@dataclass(frozen=True)
class Topics:
    """Where things are: `first` are the first words of every topic, `client_id` names this agent."""

    first: str
    client_id: str

    @property
    def agent(self) -> str:
        """Whether the agent is there: `online` or `offline`, which is its last will."""
        return f"{self.first}/agents/{self.client_id}"

    def of(self, camera: str, what: str) -> str:
        """The topic of one thing of a camera: `detections`, `counts`, `state` or `availability`."""
        return f"{self.first}/{camera}/{what}"


def sensors(prefix: str, topics: Topics, camera: CameraNow, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield topic and message for each sensor of a camera: its state, then a count for each class, then by zone."""
    state = {"name": "State", "state_topic": topics.of(camera.name, "state"), "icon": "mdi:cctv"}
    yield _sensor(prefix, topics, camera.name, "state", state, [topics.agent])
    there = [topics.agent, topics.of(camera.name, "availability")]
    for label in classes:
        told = _count(topics, camera.name, label.capitalize(), ("classes", label))
        yield _sensor(prefix, topics, camera.name, label, told, there)
        for zone in camera.zones:
            told = _count(topics, camera.name, f"{label.capitalize()} in {zone}", ("zones", zone, label))
            yield _sensor(prefix, topics, camera.name, f"{zone} {label}", told, there)


def _count(topics: Topics, camera: str, name: str, keys: Sequence[str]) -> dict[str, Any]:
    place = "".join(f"[{json.dumps(key)}]" for key in keys)
    return {
        "name": name,
        "state_topic": topics.of(camera, "counts"),
        "value_template": f"{{{{ value_json{place} }}}}",
        "state_class": "measurement",
    }


def _sensor(
    prefix: str, topics: Topics, camera: str, what: str, told: dict[str, Any], there: Sequence[str]
) -> tuple[str, str]:
    device = {"identifiers": [f"culling_{camera}"], "name": camera, "manufacturer": "Culling", "model": "camera"}
    availability = [{"topic": topic} for topic in there]
    own = f"culling_{camera}_{what}"
    config = {**told, "unique_id": own, "availability": availability, "availability_mode": "all", "device": device}
    return f"{prefix}/sensor/{_word(f'culling_{camera}')}/{_word(what)}/config", json.dumps(config)


def _word(text: str) -> str:
    """Return a text as a word of a discovery topic."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)
