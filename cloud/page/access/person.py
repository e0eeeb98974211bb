"""A person, or a program, and what it may: a role on the edges of some sites, or on all.

What a person may on an edge is said by those of its rights that hold there; a role includes the ones before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from culling.cloud.settings import ROLES, Role, Sites
from culling.cloud.store.people.deeds import Actor, By

Edges: TypeAlias = frozenset[str] | None
"""Names of edges; None is every edge, those to come among them."""


@dataclass(frozen=True)
class Right:
    """A role on some edges."""

    role: Role
    edges: Edges

    def holds(self, role: Role, edge: str | None) -> bool:
        """Return whether it allows a role on an edge; None is what belongs to no edge."""
        return ROLES.index(self.role) >= ROLES.index(role) and (self.edges is None or edge in self.edges)


@dataclass(frozen=True)
class Person:
    """Who asks, how that is known, and what it may."""

    who: str
    by: By
    rights: tuple[Right, ...]

    def may(self, role: Role, edge: str | None = None) -> bool:
        """Return whether it has a role on an edge; without one, on all."""
        return any(right.holds(role, edge) for right in self.rights)

    def edges(self, role: Role = "viewer") -> Edges:
        """Return the edges on which it has a role."""
        mine = [right.edges for right in self.rights if ROLES.index(right.role) >= ROLES.index(role)]
        if None in mine:
            return None
        return frozenset().union(*(edges for edges in mine if edges is not None))

    @property
    def role(self) -> Role | None:
        """The highest role that it has anywhere."""
        return max((right.role for right in self.rights), key=ROLES.index, default=None)

    def at(self, address: str) -> Actor:
        """Return it as who acts, from an address."""
        return Actor(self.who, self.by, address)


ANYONE = Person("", "anyone", (Right("viewer", None),))
"""Whoever reaches the page and does not say who it is, where anyone may look."""

HOLDER = Person("holder of page.token", "page.token", (Right("admin", None),))


def right(role: Role, sites: Sequence[str], grouping: Sites) -> Right:
    """Return a role on the edges of sites; no sites are all of them."""
    return Right(role, grouping.edges(sites) if sites else None)


def person(who: str, by: By, rights: Iterable[Right]) -> Person:
    """Return a person with those rights, each of them once."""
    return Person(who, by, tuple(dict.fromkeys(rights)))
