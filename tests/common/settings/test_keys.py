from __future__ import annotations

from typing import Annotated, Literal

import pytest
from annotated_types import Ge
from pydantic import Field

from culling.cloud.settings import CloudSettings
from culling.common.config import Section, Settings
from culling.common.settings.keys import heading, keys, nearest, sections
from culling.edge.settings import EdgeSettings


class Part(Section):
    """`[part]`: a part."""

    size: Annotated[int, Ge(1)] = Field(default=4, description="how many there are")
    kind: Literal["a", "b"] | None = Field(default=None, description="which")
    names: tuple[str, ...] = Field(description="what they are called")


class Whole(Settings):
    part: Part
    parts: tuple[Part, ...] = ()


class Silent(Settings):
    part: Part

    class Other(Section):
        size: int = 4

    other: Other = Other()


@pytest.mark.parametrize("model", [EdgeSettings, CloudSettings])
def test_every_key_of_both_sides_says_what_it_means(model: type[Settings]) -> None:
    found = keys(model)
    assert {key.top for key in found} == set(model.model_fields)
    assert all(key.type and key.default and key.meaning for key in found)


def test_types_and_defaults_read_as_a_person_writes_them() -> None:
    told = {key.dotted: (key.type, key.default) for key in keys(Whole)}
    assert told["part.size"] == ("integer, ≥ 1", "`4`")
    assert told["part.kind"] == ("`a` or `b`", "none")
    assert told["part.names"] == ("list of text", "**required**")
    assert [heading(Whole, name) for name in sections(Whole)] == ["[part]", "[[parts]]"]


def test_a_key_without_a_meaning_is_named() -> None:
    with pytest.raises(ValueError, match=r"a description: other\.size$"):
        keys(Silent)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        (("agent", "drain"), "agent.drain_s"),
        (("drain_s",), "agent.drain_s"),
        (("selector", "drain_s"), "agent.drain_s"),
        (("camera", 0, "maxfps"), "camera.max_fps"),
        (("agnet",), "agent"),
        (("spool", "zzzz"), ""),
    ],
)
def test_the_nearest_key_is_found_in_its_section_or_by_its_last_word(wrong: tuple[int | str, ...], meant: str) -> None:
    assert nearest(EdgeSettings, wrong) == meant
