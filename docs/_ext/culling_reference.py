"""The reference pages, written from the code when the documentation is built, so that they cannot go stale.

A page holds a directive `{culling} PART`; `render(PART)` returns the Markdown that takes its place:

    settings edge, settings cloud   every key: type, default, meaning       culling.SIDE.settings
    commands                        the whole tree of `culling --help`      culling.common.cli
    metrics                         every series on /metrics                culling.common.metrics
    messages                        what edge and cloud say to each other   culling.common.wire
    exit-codes                      codes, and the errors that end in them  culling.common.errors
    log-events                      what is logged, with which fields       the sources, which are parsed, not run

What a setting means stands in its `Field(description=…)`, which `culling settings SIDE` prints too. A key with no
meaning ends the build.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import msgspec
import typer

from culling.common import cli, errors, metrics
from culling.common.config import Settings
from culling.common.settings.keys import Key, heading, keys, sections
from culling.common.wire import manifest, messages, versions

ROOT = Path(__file__).parents[2]
LEVELS = ("debug", "info", "warning", "error", "exception")


def render(what: str) -> str:
    """Return a part of the reference as Markdown. Raises `KeyError` for a part that there is not."""
    name, _, argument = what.partition(" ")
    return PARTS[name](argument) if argument else PARTS[name]()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


# Settings


def settings(side: str) -> str:
    """Return every section of one side's settings, each with a table of its keys."""
    return "\n".join(_section(name, side) for name in sections(settings_model(side)))


def settings_model(side: str) -> type[Settings]:
    """Return the class that holds all settings of a side."""
    module = import_module(f"culling.{side}.settings")
    found = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, Settings)]
    return next(one for one in found if one.__module__.startswith(module.__name__))


def setting_keys(side: str) -> dict[str, Key]:
    """Return every key of a side by its dotted name, e.g. `selector.window_s`."""
    return {key.dotted: key for key in keys(settings_model(side))}


def _section(name: str, side: str) -> str:
    model = settings_model(side)
    rows = [
        (f"`{key.name}`", key.type, key.default, key.meaning) for key in setting_keys(side).values() if key.top == name
    ]
    prose = re.sub(r"^`\[+[\w.]+\]+`: (.)", lambda found: found[1].upper(), _prose(sections(model)[name]))
    return f"## `{heading(model, name)}`\n\n{prose}\n\n{table(('key', 'type', 'default', 'meaning'), rows)}"


# Commands


def commands() -> str:
    """Return every command with its usage, arguments and options."""
    return "\n".join(_command(context) for context in command_tree(root()))


def root() -> typer.Context:
    """Return `culling` itself, all commands below it."""
    return typer.Context(typer.main.get_command(cli.root()), info_name="culling")


def command_tree(context: typer.Context) -> Iterator[typer.Context]:
    """Yield a command and all those below it, each as a context that knows its whole name."""
    yield context
    command: Any = context.command
    if not hasattr(command, "list_commands"):
        return
    for name in command.list_commands(context):
        _, below, _ = command.resolve_command(context, [name])
        yield from command_tree(typer.Context(below, info_name=name, parent=context))


def _command(context: typer.Context) -> str:
    command: Any = context.command
    found = [record for one in command.params if (record := one.get_help_record(context)) is not None]
    rows = [record for record in found if context.parent is None or not record[0].endswith("-completion")]
    usage = f"```text\n{command.get_usage(context)}\n```"
    parts = [f"## `{context.command_path}`", _prose_of(command.help or ""), usage]
    if (example := (command.epilog or "").removeprefix("Example: ")) != (command.epilog or ""):
        parts.append(f"For example:\n\n```sh\n{example}\n```")
    if rows:
        parts.append(table(("argument or option", "meaning"), [(f"`{name}`", _plain(text)) for name, text in rows]))
    if hasattr(command, "list_commands"):
        names = command.list_commands(context)
        parts.append("Commands below it: " + ", ".join(f"`{name}`" for name in names) + ".")
    return "\n\n".join(parts) + "\n"


# Metrics, exit codes


def series() -> str:
    """Return the table of all series."""
    return metrics.markdown()


def exit_codes() -> str:
    """Return the exit codes, with the errors that end in each."""
    by_code: dict[int, list[type[errors.CullingError]]] = defaultdict(list)
    for error in vars(errors).values():
        if inspect.isclass(error) and issubclass(error, errors.CullingError):
            by_code[error.exit_code].append(error)
    rows = []
    for line in cli.EXIT_CODES:
        code, _, meaning = line.partition(" ")
        rows.append((f"`{code}`", meaning, ", ".join(f"`{error.__name__}`" for error in by_code.pop(int(code), []))))
    if by_code:
        raise ValueError(f"culling.common.cli.EXIT_CODES says nothing of {sorted(by_code)}")
    return table(("code", "meaning", "error in the code"), rows)


