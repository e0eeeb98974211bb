"""`[access]` and `[sites.NAME]`: who may look at what and act on it, where not everybody may do everything."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from culling.common.config import Section

Role: TypeAlias = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""From the one that may least: looks; acts on cameras, too; sees who did what, too."""

_SITE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Site(Section):
    """`[sites.NAME]`: a site, the edges that people look after together.

    An edge that no site has is one of its own, by its own name.
    """

    edges: tuple[str, ...] = Field(
        min_length=1, description='names of the edges of the site, e.g. `["yard-1", "ramp"]`'
    )


class Group(Section):
    """What the people of one group may: their role, and where. No sites: everywhere."""

    role: Role = Field(description="`viewer`, `operator` or `admin`")
    sites: tuple[str, ...] = Field(default=(), description="sites on which they have it")

    @model_validator(mode="after")
    def _everywhere(self) -> Group:
        if self.role == "admin" and self.sites:
            raise ValueError("an admin is one of every site: leave sites out, or make it an operator")
        return self


class AccessSettings(Section):
    """`[access]`: whom the page and its API know, by tokens in JWT form that a proxy passes on, signed by an OpenID
    Connect provider.

    Nothing else that a proxy says of people is believed. What a person may is said by the groups it is in.
    """

    anyone: bool | None = Field(
        default=None,
        description="whether people may look who do not say who they are; not set: yes, unless `keys` is set",
    )
    keys: Path | None = Field(
        default=None,
        description="file with the provider's public keys, a JWKS or one key as PEM; read again when it changes",
    )
    issuer: str = Field(default="", description="the provider, as `iss` of its tokens names it; needed with `keys`")
    audience: str = Field(
        default="", description="the client that the tokens are made for, as `aud` names it; needed with `keys`"
    )
    header: str = Field(
        default="Authorization",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="header in which the proxy passes the token; `Bearer` before it may be there or not",
    )
    person: str = Field(default="email", min_length=1, description="claim that says who it is; without it `sub`")
    member: str = Field(default="groups", min_length=1, description="claim with the groups that the person is in")
    groups: dict[str, Group] = Field(
        default={},
        description='what each group may, e.g. `{ guards = { role = "operator", sites = ["yard"] } }`; one without '
        "sites may it everywhere, and who is in no group may nothing",
    )

    @model_validator(mode="after")
    def _whole(self) -> AccessSettings:
        if self.keys is not None and not (self.issuer and self.audience):
            lacking = "issuer" if not self.issuer else "audience"
            raise ValueError(f"{lacking} is needed with keys: or tokens that were made for others would be taken")
        if self.keys is None and self.groups:
            raise ValueError("groups say nothing without keys: name the file with the provider's public keys")
        return self

    @property
    def is_open(self) -> bool:
        """Whether anyone may look."""
        return self.keys is None if self.anyone is None else self.anyone


class Sites:
    """Which edges are of which site; every edge that no site names is one of its own."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self._named = {name: frozenset(site.edges) for name, site in sites.items()}
        self._of = {edge: name for name, edges in self._named.items() for edge in edges}

    @property
    def named(self) -> tuple[str, ...]:
        """The sites that the settings name."""
        return tuple(self._named)

    def of(self, edge: str) -> str:
        """Return the site of an edge; "" for one that no site has but one is called like it: it is of none."""
        return self._of.get(edge, "" if edge in self._named else edge)

    def edges(self, names: Collection[str]) -> frozenset[str]:
        """Return the edges of sites; what is no site's name is an edge's, if no site has that edge."""
        named = (self._named.get(name, frozenset() if name in self._of else frozenset({name})) for name in names)
        return frozenset().union(*named)


def check_sites(sites: Mapping[str, Site]) -> None:
    """Raise ValueError for a name that cannot be used, or an edge in two sites."""
    taken: dict[str, str] = {}
    for name, site in sites.items():
        if not _SITE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a site: use letters, digits, dashes and underscores")
        for edge in site.edges:
            if (other := taken.setdefault(edge, name)) != name:
                raise ValueError(f"sites.{other}.edges and sites.{name}.edges both have {edge}: leave it in one")
