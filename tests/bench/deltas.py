"""What travels of a model whose edge has the one before it, for models of one camera in the order they went live.

    python tests/bench/deltas.py MODEL.onnx NEXT.onnx …              # any that `data_dir/models` holds; about 10 s each
    python tests/bench/deltas.py --int8 CLIP MODEL.onnx NEXT.onnx …  # each in 8 bits first, ranges from its own frames

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
FRAMES = 6
"""Of each model's own: ranges of activations are a few numbers a layer, weights do not depend on them."""


def in_8_bits(model: bytes, clip: Path, part: float) -> bytes:
    """Return a model in 8 bits, its ranges taken from frames of the clip from `part` of it on."""
    from culling.cloud.model.quantise import quantise
    from culling.common.scaler import input_size, resize
    from culling.common.video import count_frames, read_frames

    last = count_frames(clip) - 1
    numbers = np.linspace(part * last, (part + 0.3) * last, FRAMES).astype(int)
    pictures = [rgb for _, rgb in read_frames(clip, set(numbers.tolist()))]
    return quantise(model, [resize(rgb, *input_size(rgb.shape[1], rgb.shape[0], 0.5)) for rgb in pictures])


def told(names: tuple[str, str], base: bytes, target: bytes) -> str:
    """Return the figures of one pair as a row."""
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
        f"{names[0][:12]} → {names[1][:12]}  words {changed:6.1%}  delta {len(changes):>10,} of {len(target):,}"
        f" ({len(changes) / len(target):.1%}), zlib alone {packed / len(target):.1%}; made in {made - started:.1f} s,"
        f" rebuilt in {applied - made:.1f} s; {8 * len(changes) / BITS_PER_S:.0f} s instead of"
        f" {8 * len(target) / BITS_PER_S:.0f} s at 1 Mbit/s"
    )


def main() -> None:
    arguments = sys.argv[1:]
    clip = Path(arguments[1]) if arguments[:1] == ["--int8"] else None
    paths = [Path(name) for name in (arguments[2:] if clip else arguments)]
    if len(paths) < 2:
        raise SystemExit(__doc__)
    models = [path.read_bytes() for path in paths]
    if clip is not None:
        models = [in_8_bits(model, clip, 0.6 * at / (len(models) - 1)) for at, model in enumerate(models)]
    for (before, base), (after, target) in pairwise(zip(paths, models, strict=True)):
        print(told((before.stem, after.stem), base, target), flush=True)


if __name__ == "__main__":
    main()
