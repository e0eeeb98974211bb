"""The command `culling`: a table of commands, each loaded only when it is asked for.

`culling --help` therefore imports neither torch nor onnxruntime, and a command whose extra is not installed says so.
Whatever goes wrong on purpose is one line on stderr and a documented exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from culling.common import config, logs
from culling.common.errors import CullingError, MissingExtraError, SettingsError


@dataclass(frozen=True)
class Command:
    """Where a command's `typer.Typer` lives, its line in the help, and the extra it needs; or the commands below it."""

    module: str
    attribute: str
    help: str
    extra: str
    below: Mapping[str, Command] = field(default_factory=dict)


MEMORY: dict[str, Command] = {
    "edge": Command("culling.edge.bench.cli", "memory_app", "What each further camera costs an agent.", "edge"),
    "cloud": Command(
        "culling.cloud.bench.cli", "memory_app", "What a hundred further edges cost the service.", "cloud"
    ),
}

BENCHES: dict[str, Command] = {
    "edge": Command("culling.edge.bench.cli", "edge_app", "The agent's frames/s, against the bare model's.", "edge"),
    "student": Command(
        "culling.cloud.bench.cli", "student_app", "The student, against torchvision's own export.", "cloud"
    ),
    "overhead": Command(
        "culling.edge.bench.cli", "overhead_app", "Choosing and keeping frames, against inferring.", "edge"
    ),
    "ingest": Command(
        "culling.cloud.bench.cli", "ingest_app", "Durable frames/s, against raw socket and disk.", "cloud"
    ),
    "swap": Command("culling.edge.bench.cli", "swap_app", "A camera while models are swapped, against rest.", "edge"),
    "teacher": Command(
        "culling.cloud.bench.cli", "teacher_app", "Labelling, against the teacher's bare forward.", "cloud"
    ),
    "train": Command("culling.cloud.bench.cli", "train_app", "Training, against a bare forward and backward.", "cloud"),
    "memory": Command("", "", "What a camera costs an agent, and an edge the service.", "", MEMORY),
}

COMMANDS: dict[str, Command] = {
    "edge": Command("culling.edge.cli", "app", "Run the agent beside the cameras.", "edge"),
    "cloud": Command("culling.cloud.cli", "app", "Run the service that labels, culls, trains and publishes.", "cloud"),
    "demo": Command("culling.cloud.demo.cli", "app", "Play a video through the whole loop on this machine.", "cloud"),
    "study": Command("culling.cloud.study.cli", "app", "Ask whether culling works on a clip.", "cloud"),
    "watch": Command("culling.cloud.page.watch", "app", "Watch every camera in a terminal.", "cloud"),
    "evaluate": Command("culling.cloud.commands", "evaluate_app", "Measure a model on a labelled video.", "cloud"),
    "export": Command("culling.cloud.commands", "export_app", "Turn student weights into ONNX.", "cloud"),
    "pretrain": Command("culling.cloud.commands", "pretrain_app", "Train the bundled student and teacher.", "cloud"),
    "bench": Command("", "", "Measure how close each part runs to its limit.", "", BENCHES),
}

EXIT_CODES = (
    "0 done",
    "1 another error",
    "2 wrong setting or flag",
    "3 unusable file or label",
    "4 camera or video cannot be read",
    "5 model or manifest refused",
    "6 peer refused",
    "7 storage cannot be read or written",
    "8 training stopped",
    "9 extra not installed",
    "130 interrupted",
)


class Side(StrEnum):
    EDGE = "edge"
    CLOUD = "cloud"


class Root(TyperGroup):
    """Puts a command of the table in place of its stub at the moment it is called."""

    table: Mapping[str, Command] = COMMANDS

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if (command := self.table.get(args[0])) is not None:
            loaded = getattr(import_module(command.module), command.attribute) if command.module else _group(command)
            self.commands[args[0]] = typer.main.get_command(loaded)
        return super().resolve_command(ctx, args)


def _group(command: Command) -> typer.Typer:
    """Return the commands below one, each as a stub."""
    kind = type("Group", (Root,), {"table": command.below})
    group = typer.Typer(cls=kind, help=command.help, no_args_is_help=True, pretty_exceptions_enable=False)
    for name, below in command.below.items():
        group.command(name, help=below.help)(_stub())
    return group


app = typer.Typer(
    cls=Root,
    help="Keep only the frames worth training on: fit a small detector to each fixed camera.",
    epilog="Exit codes: " + " · ".join(EXIT_CODES),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `culling` and return its exit code; `argv` defaults to the process's own arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logs.setup("warning")
    try:
        code = typer.main.get_command(app)(arguments, prog_name="culling", standalone_mode=False)
    except CullingError as error:
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        missing = _missing_extra(error, arguments)
        if missing is None:
            raise
        return _fail(str(missing), missing.exit_code)
    except typer.TyperException as error:
        return _usage(error)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(logs.redact(f"culling: {' '.join(message.split())}"), file=sys.stderr)
    return code


def _usage(error: typer.TyperException) -> int:
    """A wrong flag or command; typer has printed the help already where it has no message."""
    message = error.format_message()
    return _fail(f"{message} (see --help)", SettingsError.exit_code) if message else SettingsError.exit_code


def _missing_extra(error: ModuleNotFoundError, arguments: Sequence[str]) -> MissingExtraError | None:
    """None when the missing module is one of ours: that is a fault in the code, not in the installation."""
    names, extra = _called(arguments)
    if not extra or error.name is None or error.name.split(".")[0] == "culling":
        return None
    return MissingExtraError(f"`culling {names}` needs {error.name}; install it with: pip install 'culling[{extra}]'")


def _called(arguments: Sequence[str]) -> tuple[str, str]:
    """Return the command that `arguments` call, e.g. "bench memory edge", and its extra; "" where there is none."""
    table: Mapping[str, Command] = COMMANDS
    names, extra = [], ""
    for argument in arguments:
        if (command := table.get(argument)) is not None:
            names.append(argument)
            table, extra = command.below, command.extra
    return " ".join(names), extra


def _print_version(asked: bool) -> None:
    if asked:
        print(f"culling {version('culling')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _stub() -> Callable[[], None]:
    return lambda: None


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.help)(_stub())


@app.command()
def print_config(
    side: Annotated[Side, typer.Argument(help="Whose settings.")],
    file: Annotated[Path | None, typer.Option("--config", help="TOML file to read.", show_default="none")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Override one setting, e.g. --set metrics.port=0; repeatable.")
    ] = None,
) -> None:
    """Print every setting in force, as TOML, with secrets hidden."""
    settings = getattr(import_module(f"culling.{side}.settings"), f"{side.capitalize()}Settings")
    print(config.print_config(config.load(settings, file, config.parse_overrides(override))), end="")


if __name__ == "__main__":
    sys.exit(main())
