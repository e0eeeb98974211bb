"""The model of the cost: what the page shows is what the program prints, from figures that stand where it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import culling_reference as reference
import pytest

from support.scripts import loaded

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "deploy" / "capacity.py"


@pytest.fixture(scope="module")
def capacity() -> ModuleType:
    return loaded(PROGRAM)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)


def test_the_page_shows_what_the_program_prints() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout in (ROOT / "docs/capacity.md").read_text()


def test_what_is_a_setting_is_its_default(capacity: ModuleType) -> None:
    settings = {**reference.setting_keys("cloud"), **reference.setting_keys("edge")}
    sources = {one.name: one.metadata["source"] for one in capacity.fields(capacity.Given)}
    named = {name: source.strip("`") for name, source in sources.items() if "`" in source}
    assert len(named) == 4
    for name, key in named.items():
        assert float(settings[key].default.strip("`").replace(",", "")) == getattr(capacity.Given(), name), key


def test_what_was_measured_stands_where_it_says(capacity: ModuleType) -> None:
    text = (ROOT / "docs/sizing.md").read_text().replace(",", "")
    figures = {"jpeg_kb": "108", "model_mb": "57.6", "weights_mb": "28.8", "label_gflop": "158", "round_tflop": "397"}
    for name, figure in {**figures, "ingest_per_s": "1290"}.items():
        assert getattr(capacity.Given(), name) == float(figure)
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]\d)", text), name
    assert capacity.Given().label_s == pytest.approx(1.16 / 2.3)  # the nano takes a sixth more
    assert all(one in text for one in ("2.3 images/s", "20 minutes", "a camera asks for two"))


def test_everything_grows_with_the_fleet_but_what_is_for_availability(capacity: ModuleType) -> None:
    once, twice = (
        {row.name: row.value for row in capacity.machines(capacity.Given(cameras=cameras, busy=1.0))}
        for cameras in (300_000, 600_000)
    )
    assert all(twice[name] == pytest.approx(2 * once[name]) for name in once if name != "ingests")
    few = {row.name: row.value for row in capacity.machines(capacity.Given(cameras=10))}
    assert few["ingests"] == 3


def test_the_sum_is_of_what_is_shown(capacity: ModuleType) -> None:
    rows = {row.name: row.value for row in capacity.bill(capacity.Given())}
    parts = [value for name, value in rows.items() if name not in ("all, with GPUs", "a camera, with GPUs")]
    assert rows["all, with GPUs"] == pytest.approx(sum(parts) - rows["labels and rounds on cores"])
    assert rows["a camera, with GPUs"] == pytest.approx(rows["all, with GPUs"] / 100_000)


def test_own_numbers_are_put_in_and_others_refused_by_name() -> None:
    assert "| `cameras` | 20,000 |" in run("--set", "cameras=20000").stdout
    for wrong in ("camera=1", "cameras=many", "cameras"):
        done = run("--set", wrong)
        assert done.returncode == 2
        assert f"--set {wrong}" in done.stderr
