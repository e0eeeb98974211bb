"""Output on any console: what its encoding cannot show is shown by what comes nearest, never by a traceback."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper

NEAREST = {
    **{"…": "...", "·": "-", "—": "-", "\u2212": "-", "\u00d7": "x", "→": "->", "←": "<-", "≤": "<=", "≥": ">="},
    **dict(zip("▁▂▃▄▅▆▇█", "_.-:=+*#", strict=True)),
    **dict.fromkeys("─━═╌╸╺", "-"),
    **dict.fromkeys("│┃║╎", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛╔╗╚╝", "+"),
}
"""Signs that we and rich draw with; any other is shown by its number, as JSON and Python write it: `\\u00fc`."""

_HANDLER = "culling.nearest"


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts: "1 frame", "2 frames", "1 box", "2 boxes"."""
    plural = "" if number == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{number} {noun}{plural}"


def degrade() -> None:
    """Let stdout and stderr take every text, in any locale and with any `PYTHONIOENCODING`."""
    codecs.register_error(_HANDLER, _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(NEAREST.get(sign) or _number(sign) for sign in signs), error.end


def _number(sign: str) -> str:
    """Return an escape of which JSON makes the same sign again."""
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
