"""`culling demo --set`: settings of cloud and edge that a person changes; what the demo decides itself is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from culling.common.config import Settings, parse_overrides
from culling.common.errors import SettingsError
from culling.common.settings.command import settings_class
from culling.common.settings.keys import nearest, sections

_OWN = "each demo has a folder, keys and ports of its own"
_PLAN = "the demo chooses it for this machine, so that its rounds end within minutes"
_SHORT = "a demo has minutes of video, and the defaults are made for days"

DECIDED: Mapping[str, Mapping[str, str]] = {
    "cloud": {
        **dict.fromkeys(("service.data_dir", "service.endpoint", "metrics.port", "page.port"), _OWN),
        **dict.fromkeys(("teacher.short_side", "student.long_side", "student.int8"), _PLAN),
        **dict.fromkeys(("labelling.per_day", "labelling.threads", "round.kept", "round.most_steps"), _PLAN),
        **dict.fromkeys(("round.patience", "round.batch", "round.threads", "round.held_out"), _PLAN),
        **dict.fromkeys(("schedule.min_new", "schedule.first", "schedule.least", "schedule.max_age_s"), _PLAN),
        **dict.fromkeys(("store.held_out_block_s", "store.guard_s", "round.checkpoint_s", "publish.reoffer_s"), _SHORT),
        **dict.fromkeys(("gate.margin", "gate.least", "gate.certainty", "gate.worse"), _SHORT),
    },
    "edge": {
        **dict.fromkeys(("agent.state_dir", "agent.trace", "student.initial", "metrics.port", "cloud"), _OWN),
        "camera": "the name, --video and --speed say what is played",
        **dict.fromkeys(("agent.threads", "agent.allow_cpu", "selector.frames_per_window", "selector.window_s"), _PLAN),
        **dict.fromkeys(("selector.spacing_s", "selector.duplicate_change"), _SHORT),
        **dict.fromkeys(("selector.bootstrap", "selector.audit_share"), _SHORT),
    },
}
"""By side and key, or section: why it cannot be changed."""


@dataclass(frozen=True)
class Changes:
    """Settings that a person changed, as `KEY=VALUE` pairs for the commands of each side."""

    cloud: tuple[str, ...] = ()
    edge: tuple[str, ...] = ()

    def overrides(self, side: str) -> dict[str, Any]:
        """Return those of a side, as `load_settings` takes them."""
        return parse_overrides(self._of(side))

    def flags(self, side: str) -> list[str]:
        """Return the flags for a command of that side."""
        return [flag for pair in self._of(side) for flag in ("--set", pair)]

    def _of(self, side: str) -> tuple[str, ...]:
        return self.cloud if side == "cloud" else self.edge


def divide(pairs: Sequence[str] | None) -> Changes:
    """Return the pairs of `--set` by side. Raises SettingsError for a key that no side has, or that a demo decides."""
    found: dict[str, list[str]] = {"cloud": [], "edge": []}
    for pair in pairs or ():
        (key,) = parse_overrides([pair])
        found[_side(key)].append(pair)
    return Changes(tuple(found["cloud"]), tuple(found["edge"]))


def _side(key: str) -> str:
    models = {side: settings_class(side) for side in DECIDED}
    sides = [side for side, model in models.items() if _has(model, key)]
    for side in sides:
        if not _decided(side, key):
            return side
    if sides:
        raise SettingsError(f"--set {key}: {_decided(sides[0], key)}")
    close = next((close for model in models.values() if (close := nearest(model, tuple(key.split("."))))), "")
    raise SettingsError(f"--set {key}: neither cloud nor edge has it{f'; did you mean {close}?' if close else ''}")


def _has(model: type[Settings], key: str) -> bool:
    section, _, name = key.partition(".")
    below = sections(model).get(section)
    return below is not None and (not name or section == "camera" or name.partition(".")[0] in below.model_fields)


def _decided(side: str, key: str) -> str:
    """Return why a key, its section, or a key of the section that it is cannot be changed; "" where it can."""
    told = DECIDED[side]
    inside = (reason for other, reason in told.items() if other.startswith(f"{key}."))
    return told.get(key) or told.get(key.partition(".")[0]) or next(inside, "")
