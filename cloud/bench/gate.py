"""The gate, put to the test: how often it publishes what it should, and what it should not.

    culling bench gate --json
    culling bench gate --video yard.mp4 --labels yard.jsonl --record yard.json
    culling bench gate north-door --config cloud.toml

Students are real, and so is what they find: the bundled one at several input sizes, on frames of a clip that the
teacher labels, or a file. What each did is recorded frame by frame (`--record` keeps it; labelling is what takes
time). A trial draws blocks of neighbouring frames with replacement, and gives each frame to one of two students by the
toss of a coin: of a fair one, candidate and incumbent are equal; of a biased one, the candidate is better by as much as
is asked for, which is measured over many draws and not assumed. Half of the blocks count as day, half as night.

The toss adds to how much a gain varies from draw to draw; `deviation` tells it beside that of the same pair as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

from culling.cloud.bench.material import Video
from culling.cloud.bench.recording import Recording, kept, of_camera, of_clip
from culling.cloud.evaluation.comparison import Judged, Rules, StudentComparison, compare_students
from culling.cloud.evaluation.verdict import decide
from culling.cloud.operate import ConfigFile, Overrides, settings_of
from culling.cloud.settings import GateSettings
from culling.cloud.weights.classes import CLASSES
from culling.common.config import LAST_SEED
from culling.common.errors import InputError
from culling.common.progress import shown
from culling.common.video import BUNDLED_CLIP

BLOCK = 4
"""Judges of a block: forty frames an hour leave three or four in the five minutes of one."""

CALIBRATION = 200
"""Draws over which a candidate's gain is measured, known then to about .002."""

DAY, NIGHT = 12, 0
TARGETS = {"equal": 0.05, "better": 0.8, "night": 0.05}


@dataclass(frozen=True)
class Scenario:
    """By how much AP50 the candidate is better by day and by night."""

    name: str
    day: float
    night: float


SCENARIOS = (Scenario("equal", 0.0, 0.0), Scenario("better", 0.05, 0.05), Scenario("night", 0.05, -0.1))


