"""What is deployed, as the tools that deploy it read it: Docker Compose, and Helm's own code.

Each runs in a process of its own, and tests that need one which is not installed are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import culling_reference as reference
import pytest
import yaml

from support.images import ROOT

COMPOSE = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
CHART = ROOT / "deploy" / "helm" / "culling"

needs_compose = pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed")
needs_helm = pytest.mark.skipif(importlib.util.find_spec("helm_python") is None, reason="helm is not installed")


def composed(name: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return what a compose file comes to; fails where Compose refuses it."""
    command = [str(COMPOSE), "-f", str(ROOT / "deploy" / name), "config", "--format", "json"]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return dict(json.loads(done.stdout))


def rendered(values: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the documents of each template of the chart; raises ValueError with Helm's words where it refuses."""
    texts = _helm("chart.render(values, name='prod', namespace='culling')", values)
    return {
        name.rpartition("/")[2]: [document for document in yaml.safe_load_all(text) if document]
        for name, text in texts.items()
        if name.endswith(".yaml")
    }


def notes(values: dict[str, Any]) -> str:
    """Return what Helm says after it has installed the chart."""
    return str(_helm("chart.render(values, name='prod', namespace='culling')", values)["culling/templates/NOTES.txt"])


def linted(values: dict[str, Any]) -> list[str]:
    """Return what `helm lint --strict` finds, but for advice."""
    found = _helm("helm_python.lint(folder, values, strict=True)", values)
    return [message["error"] for message in found["messages"] if message["severity"] > 1]


def _helm(expression: str, values: dict[str, Any]) -> Any:
    return json.loads(_printed(expression, json.dumps(values)))


@cache
def _printed(expression: str, values: str) -> str:
    program = (
        "import helm_python, json, sys; values, folder = json.load(sys.stdin), sys.argv[1]; "
        f"chart = helm_python.Chart.load(folder); print(json.dumps({expression}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(CHART)], input=values, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


@cache
def _options() -> dict[str, set[str]]:
    found = {}
    for context in reference.command_tree(reference.root()):
        command: Any = context.command
        found[context.command_path] = {name for one in command.params for name in one.opts}
    return found


def unknown_words(arguments: list[str]) -> list[str]:
    """Return what of `culling ARGUMENTS` is no command or option."""
    line = ["culling", *arguments]
    known = max((name for name in _options() if line[: len(name.split())] == name.split()), key=len)
    if known == "culling":
        return arguments[:1]
    return [word for word in arguments if word.startswith("--") and word not in _options()[known]]


def unknown_variables(side: str, environment: dict[str, Any]) -> list[str]:
    """Return the `CULLING_` variables that are no setting of a side."""
    keys = reference.setting_keys(side)
    named = {name: name.removeprefix("CULLING_").lower().replace("__", ".") for name in environment}
    return [
        name
        for name, key in named.items()
        if name.startswith("CULLING_") and not any(one.startswith(key) for one in keys)
    ]
