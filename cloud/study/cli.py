"""`culling study`: does culling work on this clip? The paper's tables and figure, and what the paper left open.

    culling study table1 --video yard.mp4 --labels yard.jsonl --n 32,64 --epochs 4 --scale 0.5 --out runs/study

table1    no training, culled sets, everything: precision, cost by stage, cost ratios
table2    ways to choose n frames, over seeds
picks     which of the n worst frames a first stage loses, by both policies, without training
fig4      precision, change of the loss, and milliseconds by scale
resolution which scale is chosen by labels and by the loss, and what it costs
updates   culled frames and all frames at equal numbers of steps
online    the streaming selector against the best of the same windows
selector  which ranking of frames finds those that the teacher would correct
forgetting what is left of the day after rounds by night, and of the night after rounds by day
pace      what it costs and brings to ask the teacher less while the student is right
live      the loop through a day as it goes by, beside no adaptation and other ways to choose and train
distil    labels alone, and the teacher's features beside them: precision, and seconds a step
profile   how much faster a profile that spares the student frames makes a camera, and what it loses
share     all weights trained, and a small share of them: precision, and bytes that travel to the edge
unseen    what is left of a class that the training frames lack
cascade   the teacher's answer on a share of frames, where the student is unsure or at random, and what it costs
recipes   the named options of a round beside each other: precision and the whole bill, against what was wanted
students  the families of students: precision, milliseconds and bytes, before and after training, in floats and 8 bits
day       trains nothing: it composes a day from a clip, which the others then take as their clip

Every result is stored in `OUT/cache` as it is computed, and shared by all studies: a killed study resumes, and one that
is run again trains nothing.
"""

from __future__ import annotations

import inspect
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from culling.cloud.study.day.command import day
from culling.common.config import LAST_SEED, parse_overrides
from culling.common.errors import SettingsError

if TYPE_CHECKING:
    from culling.cloud.study.basis.corpus import Corpus
    from culling.cloud.study.basis.results import Results

MOST_EPOCHS = 10_000.0
"""Far more than any frame is worth, and few enough to be counted in steps."""

OPTIONS = ("n", "epochs", "seed", "frames", "measured")
"""What a study may be asked for beside its material; it has only those that change what it finds."""

WIDE = 160
"""Columns of a table that goes to a file, so that no cell wraps."""

LIBRARIES = ("culling", "torch", "torchvision")


@dataclass(frozen=True)
class Study:
    """One subcommand: its line in the help, the folder of the module with its function, the defaults of its options,
    which of these it takes, and whether it wants a teacher with features and a student that can learn from them.
    """

    help: str
    room: Literal["studies", "options"] = "studies"
    counts: tuple[int, ...] = (128,)
    seeds: tuple[int, ...] = (0,)
    frames: int = 400
    takes: tuple[str, ...] = OPTIONS
    distils: bool = False


ROUNDS = ("n", "seed", "frames", "measured")
"""Of a study that says itself how long it trains."""

STUDIES = {
    "table1": Study("No training, culled sets, everything: precision and cost.", counts=(64, 128, 256)),
    "table2": Study("Ways to choose n frames, over seeds.", seeds=(0, 1, 2)),
    "picks": Study("Which of the n worst frames a first stage loses.", seeds=(0, 1, 2), takes=("n", "seed", "frames")),
    "fig4": Study("Precision, change of the loss, and milliseconds by scale."),
    "resolution": Study("Which scale is chosen by labels and by the loss, and what it costs."),
    "updates": Study(
        "Culled frames and all frames at equal numbers of steps.",
        seeds=(0, 1, 2),
        takes=ROUNDS,
    ),
    "online": Study("The streaming selector against the best of the same windows."),
    "selector": Study("Which ranking of frames finds those that the teacher would correct.", takes=("frames",)),
    "forgetting": Study("What is left of the day after rounds by night, and the other way.", frames=600, takes=ROUNDS),
    "pace": Study(
        "What a pace that follows the student's accuracy saves and costs.",
        "options",
        counts=(32,),
        takes=("n", "seed", "measured"),
    ),
    "live": Study("The loop through a day, beside no adaptation and other ways.", counts=(128,), takes=ROUNDS),
    "distil": Study(
        "Labels alone, and the teacher's features beside them.", "options", counts=(64,), seeds=(0, 1), distils=True
    ),
    "profile": Study("What it saves and loses to look at fewer frames.", "options", frames=100, takes=("frames",)),
    "share": Study("A small share of the weights trained: precision, and bytes down.", "options", counts=(64,)),
    "unseen": Study("What is left of a class that the training frames lack.", counts=(32,), seeds=(0, 1, 2)),
    "cascade": Study(
        "The teacher's answers where the student is unsure, by share.", "options", counts=(32,), seeds=(0, 1, 2)
    ),
    "recipes": Study("Named options beside each other: precision and bill.", "options", counts=(64,), seeds=(0, 1, 2)),
    "students": Study("The families of students: precision, time and bytes, also in 8 bits.", counts=(64,)),
}

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Ask whether culling works on a clip.")


