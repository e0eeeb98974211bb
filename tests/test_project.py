"""What stands beside the code agrees with it: workflow, hooks, versions."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

import culling.common

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_workflow_tests_every_python_that_the_package_names() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]
    prefix = "Programming Language :: Python :: "
    named = [one.removeprefix(prefix) for one in PROJECT["classifiers"] if one.startswith(prefix)]
    assert job["strategy"]["matrix"]["python"] == named
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])


def test_hooks_run_what_is_installed_and_need_no_network() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" for hook in repository["hooks"])


def test_the_forms_of_the_repository_are_yaml() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text()), path


def test_the_newest_release_in_the_changelog_is_this_version() -> None:
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert newest[1] == PROJECT["version"]


def test_the_package_says_its_version() -> None:
    assert culling.common.__version__ == version("culling")


def test_every_package_says_that_it_is_typed_and_what_it_is_for() -> None:
    for side in ("common", "edge", "cloud"):
        assert (ROOT / side / "py.typed").is_file()
        for package in (ROOT / side).rglob("__init__.py"):
            assert package.read_text().startswith('"""'), package