def gate_command(
    video: Video = BUNDLED_CLIP,
    labels: Annotated[Path | None, typer.Option(help="label file of the clip; without one the teacher labels")] = None,
    camera: Annotated[
        str | None, typer.Argument(help="a camera of a service, by its held-out frames; default: a clip's")
    ] = None,
    config: ConfigFile = None,
    override: Overrides = None,
    record: Annotated[Path | None, typer.Option(help="where the matches are kept, and read from if there")] = None,
    frames: Annotated[
        int, typer.Option(min=40, help="frames that are matched: of the clip, or held out, the newest")
    ] = 80,
    judges: Annotated[int, typer.Option(min=8, help="frames that judge in a trial")] = 64,
    trials: Annotated[int, typer.Option(min=1, help="trials of each kind")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="seed of the draws")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """How often the gate publishes equal students, better ones, and ones that are worse by night."""
    if camera is None:
        settings, made = GateSettings(), kept(record, lambda: of_clip(video, labels, frames))
    else:
        service = settings_of(config, override)
        settings, made = service.gate, kept(record, lambda: of_camera(service, camera, frames))
    found = run(made, settings, judges, trials, seed)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for name, one in found.items():
        sense = "at least" if name == "better" else "at most"
        gain = ", ".join(f"{part} {value:+.3f}" for part, value in one["gain"].items())
        typer.echo(
            f"{name:7} published {one['published']:.3f} of {one['trials']} (wanted {sense} {TARGETS[name]:g}); "
            f"true gain {gain}, deviation {one['deviation']:.3f}; {one['students']}, which differ by "
            f"{one['real']['gain']:+.3f} with a deviation of {one['real']['deviation']:.3f}"
        )


def run(recording: Recording, settings: GateSettings, judges: int, trials: int, seed: int) -> dict[str, Any]:
    """Return for each scenario the share `published`, and what it was measured with."""
    pool = _Pool(recording, np.random.default_rng(seed))
    found: dict[str, Any] = {}
    pairs = [pool.calibrate(scenario, judges) for scenario in SCENARIOS]  # first: an hour of trials must not be lost
    with shown("gate", "trial", trials * len(SCENARIOS)) as show:
        for place, scenario in enumerate(SCENARIOS):
            pair, biases = pairs[place]
            published, gains = 0, []
            for trial in range(trials):
                compared = _compared(pool.draw(pair, biases, judges), settings, trial)
                gains.append(compared.gain if compared else 0.0)
                published += compared is not None and _is_published(compared, settings, judges)
                show(place * trials + trial + 1, "")
            found[scenario.name] = {
                "published": round(published / trials, 4),
                "gain": {part: round(mean(pool.gains(pair, bias, judges)), 4) for part, bias in biases.items()},
                "deviation": round(pstdev(gains), 4),
                "real": _real(pool, pair, judges),
                "trials": trials,
                "judges": judges,
                "students": " and ".join(recording.students[one] for one in pair),
                "source": recording.source,
                "seed": seed,
            }
    return found


def _compared(frames: Sequence[Judged], settings: GateSettings, seed: int) -> StudentComparison | None:
    return compare_students(frames, Rules(tuple(range(len(CLASSES))), settings.worse, settings.certainty, seed=seed))


def _is_published(found: StudentComparison, settings: GateSettings, judges: int) -> bool:
    return decide(found, settings.margin, judges, False, CLASSES).outcome == "published"


def _real(pool: _Pool, pair: tuple[int, int], judges: int) -> dict[str, float]:
    """Return gain and deviation of the pair as it is, nothing tossed: tossed pairs should not differ much more."""
    gains = pool.gains(pair, 1.0, judges)
    return {"gain": round(mean(gains), 4), "deviation": round(pstdev(gains), 4)}


class _Pool:
    """Frames to draw from, with what every student did on them."""

    def __init__(self, recording: Recording, rng: np.random.Generator) -> None:
        self._tallies = recording.tallies()
        self._rng = rng
        count = len(recording.students)
        sides = [(better, worse) for better in range(count) for worse in range(better + 1, count)]
        gaps = {pair: self._gap(*pair) for pair in sides}
        self._gaps = {pair if gap > 0 else pair[::-1]: abs(gap) for pair, gap in gaps.items()}

    def calibrate(self, scenario: Scenario, judges: int) -> tuple[tuple[int, int], dict[str, float]]:
        """Return the pair of students that differ least but enough, and how often the candidate is the better one.

        Raises InputError when no two differ enough.
        """
        wanted = {"day": scenario.day, "night": scenario.night}
        for pair, _ in sorted(self._gaps.items(), key=lambda item: item[1]):
            most = mean(self.gains(pair, 1.0, judges))
            if most >= max(abs(gain) for gain in wanted.values()) and most > 0.02:
                return pair, {part: self._bias(pair, gain, judges) for part, gain in wanted.items()}
        raise InputError(f"no two students differ by what {scenario.name} needs: record another clip")

    def draw(self, pair: tuple[int, int], biases: Mapping[str, float], judges: int) -> list[Judged]:
        """Return frames that judge: blocks of neighbours, alternately of the day and of the night."""
        found = []
        for block in range(-(-judges // BLOCK)):
            hour = (DAY, NIGHT)[block % 2]
            start = int(self._rng.integers(0, len(self._tallies) - BLOCK + 1))
            for place in range(start, start + BLOCK):
                swapped = self._rng.random() >= biases["day" if hour == DAY else "night"]
                after, before = pair[::-1] if swapped else pair
                row, name = self._tallies[place], f"{block:04d}-{place:05d}"
                found.append(Judged(name, block, hour, 1.0, row[before], row[after]))
        return found[:judges]

    def gains(self, pair: tuple[int, int], bias: float, judges: int) -> list[float]:
        """Return gains of a candidate that is the better student as often as `bias` says."""
        state = self._rng.bit_generator.state
        self._rng = np.random.default_rng(1)  # the same draws for every bias, so that the gain rises with it
        draws = [self.draw(pair, {"day": bias, "night": bias}, judges) for _ in range(CALIBRATION)]
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = state
        return [_gain(frames) for frames in draws]

    def _bias(self, pair: tuple[int, int], wanted: float, judges: int) -> float:
        low, high = 0.0, 1.0
        if wanted == 0.0:
            return 0.5
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (middle, high) if mean(self.gains(pair, middle, judges)) < wanted else (low, middle)
        return (low + high) / 2

    def _gap(self, better: int, worse: int) -> float:
        row = [Judged(f"{at:05d}", at, 0, 1.0, one[worse], one[better]) for at, one in enumerate(self._tallies)]
        return _gain(row)


def _gain(frames: Sequence[Judged]) -> float:
    found = compare_students(frames, Rules(tuple(range(len(CLASSES))), resamples=0, certainty=0.5))
    return 0.0 if found is None else found.gain
