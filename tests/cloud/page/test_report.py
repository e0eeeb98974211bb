from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from culling.cloud.page.report import write_report
from culling.common.cli import main
from culling.common.errors import InputError
from support.cloud import CAMERA, CloudState
from support.showcase import Showcase

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudState]:
    state = CloudState(tmp_path)
    yield state
    state.close()


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of the plots that say "nothing yet"."""
    titles: list[str] = []
    write = Axes.text

    def text(axes: Axes, x: float, y: float, what: str, *rest: Any, **how: Any) -> Any:
        if what == "nothing yet":
            titles.append(axes.get_title())
        return write(axes, x, y, what, *rest, **how)

    monkeypatch.setattr(Axes, "text", text)
    return titles


def test_a_camera_with_a_past_is_told_in_plots_tables_and_pages(
    cloud: CloudState, tmp_path: Path, empty: list[str]
) -> None:
    fleet, now = Showcase(cloud, [CAMERA]), time.time()
    fleet.add_past(now)
    fleet.add_frames(CAMERA, 6, now)
    fleet.add_rounds(CAMERA, 3, now)
    fleet.add_changes(CAMERA, 2, 4, gone=2)
    out = tmp_path / "report"
    assert main(["cloud", "report", CAMERA, "--out", str(out), "--config", str(cloud.toml)]) == 0
    for name in ("forwarded", "rounds", "scale", "cost", "bill"):
        assert (out / f"{name}.png").read_bytes().startswith(PNG)
    hours = table(out / "forwarded.csv")
    assert sum(int(hour["seen"]) for hour in hours) in (600 * 1440, 600 * 1380)  # an hour may have been silent
    assert all(0 < float(hour["rate"]) < 0.01 for hour in hours[:-1])
    assert [(row["id"], row["state"]) for row in table(out / "rounds.csv")] == [
        ("1", "published"),
        ("2", "published"),
        ("3", "refused"),
    ]
    assert [row["scale"] for row in table(out / "scale.csv") if row["chosen"] == "True"] == ["0.729"] * 3
    assert {row["stage"] for row in table(out / "cost.csv")} == {
        "label", "cull", "resolution", "train", "export", "gate",
    }  # fmt: skip
    days = table(out / "bill.csv")
    assert len(days) in (1, 2), "the history has a day of minutes"
    assert all(int(day["frames"]) > 0 for day in days)
    page = (out / "round-3.html").read_text()
    assert "not better" in page
    assert page.count("data:image/png;base64,") == 4, "the loss and the labels by scale, training, seconds"
    assert "by 32 frames kept aside" in page
    assert "on 170 labelled frames" in page
    assert "http" not in page
    assert empty == []
    week = (out / "week.html").read_text()
    assert "3 rounds: 2 published, 1 refused." in week
    assert "the published ones gained +0.060 AP50 in total." in week
    assert "128 of 512 labelled frames were chosen" in week
    assert week.count("data:image/png;base64,") == 3
    assert week.count("<h4>What changed</h4>") == 1, "rounds of an earlier version have none"
    assert week.count("data:image/jpeg;base64,") == 3, "each picture once, of the frames that differ most"
    assert week.count("<use href=") == 6
    assert "2 of the 6 frames are no longer stored" in week
    assert "http" not in week


def test_a_camera_without_a_past_is_told_as_such(cloud: CloudState, tmp_path: Path, empty: list[str]) -> None:
    cloud.enroll()
    files = write_report(cloud.index, cloud.settings, CAMERA, tmp_path / "report", time.time())
    assert all(path.stat().st_size for path in files)
    assert table(tmp_path / "report" / "rounds.csv") == []
    assert len(empty) == 5


def test_a_round_that_failed_early_has_a_page_and_its_reason_is_text(cloud: CloudState, tmp_path: Path) -> None:
    cloud.enroll()
    turn = cloud.rounds.start(CAMERA, "manual", 5.0)
    cloud.rounds.end(turn.id, "failed", {}, "<script>alert(1)</script>", 6.0)
    write_report(cloud.index, cloud.settings, CAMERA, tmp_path / "report", time.time())
    page = (tmp_path / "report" / f"round-{turn.id}.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<script" not in (tmp_path / "report" / "week.html").read_text()


def test_a_camera_that_is_not_there_is_named(cloud: CloudState, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no camera yard"):
        write_report(cloud.index, cloud.settings, "yard", tmp_path, time.time())
