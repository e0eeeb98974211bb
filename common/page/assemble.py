"""A page in one piece: its markup, its style, and the ES modules of its `app/`, beside those that all pages share.

A browser is sent a single document that loads nothing, under a policy that names the hash of its one script. So the
modules are joined here rather than fetched: each comes after those that it imports, and the lines that link them go.
What two modules call by the same name would clash; the tests of each page say so first.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources

SHARED = "culling.common.page"
"""Holds the modules of every page."""

ENTRY = "main"
"""The module that starts the page."""

IMPORT = re.compile(r'^import \{ [\w$, ]+ \} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(async )?function |const |let )", re.MULTILINE)


def assemble(package: str) -> tuple[bytes, str]:
    """Return the page of a package in one piece, and the policy that lets a browser run nothing else."""
    folder = resources.files(package)
    style = (folder / "page.css").read_text("utf-8")
    script = join_modules(read_modules(package))
    page = (folder / "page.html").read_text("utf-8").replace("/*style*/", style).replace("/*script*/", script)
    policy = {
        "default-src": "'none'",
        "style-src": f"'sha256-{_sha256(style)}'",
        "script-src": f"'sha256-{_sha256(script)}'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page.encode(), "; ".join(f"{name} {value}" for name, value in policy.items())


def read_modules(package: str) -> dict[str, str]:
    """Return the text of every module that a package's page may import, by its name."""
    folders = [resources.files(where) / "app" for where in (SHARED, package)]
    files = sorted((file for folder in folders for file in folder.iterdir()), key=lambda file: file.name)
    return {file.name[:-3]: file.read_text("utf-8") for file in files if file.name.endswith(".js")}


def join_modules(modules: Mapping[str, str]) -> str:
    """Return one classic script of them, in an order in which each follows what it imports."""
    done: list[str] = []

    def visit(name: str) -> None:
        if name not in done:
            for wanted in IMPORT.findall(modules[name]):
                visit(wanted)
            done.append(name)

    visit(ENTRY)
    return '"use strict";\n' + "".join(EXPORT.sub("", IMPORT.sub("", modules[name])) for name in done)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
