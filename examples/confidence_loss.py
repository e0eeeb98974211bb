"""Plot a clip's confidence loss over time, and mark the frames that the selector would forward.

    python examples/confidence_loss.py
    python examples/confidence_loss.py --video yard.mp4 --model student.onnx --budget 10 --out yard.png

The student looks at every fifth frame. The clip is cut into four windows; in each, as many frames as the budget allows
may leave. Hard frames leave at once when they are above the threshold, or when their window closes if they are among
its best; audits are drawn at random from the rest, so that somebody sees what the loss misses.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from culling.cloud.evaluation.evaluate import open_model
from culling.cloud.weights.index import BUNDLED
from culling.common.scaler import resize
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.selection.selector import THUMBNAIL, Action, Held, SelectorSettings, build_selector, settle
from culling.common.video import BUNDLED_CLIP, count_frames, frame_rate, read_frames

WINDOWS = 4
COLOURS = {"hard, at once": "#c0392b", "hard, when the window closed": "#e67e22", "audit": "#2980b9"}


@dataclass
class Seen:
    """What the student made of a clip: seconds, losses, and small grey pictures by which likeness is judged."""

    at: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)


def watch(video: Path, model: Path, step: int, scale: float) -> Seen:
    """Run the student in `model` over every `step`-th frame of `video`, at `scale` times its usual input."""
    detect, classes = open_model(model, scale)
    meter, rate, seen = LossMeter(POLICIES["paper"], len(classes)), frame_rate(video), Seen()
    for number, frame in read_frames(video, range(0, count_frames(video), step)):
        seen.at.append(number / rate)
        seen.losses.append(meter.loss(detect(frame)))
        seen.thumbnails.append(resize(frame, *THUMBNAIL)[..., 1])
    return seen


def choose(seen: Seen, budget: int, seed: int = 0) -> tuple[dict[str, list[int]], list[float]]:
    """Return the frames that leave, by reason, and the times at which windows closed."""
    window_s = (seen.at[-1] + seen.at[1]) / WINDOWS
    settings = SelectorSettings(frames_per_window=budget, window_s=window_s, spacing_s=1.0, bootstrap=0)
    selector = build_selector(settings, random.Random(seed))
    left: dict[str, list[int]] = {reason: [] for reason in COLOURS}
    waiting: dict[int, Held] = {}
    closed: list[float] = []

    def close(at: float, final: bool = False) -> None:
        if (released := selector.close_window(at, final)) is not None:
            places, settled = list(waiting), settle(released, list(waiting.values()))
            left["hard, when the window closed"].extend(places[place] for place in settled.hard)
            left["audit"].extend(places[place] for place in settled.audits)
            waiting.clear()
            closed.append(at)

    for index, (at, loss, thumbnail) in enumerate(zip(seen.at, seen.losses, seen.thumbnails, strict=True)):
        close(at)
        decision = selector.decide(loss, at, thumbnail)
        if decision.action is Action.HOLD and decision.draw is not None:
            waiting[index] = Held(loss, decision.reason, decision.draw.lot)
        elif decision.action is Action.FORWARD:
            left["hard, at once"].append(index)
    close(seen.at[-1], final=True)
    return left, closed


def draw(seen: Seen, left: dict[str, list[int]], closed: Sequence[float], title: str, out: Path) -> None:
    """Write the plot; its kind follows from the ending of `out`."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(seen.at, seen.losses, color="#7f8c8d", linewidth=1)
    for reason, frames in left.items():
        where = [seen.at[index] for index in frames], [seen.losses[index] for index in frames]
        axes.scatter(*where, s=26, color=COLOURS[reason], label=f"{reason} ({len(frames)})", zorder=3)
    for at in closed:
        axes.axvline(at, color="#bdc3c7", linestyle="--", linewidth=1)
    axes.set(xlabel="seconds", ylabel="confidence loss", title=title, ylim=(0, None), xlim=(0, None))
    axes.legend(loc="lower right", fontsize="small")
    with matplotlib.rc_context({"svg.hashsalt": "culling"}):
        figure.savefig(out, dpi=110, metadata={"Date": None} if out.suffix == ".svg" else None)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, and print what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, default=BUNDLED_CLIP, help="default: the bundled clip")
    parser.add_argument("--model", type=Path, default=BUNDLED / "student.safetensors", help="a student")
    parser.add_argument("--budget", type=int, default=8, help="frames that may leave in a window")
    parser.add_argument("--step", type=int, default=5, help="look at every so many-th frame")
    parser.add_argument("--scale", type=float, default=0.6, help="times the student's usual input")
    parser.add_argument("--out", type=Path, default=Path("confidence_loss.png"))
    told = parser.parse_args(argv)
    seen = watch(told.video, told.model, told.step, told.scale)
    left, closed = choose(seen, told.budget)
    draw(seen, left, closed, f"{told.video.name}: {told.budget} frames a window", told.out)
    sent = sum(map(len, left.values()))
    print(f"looked at {len(seen.at)} frames; {sent} would leave ({sent / len(seen.at):.0%}); wrote {told.out}")


if __name__ == "__main__":
    main()
