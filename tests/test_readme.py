"""The README stays a front door: short, with a picture, and it says what is known of the rights in the weights."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 130


def test_its_picture_is_there_and_small() -> None:
    [picture] = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert 0 < (ROOT / picture).stat().st_size < 200_000


def test_the_targets_that_it_names_are_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"`?make ([a-z]+)", README)
    assert {"demo", "test", "docs"} <= set(named) <= set(targets)


def test_the_rights_in_the_weights_stand_before_the_first_command() -> None:
    front = README.partition("```sh")[0]
    assert all(word in front for word in ("AGPL-3.0", "without a declared licence", "cloud/weights/README.md"))


def test_the_export_is_gated_before_it_is_signed() -> None:
    """The picture is drawn from the right to the left in the cloud."""
    [line] = [line for line in README.splitlines() if "◀─ export" in line]
    assert re.findall(r"publish|sign|gate|export", line) == ["publish", "sign", "gate", "export"]
