"""Draw the figures of these pages that come from the code: `python docs/images/draw.py`.

`selector.svg` is `examples/confidence_loss.py`'s own figure, written with `--out docs/images/selector.svg`.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from culling.common.selection.confidence import POLICIES, confidence_loss

HERE = Path(__file__).parent


def confidence(out: Path) -> None:
    """Draw the confidence loss of one box over its score, for each policy, from the policy's floor on."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for policy in POLICIES.values():
        if policy.power:  # of one box it is the loss of another policy
            continue
        scores = np.linspace(policy.floor, 1, 200)
        axes.plot(scores, confidence_loss(scores, policy), label=policy.name)
    axes.axhline(0, color="#bbb", linewidth=1)
    axes.set(xlabel="score of a box", ylabel="its part of the loss", xlim=(0, 1))
    axes.legend()
    with matplotlib.rc_context({"svg.hashsalt": "culling"}):
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    confidence(HERE / "confidence-loss.svg")
