"""The README says what is true: its metrics table, its exit codes, and the tests its promises name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from culling.common import metrics
from culling.common.cli import EXIT_CODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_metrics_table_is_the_one_in_the_code() -> None:
    assert metrics.markdown().strip() in README


def test_every_exit_code_is_listed() -> None:
    text = " ".join(README.split())
    for code in EXIT_CODES:
        assert code in text


@pytest.mark.parametrize("page", ["README.md", "tests/faults/README.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)(?:::(\w+))?`", (ROOT / page).read_text())
    assert named
    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert not test or re.search(rf"def {test}\(", (ROOT / path).read_text()), f"{path}::{test}"


def test_each_promise_names_its_tests() -> None:
    promises = re.split(r"\n\d\. ", README.partition("## Promises")[2].partition("\n## ")[0])[1:]
    assert len(promises) == 7
    assert all("`tests/" in promise for promise in promises)


def test_every_fault_test_stands_in_the_table() -> None:
    table = (ROOT / "tests/faults/README.md").read_text()
    for folder in ("faults", "fuzz"):
        for path in (ROOT / "tests" / folder).glob("test_*.py"):
            for test in re.findall(r"^def (test_\w+)", path.read_text(), re.M):
                assert f"`tests/{folder}/{path.name}::{test}`" in table, test
