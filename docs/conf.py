"""Sphinx: Markdown through MyST, the furo theme, and a reference that is written from the code (`_ext/`)."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Culling"
author = "The Culling authors"
copyright = "2026, the Culling authors; Apache-2.0"
version = release = installed("culling")

extensions = ["myst_parser", "culling_reference"]
exclude_patterns = ["_ext"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Culling {version}"
html_static_path: list[str] = []
html_show_sphinx = False
