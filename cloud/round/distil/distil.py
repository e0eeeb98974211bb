"""Distillation in a round (`[round] distil`): whose features there are, the teacher's box head, and the loss of both.

A frame trains on its labels alone where its features are not there, cannot be read, or are of other weights than the
teacher has now; and where a person labelled it, whom the teacher would contradict. Each of these is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog
from torch import nn

from culling.cloud.model.dataset import Batcher
from culling.cloud.model.distil.features import unpack
from culling.cloud.model.distil.loss import Distilled, cannot
from culling.cloud.model.distil.tutor import Head, Tutor
from culling.cloud.model.family import family_named
from culling.cloud.round.context import Context
from culling.cloud.settings import CloudSettings
from culling.cloud.store.features.features import FeatureStore
from culling.cloud.teacher.loading import load_teachers
from culling.common.errors import ModelError

log = structlog.get_logger(__name__)


def open_tutor(settings: CloudSettings, classes: tuple[str, ...]) -> Tutor:
    """Return what the teacher of the settings offers to students of `classes`.

    Raises ModelError where it has no features, or students of this family cannot be taught by any, and as
    `load_teachers`.
    """
    if family_named(settings.student.family).passing is None:
        raise ModelError(cannot(settings.student.family))
    return load_teachers(settings).tutor(classes)


def lessons_of(context: Context, names: Sequence[str]) -> tuple[tuple[Head, list[bytes | None]], dict[str, int]]:
    """Return the teacher's box head and the features of a round's frames, and how many are taught by them or why not.

    Raises ModelError where teacher or students cannot do that, and as `lessons`.
    """
    tutor = open_tutor(context.settings, context.classes)
    context.heart.advance()  # a teacher takes a while to open
    found, told = lessons(context.features, names, tutor.identity)
    log.info("features_read", **{outcome.replace("-", "_"): count for outcome, count in told.items()})
    return (tutor.head, found), told


def lessons(store: FeatureStore, names: Sequence[str], teacher: str) -> tuple[list[bytes | None], dict[str, int]]:
    """Return the packed features of frames by that teacher, None where they are of no use, and how many frames are
    taught by them or why not. Raises StorageError.
    """
    known, of_people = store.find(names), store.of_people(names)
    found: list[bytes | None] = []
    told: Counter[str] = Counter()
    for name in names:
        packed, outcome = _lesson(store, name, known.get(name), name in of_people, teacher)
        found.append(packed)
        told[outcome] += 1
    return found, dict(told)


def _lesson(
    store: FeatureStore, name: str, known: tuple[str, str] | None, of_a_person: bool, teacher: str
) -> tuple[bytes | None, str]:
    if of_a_person:
        return None, "of-a-person"
    if known is None:
        return None, "none"
    if known[1] != teacher:
        return None, "another-teacher"
    packed = store.read(name, *known)
    try:
        if packed is not None and unpack(packed).teacher == teacher:
            return packed, "taught"
    except ValueError as error:
        log.warning("features_damaged", frame=name, camera=known[0], error=str(error))
    return None, "damaged"


def distilled(head: Head, features: Sequence[bytes | None], batches: Batcher) -> Callable[[nn.Module], Distilled]:
    """Return what makes of a student its losses when `head` teaches it by the features of the samples of `batches`."""
    return lambda model: Distilled(model, head, features, batches)
