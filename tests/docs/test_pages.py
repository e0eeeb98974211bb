"""What the pages say is true: links lead somewhere, commands and settings exist, and so do the tests that are named."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import culling_reference as reference
import pytest

from culling.common import metrics

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "cloud/weights/README.md"])
ENDINGS = ("css", "html", "js", "onnx", "py", "safetensors", "token", "toml")
"""A name with one of these is a file's, not a setting's."""
SPANS = ("cloud.store", "cloud.label", "cloud.train")
"""Names of spans, which are written as settings are."""

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@cache
def commands() -> dict[str, set[str]]:
    """Every command by its words, with its options."""
    found = {}
    for context in reference.command_tree(reference.root()):
        command: Any = context.command
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        found[context.command_path] = options | {"--help"}
    return found


def test_no_help_loses_a_section_in_brackets() -> None:
    """`[waves]` would be taken for a style, and not be printed."""
    for context in reference.command_tree(reference.root()):
        command: Any = context.command
        for told in (command.help, command.epilog, *(getattr(one, "help", None) for one in command.params)):
            assert not re.search(r"(?<!\\)\[[a-z]+\]", told or ""), (context.command_path, told)


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_to_files_that_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", [name for name in NAMES if "/adr/" not in name and name != "CHANGELOG.md"])
def test_commands_that_a_page_names_exist_with_their_options(page: str) -> None:
    for line in _commands_in((ROOT / page).read_text()):
        words = line.split()
        known = max((name for name in commands() if words[: len(name.split())] == name.split()), key=len)
        rest = words[len(known.split()) :]
        assert not (_is_group(known) and rest and re.fullmatch(r"[a-z][a-z-]+\d?", rest[0])), f"no such command: {line}"
        options = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert options <= commands()[known], line


def _commands_in(text: str) -> list[str]:
    """The command lines of fenced shell blocks and of code in the running text, in one line each."""
    fenced = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)).replace("\\\n", " ")
    lines = [line.partition("#")[0].partition("&&")[0] for line in fenced.splitlines()]
    lines += re.findall(r"`(culling [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    starts = (re.search(r"(?:^|bin/)(culling [a-z-].*)", line.strip()) for line in lines)
    return [start[1] for start in starts if start]


def _is_group(command: str) -> bool:
    return any(name.startswith(f"{command} ") for name in commands())


@pytest.mark.parametrize("page", NAMES)
def test_settings_that_a_page_names_exist(page: str) -> None:
    keys = {**reference.setting_keys("edge"), **reference.setting_keys("cloud")}
    sections = {key.partition(".")[0] for key in keys}
    text = (ROOT / page).read_text()
    named = re.findall(r"`([a-z]+)\.([a-z_0-9]+)`", text) + re.findall(r"`\[([a-z]+)\] ([a-z_0-9]+)`", text)
    for section, key in named:
        if section in sections and key not in ENDINGS and f"{section}.{key}" not in SPANS:
            assert f"{section}.{key}" in keys, f"{section}.{key}"


@pytest.mark.parametrize("page", ["docs/promises.md", "tests/faults/README.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)(?:::(\w+))?`", (ROOT / page).read_text())
    assert named
    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert not test or re.search(rf"def {test}\(", (ROOT / path).read_text()), f"{path}::{test}"


def test_each_promise_names_its_tests() -> None:
    promises = re.split(r"\n\d\. ", (ROOT / "docs/promises.md").read_text())[1:]
    assert len(promises) == 7
    assert all("`tests/" in promise for promise in promises)


def test_every_fault_test_stands_in_the_table() -> None:
    table = (ROOT / "tests/faults/README.md").read_text()
    for folder in ("faults", "fuzz"):
        for path in (ROOT / "tests" / folder).glob("test_*.py"):
            for test in re.findall(r"^def (test_\w+)", path.read_text(), re.M):
                assert f"`tests/{folder}/{path.name}::{test}`" in table, test


def test_every_decision_has_a_number_of_its_own_and_stands_in_the_list() -> None:
    folder = ROOT / "docs/adr"
    listed = re.findall(r"^(\d{4}-[a-z0-9-]+)$", (folder / "index.md").read_text(), re.M)
    assert listed == sorted(path.stem for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in listed] == list(range(1, len(listed) + 1))
    for name in listed:
        assert (folder / f"{name}.md").read_text().startswith(f"# {name[:4]} ")


def test_the_runbook_has_a_line_for_every_alert_and_names_no_other() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text()))
    assert set(re.findall(r"\bCulling[A-Z]\w+", (ROOT / "docs/runbook.md").read_text())) == alerts


@pytest.mark.parametrize("page", [name for name in NAMES if name != "CHANGELOG.md"])
def test_series_that_a_page_names_are_exported(page: str) -> None:
    exported = {one.exported for one in metrics.SERIES}
    assert set(re.findall(r"`(culling_[a-z_]+)", (ROOT / page).read_text())) <= exported
