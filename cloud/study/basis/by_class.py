"""The precision of each class by the label file: a mean over classes hides that some have hardly an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from culling.cloud.study.basis.results import ResultTable
from culling.cloud.study.basis.training import Scores


def by_class(entries: Sequence[tuple[Mapping[str, str], Sequence[Scores]]]) -> ResultTable:
    """Return a row for each entry: what it is told by, then AP50 and AP50:95 of every class that has objects, over the
    seeds that it was scored for.
    """
    labels = entries[0][1][0].labels
    objects = {name: one.objects for name, one in labels.per_class.items() if one.objects} if labels else {}
    lines = [
        {**told} | {f"{name} ({count})": _of_class(scores, name) for name, count in objects.items()}
        for told, scores in entries
    ]
    return ResultTable("By class and label file (objects): AP50 / AP50:95, mean of seeds", lines)


def _of_class(scores: Sequence[Scores], name: str) -> str:
    found = [one.labels.per_class[name] for one in scores if one.labels is not None]
    return f"{mean(one.ap50 for one in found):.3f} / {mean(one.ap50_95 for one in found):.3f}"
