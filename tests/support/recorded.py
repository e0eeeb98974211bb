"""Bytes of other versions, as `common/wire/recorded/` in the tests keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack

from culling.common.wire.messages import Sender

FOLDER = Path(__file__).parents[1] / "common/wire/recorded"


def said(version: str, sender: Sender) -> list[list[bytes]]:
    """Return the parts of every message that a side of that version sent."""
    lines = map(json.loads, (FOLDER / f"{version}.jsonl").read_text().splitlines())
    return [[bytes.fromhex(one[part]) for part in ("header", "payload") if part in one] for one in lines
            if one["from"] == sender]  # fmt: skip


def kind(parts: list[bytes]) -> str:
    """Return the type of a message, by the reference implementation."""
    return str(msgpack.unpackb(parts[0][1:])["type"])


def understood_by(version: str, parts: list[bytes]) -> bool:
    """Return whether that version, which refuses fields that it does not know, knows the message and every field."""
    known = json.loads((FOLDER / f"{version}.fields.json").read_text())
    return _within(msgpack.unpackb(parts[0][1:]), known)


def _within(body: dict[str, Any], known: dict[str, list[str]]) -> bool:
    fields = body.keys() - {"type"}
    nested = [("CameraState", one) for one in body.get("cameras", ())]
    nested += [(name, body[key]) for key, name in (("detections", "WireDetections"), ("features", "WireFeatures"))
               if body.get(key)]  # fmt: skip
    nested += [("Ignored", one) for one in body.get("ignored", ())]
    parts = all(one.keys() <= set(known[name]) for name, one in nested)
    return body["type"] in known and fields <= set(known[body["type"]]) and parts
