from __future__ import annotations

from support.forms import tell

__all__ = ["tell"]
