from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from culling.cloud.round.progress import FILE, Progress, ProgressWriter, read_progress
from support.clock import FakeClock


def test_progress_is_read_as_it_was_told_at_most_once_a_second(tmp_path: Path) -> None:
    clock = FakeClock()
    heart = ProgressWriter(tmp_path, clock.now)
    heart.stage("train")
    heart.expect(10)
    for _ in range(5):
        heart.advance()
    told = read_progress(tmp_path)
    assert told is not None
    assert (told.stage, told.step, told.steps, told.left_s) == ("train", 0, 10, None)
    clock.advance(5)
    heart.advance(0)
    told = read_progress(tmp_path)
    assert told is not None
    assert (told.step, told.share, told.left_s) == (5, 0.5, 5.0)


def test_the_time_left_of_a_resumed_run_goes_by_its_own_pace(tmp_path: Path) -> None:
    clock = FakeClock()
    heart = ProgressWriter(tmp_path, clock.now)
    heart.expect(100)
    for step in (80, 81, 82):
        clock.advance(2)
        heart.reach(step)
    told = read_progress(tmp_path)
    assert told is not None
    assert (told.share, told.left_s) == (0.82, 36.0)


def test_what_cannot_be_written_or_read_ends_nothing(tmp_path: Path) -> None:
    heart = ProgressWriter(tmp_path / "gone", FakeClock().now)
    heart.stage("label")
    assert read_progress(tmp_path / "gone") is None
    (tmp_path / FILE).write_bytes(b"\xff")
    assert read_progress(tmp_path) is None


def test_a_running_stage_is_told_with_its_share_and_the_time_left() -> None:
    train = Progress("train", 43, 100, at=43.0, began=0.0)
    assert train.told() == "train 43%, 60 s left"
    assert replace(train, at=1290.0).told() == "train 43%, 28 min left"
    assert Progress("export", 0, 0, at=5.0, began=0.0).told() == "export"
