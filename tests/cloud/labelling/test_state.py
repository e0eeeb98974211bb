from __future__ import annotations

from pathlib import Path

from culling.cloud.labelling.state import FOLDER, read_problem, say_problem


def test_a_problem_is_told_until_it_is_over(tmp_path: Path) -> None:
    assert read_problem(tmp_path) == ""
    say_problem(tmp_path, "teacher.safetensors: no such file")
    assert read_problem(tmp_path) == "teacher.safetensors: no such file"
    say_problem(tmp_path, "")
    say_problem(tmp_path, "")
    assert read_problem(tmp_path) == ""


def test_a_disk_that_takes_no_file_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    say_problem(tmp_path, "why")
    say_problem(tmp_path, "")
    assert read_problem(tmp_path) == ""
