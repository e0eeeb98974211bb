"""Every command on consoles that know little more than ASCII."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from culling.common.cli import commands, main
from culling.common.process.console import NEAREST, counted, degrade

ENCODINGS = ("ascii", "iso-8859-1", "cp437")


def screen(patch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    """Make stdout and stderr a console of that encoding; return the bytes that reach it."""
    shown = io.BytesIO()
    stream = io.TextIOWrapper(shown, encoding, write_through=True)
    for name in ("stdout", "stderr"):
        patch.setattr(sys, name, stream)
    return shown


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_help_is_shown(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    shown = screen(monkeypatch, encoding)
    for words in ("", *commands()):
        assert main([*words.split(), "--help"]) == 0
    assert shown.getvalue().count(b"Usage") > len(commands())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_and_what_they_name_are_shown(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    shown = screen(monkeypatch, encoding)
    assert main(["print-config", "edge", "--config", "Überwachung … →/名.toml"]) == 2
    assert b"cannot read the settings" in shown.getvalue()


def test_a_file_that_the_locale_cannot_name_is_one_line(tmp_path: Path) -> None:
    settings = tmp_path / "edge.toml"
    settings.write_text('[service]\ndata_dir = "Überwachung"\n', encoding="utf-8")
    command = [sys.executable, "-m", "culling.common.cli", "cloud", "status", "--config", str(settings)]
    without = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **without}, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "Überwachung" in done.stderr.encode().decode("unicode-escape")
    assert "LC_ALL=C.UTF-8" in done.stderr


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_progress_and_live_lines_are_shown(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    shown = screen(monkeypatch, encoding)
    degrade()
    console = Console(force_terminal=True, width=80)
    table = Table("camera", "a column that is cut short by its width " * 9, title="50 % · 3 → 4")
    table.add_row("gate", "".join(NEAREST))
    console.print(table)
    with Progress(TextColumn("{task.description}"), BarColumn(), console=console) as progress:
        progress.update(progress.add_task("labels …", total=3), advance=1)
    with Live("camera live · round 3", console=console):
        pass
    console.rule("─")
    assert b"camera live" in shown.getvalue()


def test_signs_of_ours_become_what_comes_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = screen(monkeypatch, "ascii")
    degrade()
    print("Recording … · 0.56 → 0.91 ▁▃█")
    assert shown.getvalue() == b"Recording ... - 0.56 -> 0.91 _-#\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_stays_json_and_a_path_that_is_no_text_is_shown(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    shown = screen(monkeypatch, encoding)
    degrade()
    told = {"camera": "Tür 🚪", "path": b"caf\xe9".decode("utf-8", "surrogateescape")}
    print(json.dumps(told, ensure_ascii=False))
    assert json.loads(shown.getvalue()) == told


def test_one_is_no_plural() -> None:
    assert [counted(number, "frame") for number in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert counted(2, "box") == "2 boxes"