# Messages


def wire() -> str:
    """Return every message by direction, then the types of their fields and the limits on bytes."""
    from_edge, from_cloud = get_args(messages.FromEdge), get_args(messages.FromCloud)
    others = [kind for kind in (*_structs(messages), *_structs(versions)) if kind not in (*from_edge, *from_cloud)]
    parts = []
    for title, kinds in (("Edge to cloud", from_edge), ("Cloud to edge", from_cloud), ("Parts of messages", others)):
        parts += [f"## {title}\n", *(_struct(kind) for kind in kinds)]
    parts += ["## The manifest of a model\n", *(_struct(kind) for kind in _structs(manifest))]
    parts += ["## Types of fields\n", _aliases(), "## Limits\n", _limits()]
    return "\n".join(parts)


def _structs(module: Any) -> list[type[msgspec.Struct]]:
    found = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, msgspec.Struct)]
    return [one for one in found if one.__module__ == module.__name__ and not one.__name__.startswith("_")]


def _struct(kind: type[msgspec.Struct]) -> str:
    rows = []
    for field in msgspec.structs.fields(kind):
        default = "required" if field.required else f"`{_value(field)}`"
        rows.append((f"`{field.name}`", f"`{_annotation(kind, field.name)}`", default))
    body = table(("field", "type", "default"), rows) if rows else ""
    return f"### `{kind.__name__}`\n\n{_prose(kind)}\n\n{body}"


def _annotation(kind: type, name: str) -> str:
    text = next(str(told[name]) for one in kind.__mro__ if name in (told := inspect.get_annotations(one)))
    return re.sub(r"Annotated\[(.+?), Meta\((.+)\)\]", r"\1, \2", text)


def _value(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default if field.default != "" else '""'
    return field.default_factory()


def _aliases() -> str:
    """Return the named types as the source writes them: at run time their names are gone."""
    rows = []
    for node in ast.parse(inspect.getsource(messages)).body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[base, ast.Call() as meta])),
            ):
                within = ", ".join(f"{one.arg} `{ast.unparse(one.value)}`" for one in meta.keywords)
                rows.append((f"`{name}`", f"`{ast.unparse(base)}`", within))
    return table(("type", "is", "within"), rows)


def _limits() -> str:
    found = [(name, value) for name, value in vars(messages).items() if name.startswith("MAX_")]
    return table(("limit", "value"), [(f"`{name}`", f"{value:,}") for name, value in found])


# Log events


def log_events() -> str:
    """Return every log event with its level and fields, and the files that log it."""
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in sorted(path for side in ("common", "edge", "cloud") for path in (ROOT / side).rglob("*.py")):
        for event, level, fields in _logged(ast.parse(path.read_text())):
            told, files = found[event, level]
            told.update(fields)
            files.add(str(path.relative_to(ROOT)))
    rows = [
        (f"`{event}`", level, _listed(told) or "-", _listed(files))
        for (event, level), (told, files) in sorted(found.items())
    ]
    return table(("event", "level", "fields", "logged in"), rows)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))


def _logged(tree: ast.AST) -> Iterator[tuple[str, str, list[str]]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                args=[ast.Constant(value=str(event)), *_],
                keywords=keywords,
            ) if level in LEVELS:
                yield event, level, [one.arg for one in keywords if one.arg]


# Text


def _prose(documented: type) -> str:
    return _prose_of(inspect.getdoc(documented) or "")


def _prose_of(text: str) -> str:
    return _plain(inspect.cleandoc(text))


def _plain(text: str) -> str:
    """Return text as Markdown takes it literally where it is not code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\[\]<>*_])", r"\\\1", part) for part in parts)


PARTS: dict[str, Callable[..., str]] = {
    "settings": settings,
    "commands": commands,
    "metrics": series,
    "messages": wire,
    "exit-codes": exit_codes,
    "log-events": log_events,
}


def setup(app: Any) -> dict[str, Any]:
    """Let Sphinx know the directive `culling`: a part of the reference, parsed where it stands."""
    from sphinx.util.docutils import SphinxDirective

    class Reference(SphinxDirective):
        required_arguments = 1
        final_argument_whitespace = True

        def run(self) -> list[Any]:
            return list(self.parse_text_to_nodes(render(self.arguments[0]), allow_section_headings=True))

    app.add_directive("culling", Reference)
    return {"version": "1", "parallel_read_safe": True}
