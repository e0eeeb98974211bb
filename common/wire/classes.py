"""A class list: what a model finds, by name, in the order of its labels. It is part of the model's identity.

The list travels in graph and manifest, and a label as one byte beside it; what a label means, its list alone says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST = 256
"""A label is one byte on the wire."""

LONGEST = 64
"""Characters of a name: it stands in topics, tables and columns."""

_NAME = re.compile(r"[!-+\--~](?:[ -+\--~]*[!-+\--~])?")  # printable ASCII but a comma, with no space at either end


def check_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Return a class list. Raises ValueError for one that is none, with what is wrong of which name.

    A name is 1 to 64 printable ASCII characters without a comma, by which graphs and weights files part them.
    """
    if not names:
        raise ValueError("a class list needs a name")
    if len(names) > MOST:
        raise ValueError(f"{len(names)} classes; a model has at most {MOST}")
    seen: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise ValueError(f"name {number} is empty")
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            raise ValueError(
                f"{name[:LONGEST]!r} is no name of a class: use 1 to {LONGEST} printable ASCII characters, no comma, "
                "no space at either end"
            )
        if (other := seen.setdefault(name.casefold(), name)) is not name or names.index(name) != number - 1:
            raise ValueError(f"{name} is there twice" if other == name else f"{other} and {name} differ by case alone")
    return tuple(names)
