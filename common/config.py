"""Settings: a TOML file, overridden by `CULLING_*` variables, overridden by flags.

`CULLING_AGENT__STATE_DIR` is the key `state_dir` of the section `[agent]`; a list such as `[[camera]]` is JSON.
A relative path in a file is relative to that file's folder, so that the folder can be moved; one in a variable or flag
is relative to the working directory.
A `Settings` class reads nothing by itself, so that a test's environment never leaks into it: `load` reads, merges and
checks, and reports every mistake in one line that names the key.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import pydantic_settings
import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from culling.common.errors import SettingsError
from culling.common.logs import redact
from culling.common.settings.keys import nearest, section_of

PREFIX = "CULLING_"

LAST_SEED = 2**32 - 1
"""The largest seed of a setting or an option: numpy takes none below 0, and torch none of more than 64 bits, where a
thousand times as much, and what is added to it, has to find room."""

SECTIONS = {
    "edge": {
        *("agent", "camera", "cloud", "confidence", "difference", "metrics", "output", "selector", "spool", "student"),
        *("cascade", "traces", "view"),
    },
    "cloud": {
        *(
            "classes",
            "executor",
            "gate",
            "labelling",
            "metrics",
            "pace",
            "page",
            "profile",
            "publish",
            "resolution",
            "round",
            "schedule",
            "service",
            "store",
        ),
        *("access", "sites", "student", "teacher", "traces", "waves"),
    },
}
"""The sections of both sides: a variable of the other side is ignored, one of neither is refused as a typo."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""The form of the names that people give to cameras, zones and outputs."""
MAX_BYTES = 1 << 20
"""A longer settings file is refused without being parsed; 1 MiB holds thousands of cameras."""

S = TypeVar("S", bound="Settings")


class FileOrUrl:
    """Marks a text as a path like any other, unless it is a URL: `Annotated[str, FileOrUrl()]`."""


class Section(BaseModel):
    """One `[section]` of a settings file: frozen, and no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Settings(BaseSettings):
    """A whole settings file; its fields are `Section`s, or lists of them.

    `side` is the word by which `culling settings` lists them, `searched` where a file is looked for that none names.
    """

    side: ClassVar[str] = ""
    searched: ClassVar[tuple[Path, ...]] = ()

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, validate_default=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def settings_file(model: type[Settings], given: Path | None) -> Path | None:
    """Return the file `given`, else the first there is of those that the side searches, having said which on stderr.

    None where there is none: the environment may say it all. A file that may not be read is found, and refused later.
    """
    if given is not None:
        return given
    for path in model.searched:
        try:
            path.stat()
        except PermissionError:
            pass
        except OSError:
            continue
        print(f"settings: {path.absolute()}", file=sys.stderr)
        return path
    return None


def load(model: type[S], toml: Path | None, overrides: Mapping[str, Any] | None = None) -> S:
    """Return the settings of `toml` (None: no file), the environment and `overrides`, the later ones winning.

    `overrides` maps dotted keys (`"agent.log_level"`) to values; None means that the flag was not given.
    Raises `SettingsError`, one line that names the file or variable, the key, and what was expected.
    """
    flags = {key: value for key, value in (overrides or {}).items() if value is not None}
    data = _anchored(model, _read(toml), toml.parent if toml else Path())
    for given in (_environment(model), *(_nested(key, value) for key, value in flags.items())):
        data = _merge(data, _anchored(model, given, Path()))
    return checked(model, data, toml, flags)


def checked(model: type[S], data: Mapping[str, Any], toml: Path | None, flags: Mapping[str, Any] | None = None) -> S:
    """Return `data`, which came from the file `toml` and from `flags`, as settings.

    Raises `SettingsError`, as `load` does.
    """
    try:
        return model(**data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        lines = [_explain(model, details, toml, flags or {}) for details in found if not _follows(details, found)]
        alone = [_no_file(model)] if toml is None and any(one["type"] == "missing" for one in found) else []
        raise SettingsError(redact("; ".join(alone + lines))) from None


def parse_overrides(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return the `KEY=VALUE` pairs of `--set` as overrides for `load`; a list or a section is given as JSON.

    Raises `SettingsError` for anything else.
    """
    split = [pair.partition("=") for pair in pairs or ()]
    for key, equals, _ in split:
        if not (key and equals):
            raise SettingsError(
                f"--set {key}: expected KEY=VALUE, e.g. --set metrics.port=0; `culling settings` lists the keys"
            )
    return {key: _value(text) for key, _, text in split}


