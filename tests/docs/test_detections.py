"""The published schema of a record is that of the type, and records keep to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from culling.common.detections import decode, schema

PAGES = Path(__file__).parents[2] / "docs"
PUBLISHED = PAGES / "reference" / "detections.schema.json"


def test_the_published_schema_is_current() -> None:
    command = "python -m culling.common.detections > docs/reference/detections.schema.json"
    made = json.loads(msgspec.json.encode(schema()))
    assert json.loads(PUBLISHED.read_text()) == made, f"run `{command}`"
    printed = subprocess.run([sys.executable, "-m", "culling.common.detections"], capture_output=True, text=True)
    assert printed.stdout == PUBLISHED.read_text()


def test_the_record_that_the_page_shows_is_one() -> None:
    shown = (PAGES / "outputs.md").read_text().partition("```json\n")[2].partition("```")[0]
    record = decode(shown.encode())
    assert record.counts() == {"person": 1}
