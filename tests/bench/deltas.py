"""What travels of a model whose edge has the one before it, for models of one camera in the order they went live.

    python tests/bench/deltas.py MODEL.onnx NEXT.onnx …    # any that `data_dir/models` holds; about 10 s each

Printed for each pair: 4-byte words that changed, the delta's bytes and share of the whole, what `zlib` makes of the
whole alone, CPU seconds to make it and to rebuild from it, and what is computed from the bytes: seconds on a line of
1 Mbit/s that carries nothing else. Each delta is applied, and the result compared.
"""

from __future__ import annotations

import io
import sys
import time
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from culling.common.wire.delta import apply, make

BITS_PER_S = 1_000_000


def told(before: Path, after: Path) -> str:
    """Return the figures of one pair as a row."""
    base, target = before.read_bytes(), after.read_bytes()
    started = time.process_time()
    changes = make(base, target)
    made, rebuilt = time.process_time(), io.BytesIO()
    apply(io.BytesIO(changes), io.BytesIO(base), rebuilt)
    applied = time.process_time()
    assert rebuilt.getvalue() == target
    length = min(len(base), len(target)) // 4 * 4
    changed = np.mean(np.frombuffer(base[:length], "<u4") != np.frombuffer(target[:length], "<u4"))
    packed = len(zlib.compress(target))
    return (
        f"{before.stem[:12]} → {after.stem[:12]}  words {changed:6.1%}  delta {len(changes):>10,} of {len(target):,}"
        f" ({len(changes) / len(target):.1%}), zlib alone {packed / len(target):.1%}; made in {made - started:.1f} s,"
        f" rebuilt in {applied - made:.1f} s; {8 * len(changes) / BITS_PER_S:.0f} s instead of"
        f" {8 * len(target) / BITS_PER_S:.0f} s at 1 Mbit/s"
    )


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]]
    if len(paths) < 2:
        raise SystemExit(__doc__)
    for pair in pairwise(paths):
        print(told(*pair))


if __name__ == "__main__":
    main()