def _value(text: str) -> Any:
    """Return `text` for pydantic to convert to the setting's type; a list or section is decoded from JSON."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text  # a key may begin with [ or {, too


def print_config(model: BaseModel) -> str:
    """Return the settings as TOML, with secrets as `**********` and credentials in URLs as `***`."""
    return tomli_w.dumps(_printable(model.model_dump(mode="json", by_alias=True)))


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the settings: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{path}: the settings are longer than {MAX_BYTES} bytes")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))  # editors on Windows put a byte order mark first
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not valid TOML: {_first_line(error)}") from error


def _environment(model: type[BaseSettings]) -> dict[str, Any]:
    known = set(model.model_fields).union(*SECTIONS.values())
    for name in os.environ:  # a name without `__` is no setting, and belongs to others
        section, dot, _ = name.upper().removeprefix(PREFIX).lower().partition("__")
        if name.upper().startswith(PREFIX) and dot and section not in known:
            close = get_close_matches(section, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"{name}: there is no section {section}; {hint}")
    try:
        return EnvSettingsSource(model)()
    except pydantic_settings.SettingsError as error:
        raise SettingsError(
            f"{PREFIX}* variables: {_first_line(error)}; lists and sections are given as JSON"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _anchored(model: type[BaseModel], data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return `data` with every relative path in it made to start at `folder`."""
    anchored = dict(data)
    for name in data.keys() & model.model_fields.keys():
        field, value = model.model_fields[name], data[name]
        annotation = field.annotation
        if (section := section_of(annotation)) is not None:
            match value:
                case Mapping():
                    anchored[name] = _anchored(section, value, folder)
                case list() | tuple():
                    parts = [_anchored(section, part, folder) if isinstance(part, Mapping) else part for part in value]
                    anchored[name] = parts
        elif isinstance(value, str | Path) and (_is_path(annotation, value) or _is_file(field.metadata, value)):
            anchored[name] = str((folder / value).absolute())
    return anchored


def _is_path(annotation: Any, value: str | Path) -> bool:
    """Whether a setting holds a path, and `value` is not one of the words that it also accepts."""
    kinds = (annotation, *get_args(annotation))
    return Path in kinds and not any(value in get_args(kind) for kind in kinds)


def _is_file(metadata: Sequence[Any], value: str | Path) -> bool:
    return bool(str(value)) and "://" not in str(value) and any(isinstance(mark, FileOrUrl) for mark in metadata)


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {head: _nested(rest, value) if rest else value}


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _explain(model: type[BaseModel], error: Any, toml: Path | None, flags: Mapping[str, Any]) -> str:
    loc: tuple[int | str, ...] = error["loc"]
    key = ".".join(str(part) for part in loc)
    variable = PREFIX + "__".join(str(part) for part in loc).upper()
    if error["type"] == "missing":
        for field in _required(model, loc):
            key, variable = f"{key}.{field}", f"{variable}__{field.upper()}"
        where = f"{toml}: {key} is missing; set it there or" if toml else f"{key} is missing; name a file, or set it"
        return f"{where} as {variable}"
    origin = _origin(key, variable, toml, flags)
    if error["type"] == "extra_forbidden":
        return f"{origin}: {key} is not a setting; {_meant(model, loc)}"
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] == NAME:
        return f"{origin}: {key}: expected letters, digits, . _ and -, at most 64, beginning with a letter or digit"
    hint = "; lists are given as JSON" if error["type"] == "tuple_type" and origin == "command line" else ""
    return f"{origin}: {key}: {error['msg'].removeprefix('Value error, ')}{hint}"


def _origin(key: str, variable: str, toml: Path | None, flags: Collection[str]) -> str:
    """Return where what is wrong at `key` was set: the last of those that said anything of it, or of a part of it."""

    def one_in_other(said: str, wrong: str) -> bool:
        return said.startswith(wrong) or wrong.startswith(said)

    if any(one_in_other(f"{flag}.", f"{key}.") for flag in flags):
        return "command line"
    if said := sorted(name for name in os.environ if one_in_other(f"{name}__".upper(), f"{variable}__")):
        return ", ".join(said)
    return str(toml or PREFIX + "* variables")


def _no_file(model: type[Settings]) -> str:
    """Return where a settings file would have been found."""
    searched = ", ".join(map(str, model.searched))
    return "no settings file is named with --config" + (f", and there is none at {searched}" if searched else "")


def _meant(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Return which key was probably meant by one that there is not, and which command lists them all."""
    close = nearest(model, loc)
    hint = f"did you mean {close}?" if close else f"known here: {', '.join(_known(model, loc[:-1]))}"
    side = getattr(model, "side", "")
    return f"{hint}{'' if close else ';'} `culling settings {side}` lists all" if side else hint


def _follows(error: Any, others: Sequence[Any]) -> bool:
    """Whether a list is reported as too short only because its entries are wrong."""
    loc = error["loc"]
    inside = any(len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in others)
    return error["type"] == "too_short" and inside


def _required(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the first key that the missing section at `loc` must have; nothing if `loc` is a key."""
    annotation = model.model_fields[str(loc[0])].annotation if len(loc) == 1 else None
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return []
    return [name for name, field in annotation.model_fields.items() if field.is_required()][:1]


def _known(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at `loc`."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = section_of(model.model_fields[part].annotation) or model
    return sorted(model.model_fields)


def _printable(value: Any) -> Any:
    """Drop None, which TOML has no word for, and redact every string."""
    match value:
        case dict():
            return {key: _printable(item) for key, item in value.items() if item is not None}
        case list():
            return [_printable(item) for item in value if item is not None]
        case str():
            return redact(value)
        case _:
            return value
