"""The command `culling`: tables of commands that each side registers, each command loaded only when it is called.

`culling --help` therefore imports neither torch nor onnxruntime, and a command whose extra is not installed says so.
Whatever goes wrong on purpose is one line on stderr and a documented exit code.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from culling.common import logs
from culling.common.errors import CullingError, MissingExtraError, SettingsError
from culling.common.process import console
from culling.common.settings import command

COMMAND_TABLES = "culling.commands"
"""Entry points of this group name a `Mapping[str, Command]`; any installed package may add commands by one."""

GROUPS = {
    "bench": "Measure how close each part runs to its limit.",
    "teacher": "Choose who labels.",
    "bench memory": "What a camera costs an agent, and an edge the service.",
}
"""Help of the words that only lead to commands below them."""


@dataclass(frozen=True)
class Command:
    """One command: the `module:attribute` of its `typer.Typer`, its line in the help, and the extra it needs.

    A table maps the words that call it to it, e.g. "bench memory edge".
    """

    target: str
    help: str
    extra: str

    def load(self) -> typer.Typer:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        with _ended_by_sigint():
            return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


@contextmanager
def _ended_by_sigint() -> Iterator[None]:
    """Let SIGINT end the process as SIGTERM does, while a command is imported, which takes seconds.

    A KeyboardInterrupt that happens to be raised in a callback of an import is printed, and the command would go on.
    """
    usual = signal.default_int_handler
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is usual
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, usual)


@cache
def commands() -> dict[str, Command]:
    """Return every installed command by its words. Raises CullingError when a package's table cannot be loaded."""
    found: dict[str, Command] = {}
    for entry in entry_points(group=COMMAND_TABLES):
        try:
            table: Mapping[str, Command] = entry.load()
        except (ImportError, AttributeError) as error:
            raise CullingError(f"commands of {entry.value} cannot be loaded: {error}; repair or remove it") from error
        if twice := found.keys() & table.keys():
            raise CullingError(f"{entry.value} adds `culling {min(twice)}`, which exists already; remove one of them")
        found |= table
    return found


EXIT_CODES = (
    "0 done",
    "1 another error",
    "2 wrong setting or flag",
    "3 unusable file, label or name",
    "4 camera or video cannot be read",
    "5 model or manifest refused",
    "6 peer refused",
    "7 storage cannot be read or written",
    "8 training stopped",
    "9 extra not installed",
    "130 interrupted",
)


class Lazy(TyperGroup):
    """A group whose commands are stubs; the one that is called is loaded at that moment."""

    prefix = ""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        words = f"{self.prefix}{args[0]}"
        if words in GROUPS:
            self.commands[args[0]] = typer.main.get_command(_group(words))
        elif (command := commands().get(words)) is not None:
            self.commands[args[0]] = typer.main.get_command(command.load())
        return super().resolve_command(ctx, args)


def _group(words: str) -> typer.Typer:
    """Return the group that `words` leads to, with a stub for everything one word below."""
    prefix = f"{words} " if words else ""
    kind = type("Group", (Lazy,), {"prefix": prefix})
    if words:
        group = typer.Typer(cls=kind, help=GROUPS[words], no_args_is_help=True, pretty_exceptions_enable=False)
        group.callback()(_stub())  # without it, typer would take a group of one command for that command
    else:
        group = typer.Typer(
            cls=kind,
            help="Keep only the frames worth training on: fit a small detector to each fixed camera.",
            epilog="Exit codes: " + " · ".join(EXIT_CODES),
            no_args_is_help=True,
            pretty_exceptions_enable=False,
        )
    below = GROUPS | {name: command.help for name, command in commands().items()}
    for name in sorted(below):
        word = name.removeprefix(prefix)
        if name.startswith(prefix) and word and " " not in word:
            group.command(word, help=below[name])(_stub())
    return group


def root() -> typer.Typer:
    """Return `culling` itself, with every installed command."""
    app = _group("")
    app.callback()(_version_option)
    command.add_commands(app)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run `culling` and return its exit code; `argv` defaults to the process's own arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console.degrade()
    logs.setup("warning")
    try:
        code = typer.main.get_command(root())(arguments, prog_name="culling", standalone_mode=False)
    except CullingError as error:
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        missing = _missing_extra(error, arguments)
        if missing is None:
            raise
        return _fail(str(missing), missing.exit_code)
    except UnicodeEncodeError as error:  # consoles take every text: it is the name of a file
        return _fail(_no_name(error), SettingsError.exit_code)
    except typer.TyperException as error:
        return _usage(error)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(logs.redact(f"culling: {' '.join(message.split())}"), file=sys.stderr)
    return code


def _no_name(error: UnicodeEncodeError) -> str:
    return f"this locale has no way to name {error.object!a} ({error.encoding}): set LC_ALL=C.UTF-8, or rename it"


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
    known = commands()
    for count in range(len(arguments), 0, -1):
        if (command := known.get(words := " ".join(arguments[:count]))) is not None:
            return words, command.extra
    return "", ""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"culling {version('culling')}")
        raise typer.Exit


def _version_option(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _stub() -> Callable[[], None]:
    return lambda: None


if __name__ == "__main__":
    sys.exit(main())