@dataclass(frozen=True)
class Asked:
    """A command line, defaults filled in."""

    study: str
    video: Path
    labels: Path
    out: Path
    counts: tuple[int, ...]
    epochs: float
    scale: float
    seeds: tuple[int, ...]
    frames: int
    measured: int
    override: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command line that repeats the study, with the default of every option that it takes spelled out."""
        options = {"n": ",".join(map(str, self.counts)), "epochs": f"{self.epochs:g}"}
        options |= {"frames": str(self.frames), "measured": str(self.measured)}
        given = [(name, text) for name, text in options.items()] + [("seed", str(seed)) for seed in self.seeds]
        taken = [(f"--{name}", text) for name, text in given if name in STUDIES[self.study].takes]
        pairs = [("--video", self.video), ("--labels", self.labels), ("--scale", f"{self.scale:g}"), *taken]
        pairs += [*(("--set", text) for text in self.override), ("--out", self.out)]
        return shlex.join(["culling", "study", self.study, *(str(part) for pair in pairs for part in pair)])


def run(asked: Asked, console: Console) -> None:
    """Run a study, or what is left of it, and write its results."""
    from culling.cloud.round.distil.distil import open_tutor
    from culling.cloud.settings import load_settings
    from culling.cloud.store.folders import alone, make_folder
    from culling.cloud.study.basis.corpus import Corpus
    from culling.cloud.study.basis.results import write_results
    from culling.common import logs
    from culling.common.progress import say

    logs.setup("warning")
    started = time.monotonic()
    overrides = parse_overrides(asked.override) | {"service.data_dir": asked.out / "cache"}
    settings, study = load_settings(None, overrides), STUDIES[asked.study]
    if study.distils:
        open_tutor(settings, settings.default_classes)  # a pair that cannot is refused before hours of training
    make_folder(asked.out)
    with alone(settings.data_dir / "study.lock", say):
        corpus = Corpus(asked.video, asked.labels, asked.frames, asked.measured, asked.scale, settings, asked.epochs)
        for n in asked.counts:
            if n > len(corpus) and {"n", "frames"} <= {*study.takes}:
                raise SettingsError(
                    f"--n {n}: there are {len(corpus)} frames to learn from; lower it, or raise --frames"
                )
        found = study_function(asked.study)(corpus, asked.counts, asked.seeds)
        told = {"study": asked.study, "command": asked.command, **corpus.facts(), **_machine()}
        told["wall_s"] = round(time.monotonic() - started, 1)
        name = f"{asked.video.stem}-{asked.study}"
        for path in write_results(found, name, told, asked.out, console):
            console.print(f"wrote {path}")


def study_function(name: str) -> Callable[[Corpus, Sequence[int], Sequence[int]], Results]:
    """Return the function of a study; importing it imports torch, so that is left to the last moment."""
    return getattr(import_module(f"culling.cloud.study.{STUDIES[name].room}.{name}"), name)  # type: ignore[no-any-return]


def _machine() -> dict[str, Any]:
    import onnxruntime
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.cpu.get_capabilities().get("cpu_name")
    return {
        "device": device or "unknown",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in LIBRARIES} | {"onnxruntime": onnxruntime.__version__},
    }


def _counts(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise SettingsError(f"--n {text}: expected numbers of frames, e.g. 64,128,256")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _command(name: str, study: Study) -> Callable[..., None]:
    default = ",".join(map(str, study.counts))

    def command(
        video: Annotated[Path, typer.Option(help="clip of a fixed camera")],
        labels: Annotated[Path, typer.Option(help="label file of the clip, one JSON object a line")],
        out: Annotated[Path, typer.Option(help="folder for tables, plots, and the cache (OUT/cache)")],
        n: Annotated[str, typer.Option(help="frames to keep, separated by commas")] = default,
        epochs: Annotated[
            float,
            typer.Option(min=0.01, max=MOST_EPOCHS, help="how often to train on each kept frame"),
        ] = 10.0,
        scale: Annotated[float, typer.Option(min=0.1, max=4, help="multiplies the student's usual input size")] = 1.0,
        seed: Annotated[
            list[int], typer.Option(min=0, max=LAST_SEED, help="seed of training and drawing; repeatable")
        ] = list(study.seeds),  # noqa: B006
        frames: Annotated[int, typer.Option(min=1, help="frames to learn from, evenly spaced")] = study.frames,
        measured: Annotated[int, typer.Option(min=1, help="frames to measure on, evenly spaced")] = 60,
        override: Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="KEY=VALUE",
                help="override a setting, e.g. teacher.short_side=384; `culling settings cloud` lists them; repeatable",
            ),
        ] = None,
    ) -> None:
        chosen = tuple(dict.fromkeys(seed)), frames, measured, tuple(override or ())
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDE)
        run(Asked(name, video, labels, out, _counts(n), epochs, scale, *chosen), console)

    signature = inspect.signature(command, eval_str=True)
    taken = [one for one in signature.parameters.values() if one.name not in {*OPTIONS} - {*study.takes}]
    vars(command)["__signature__"] = signature.replace(parameters=taken)  # typer offers what stands there
    return command


EXAMPLE = "Example: culling study"
MATERIAL = "--video clip.mp4 --labels labels.jsonl --out study"

for _name, _study in STUDIES.items():
    app.command(_name, help=_study.help, epilog=f"{EXAMPLE} {_name} {MATERIAL}")(_command(_name, _study))

app.command("day", epilog=f"{EXAMPLE} day --video clip.mp4 --labels labels.jsonl --seed 1 --out day")(day)
