"""The keys of a side's settings, as its `Settings` class has them: the command and the reference pages list the same.

What a key means stands in its `Field(description=…)` and nowhere else.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

MIB = 1 << 20
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "length ≤"}
WORDS = {
    **{bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", SecretStr: "secret"},
    **{dict: "table", Any: "anything"},
}
REQUIRED = "**required**"


@dataclass(frozen=True)
class Key:
    """One setting. `type`, `default` and `meaning` are text in which values stand in backticks."""

    section: str
    name: str
    type: str
    default: str
    meaning: str

    @property
    def top(self) -> str:
        """The section without the name that each of its tables has."""
        return self.section.partition(".")[0]

    @property
    def dotted(self) -> str:
        """The key as `--set` takes it."""
        return f"{self.section}.{self.name}"


def keys(model: type[BaseModel]) -> list[Key]:
    """Return every key of a settings class, section by section. Raises ValueError for one without a meaning."""
    found = [
        Key(_path(model, name), field.alias or below, _type(field), _default(field), field.description or "")
        for name, section in sections(model).items()
        for below, field in section.model_fields.items()
    ]
    if silent := [key.dotted for key in found if not key.meaning]:
        raise ValueError(f"nothing says what these mean, give their Field a description: {', '.join(silent)}")
    return found


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the class of each section of a settings class."""
    return {name: section for name, field in model.model_fields.items() if (section := section_of(field.annotation))}


def heading(model: type[BaseModel], section: str) -> str:
    """Return how a section begins in a file: `[agent]`, or `[[camera]]` where there may be several."""
    many = get_origin(model.model_fields[section].annotation) is tuple
    return f"[[{section}]]" if many else f"[{_path(model, section)}]"


def _path(model: type[BaseModel], section: str) -> str:
    """Return a section as it stands before its keys: where each has a name of its own, that too."""
    return f"{section}.NAME" if get_origin(model.model_fields[section].annotation) is dict else section


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field is, or is a list of; None for a plain value."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, BaseModel)), None)


def nearest(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Return the key or section that was probably meant by one that there is not; "" where none is like it.

    Looked for by its last word anywhere, then in its own section: `drain_s` means `agent.drain_s`.
    """
    known = {f"{name}.{key}": key for name, section in sections(model).items() for key in section.model_fields}
    *above, word = (str(part) for part in loc if isinstance(part, str))
    own = {dotted: key for dotted, key in known.items() if dotted.partition(".")[0] in above}
    if not above and word not in known.values() and (close := get_close_matches(word, sections(model), n=1)):
        return close[0]
    elsewhere = {dotted: key for dotted, key in known.items() if key == word}
    for among in (elsewhere, own, known):
        if close := get_close_matches(word, among.values(), n=1):
            return next(dotted for dotted, key in among.items() if key == close[0])
    return ""


def _type(field: FieldInfo) -> str:
    found = ((sign, getattr(one, name, None)) for one in field.metadata for name, sign in BOUNDS.items())
    return ", ".join([_name(field.annotation), *(f"{sign} {value:,}" for sign, value in found if value is not None)])


def _name(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return _name(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is dict:
        return WORDS[dict]
    if get_origin(kind) is tuple:
        return f"list of {_name(get_args(kind)[0])}"
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return "tables"
    if arguments := [one for one in get_args(kind) if one is not type(None)]:
        return " or ".join(_name(one) for one in arguments)
    return WORDS[kind]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return "none"
    if isinstance(value, dict):
        return "`{}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, int) and value >= MIB and value % MIB == 0:
        return f"`{value}` ({value // MIB:,} MiB)"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
