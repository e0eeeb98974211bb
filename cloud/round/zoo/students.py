"""Which students a round tries before it trains: those of the camera's zoo, and those in use beside it at its site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from culling.cloud.archive.zoo import OLDEST_S
from culling.cloud.model.weights import read_family
from culling.cloud.round.context import NOT_TO_RUN, Context
from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index
from culling.cloud.store.registry import Artefact, Model
from culling.cloud.store.roster import Roster
from culling.cloud.store.rounds import Round
from culling.common.errors import ModelError

IN_8_BITS = b"QuantizeLinear"
"""The operator that only graphs in 8 bits have."""


@dataclass(frozen=True)
class Students:
    """Those that can be tried, the camera's own first, and why others cannot be, by model id."""

    usable: tuple[Model, ...]
    unusable: Mapping[str, str]


def siblings(settings: CloudSettings, index: Index, camera: str) -> tuple[str, ...]:
    """Return the other cameras of a camera's site, whose edges are not revoked."""
    sites = {row.name: settings.grouping.of(row.edge) for row in Roster(index).rows() if not row.revoked}
    mine = sites.pop(camera, "")
    return tuple(name for name, site in sites.items() if site == mine) if mine else ()


def students(context: Context, turn: Round) -> Students:
    """Return at most `round.zoo` students that look for the camera's classes and are as a round would make them now.

    One is unusable whose files are gone or damaged; one of another family, or not in the bits that are asked for, is
    left out.
    """
    usable, unusable = [], {}
    for model in _named(context, turn):
        try:
            if _is_as_wanted(context, model.artefact):
                usable.append(model)
        except ModelError as error:
            unusable[model.model_id] = str(error)
        if len(usable) == context.settings.round.zoo:
            break
    return Students(tuple(usable), unusable)


def _named(context: Context, turn: Round) -> Iterator[Model]:
    """Yield the students that may be tried, whatever became of their files."""
    registry, most = context.registry, context.settings.round.zoo
    own = registry.models(turn.camera)
    earlier = {one.name for one in registry.zoo(most, turn.started - OLDEST_S, turn.camera).get(turn.camera, ())}
    yield from (one for one in own if one.model_id in earlier and one.artefact.classes == context.classes)
    tried = {one.artefact.sha256 for one in own if one.model_id in earlier or one.state in ("live", *NOT_TO_RUN)}
    in_use = registry.live()
    for name in context.siblings:
        if (theirs := in_use.get(name)) is None or theirs.artefact.classes != context.classes:
            continue
        if theirs.artefact.sha256 not in tried and not context.is_base(theirs):
            tried.add(theirs.artefact.sha256)
            yield theirs


def _is_as_wanted(context: Context, artefact: Artefact) -> bool:
    """Return whether a round would make such a student now. Raises ModelError where its files cannot be used."""
    wanted, files = context.settings.student, context.files
    if artefact.weights is None:
        return False
    files.read(artefact.weights, "safetensors")
    family = read_family(files.path(artefact.weights, "safetensors"))
    return family == wanted.family and (IN_8_BITS in files.read(artefact.sha256)) == wanted.int8
