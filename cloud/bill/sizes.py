"""At which input size the teacher sees a frame: a rule of its own, so that a label can be priced without torch."""

from __future__ import annotations

from culling.common.scaler import STRIDE

MOST_ENLARGED = 1.5
"""Labels of small frames improve up to this enlargement and worsen beyond it, where it adds only blur."""


def teacher_size(height: int, width: int, short_side: int, most: float = MOST_ENLARGED) -> tuple[int, int]:
    """Return the teacher's input `(height, width)` for a frame: multiples of the stride, nearest to the aspect."""
    scale = min(short_side / min(height, width), most)
    rows, columns = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (height, width))
    return rows, columns
