"""Where the teacher's features of frames are kept: an object each, and a row in the index that says what it is worth.

They can be made anew only by labelling again, and a round does without any of them; so nothing here is repaired. The
object comes before the row, and the row's end before the object's: one without a row is removed by `sweep`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from culling.cloud.settings import CloudSettings
from culling.cloud.store.index import Index, frames, stored_among
from culling.cloud.store.index import teacher_features as features
from culling.cloud.store.objects.objects import LostError, Objects, open_objects
from culling.cloud.store.people.reviews import by_a_person

FOLDER = "teacher-features"

SETTLED_S = 3600.0
"""No worker takes so long between an object and its row."""

CLEARED_SHARE = 0.9
"""Down to which features are given up where a camera has too many: to look for them costs as much for one."""

AT_ONCE = 200


@dataclass(frozen=True)
class Kept:
    """The features of one frame, packed, that the teacher with that hash computed, and what the frame would teach."""

    frame: str
    camera: str
    teacher: str
    packed: bytes
    worth: float


class FeatureStore:
    """The features of every camera. Safe to use from several threads and processes. All methods raise StorageError."""

    def __init__(self, index: Index, objects: Objects) -> None:
        self._index = index
        self._objects = objects

    # Who labels

    def keep(self, every: Sequence[Kept]) -> int:
        """Keep features, durably; of a frame that is no longer stored none are. Return of how many frames."""
        self._objects.put({_name(one.camera, one.frame, one.teacher): one.packed for one in every})
        with self._index.write() as connection:
            here = sa.select(frames.c.id).where(stored_among([one.frame for one in every]))
            stored = set(connection.execute(here).scalars())
            connection.execute(features.delete().where(features.c.frame.in_(stored)))
            rows = [
                {
                    "frame": one.frame,
                    "camera": one.camera,
                    "teacher": one.teacher,
                    "bytes": len(one.packed),
                    "worth": one.worth,
                }
                for one in every
                if one.frame in stored
            ]
            if rows:
                connection.execute(features.insert(), rows)
        gone = [one for one in every if one.frame not in stored]
        self._objects.delete([_name(one.camera, one.frame, one.teacher) for one in gone])
        return len(rows)

    # Rounds

    def find(self, names: Collection[str]) -> dict[str, tuple[str, str]]:
        """Return of which of those frames there are features, each with its camera and the hash of their teacher."""
        columns = (features.c.frame, features.c.camera, features.c.teacher)
        with self._index.read() as connection:
            rows = connection.execute(sa.select(*columns).where(features.c.frame.in_(names))).all()
        return {row.frame: (row.camera, row.teacher) for row in rows}

    def of_people(self, names: Collection[str]) -> set[str]:
        """Return which of those frames have a person's labels, which the teacher would contradict."""
        with self._index.read() as connection:
            query = sa.select(frames.c.id).where(frames.c.id.in_(names), by_a_person())
            return set(connection.execute(query).scalars())

    def read(self, frame: str, camera: str, teacher: str) -> bytes | None:
        """Return the features of a frame as they were packed; None where they cannot be read."""
        try:
            return self._objects.get(_name(camera, frame, teacher))
        except LostError:
            return None

    def weigh(self, worths: Mapping[str, float]) -> None:
        """Note what frames teach the student in use, by which features are kept; a frame without any is passed over."""
        with self._index.write() as connection:
            known = sa.select(features.c.frame).where(features.c.frame.in_(worths))
            for name in connection.execute(known).scalars().all():
                connection.execute(features.update().where(features.c.frame == name).values(worth=worths[name]))

    # Upkeep

    def trim(self, allowance: int, spare_bytes: int = 0) -> dict[tuple[str, str], int]:
        """Give up the features of frames that teach least, where a camera has more bytes of them than its allowance, or
        the disk is short of `spare_bytes`.

        Return of how many frames, by (camera, "allowance" | "disk"), `AT_ONCE` a camera at most.
        """
        dropped: Counter[tuple[str, str]] = Counter()
        for camera, held in self._held():
            excess = held - int(CLEARED_SHARE * allowance) if held > allowance else 0
            if max(excess, spare_bytes) <= 0:
                continue
            reason = "allowance" if excess > 0 else "disk"
            chosen = list(self._least(camera, max(excess, spare_bytes)))
            spare_bytes -= sum(size for *_, size in chosen)
            self._drop(camera, [(name, teacher) for name, teacher, _ in chosen])
            dropped[camera, reason] += len(chosen)
        return {which: count for which, count in dropped.items() if count}

    def sweep(self, now: float) -> int:
        """Remove what no row names and was written a while before `now`, in epoch seconds; return how many objects."""
        old = (item.name for item in self._objects.list(FOLDER) if item.written < now - SETTLED_S)
        removed = 0
        while some := list(islice(old, AT_ONCE)):
            removed += self._remove_unnamed(some)
        return removed

    def purge(self, camera: str) -> int:
        """Remove every object of a camera that no row names, also one that is being written; return how many."""
        return self._remove_unnamed([item.name for item in self._objects.list(f"{FOLDER}/{camera}")])

    def missing(self) -> list[str]:
        """Return the frames that have a row, and no features that can be read."""
        with self._index.read() as connection:
            rows = connection.execute(sa.select(features.c.frame, features.c.camera, features.c.teacher)).all()
        return [row.frame for row in rows if self.read(row.frame, row.camera, row.teacher) is None]

    def unnamed(self) -> list[str]:
        """Return the objects that no row names, also one that is being written."""
        return self._unnamed([item.name for item in self._objects.list(FOLDER)])

    def forget(self, names: Collection[str]) -> None:
        """Delete the rows of frames."""
        with self._index.write() as connection:
            connection.execute(features.delete().where(features.c.frame.in_(names)))

    def _held(self) -> list[tuple[str, int]]:
        """Return the bytes of every camera that has features, the most of them first."""
        size = sa.func.sum(features.c.bytes)
        query = sa.select(features.c.camera, size).group_by(features.c.camera).order_by(size.desc())
        with self._index.read() as connection:
            return [(camera, int(held)) for camera, held in connection.execute(query)]

    def _least(self, camera: str, wanted: int) -> Iterator[tuple[str, str, int]]:
        columns = (features.c.frame, features.c.teacher, features.c.bytes)
        query = sa.select(*columns).where(features.c.camera == camera)
        with self._index.read() as connection:
            rows = connection.execute(query.order_by(features.c.worth, features.c.frame).limit(AT_ONCE)).all()
        for row in rows:
            if wanted <= 0:
                return
            wanted -= row.bytes
            yield row.frame, row.teacher, row.bytes

    def _drop(self, camera: str, every: Sequence[tuple[str, str]]) -> None:
        self.forget([name for name, _ in every])
        self._objects.delete([_name(camera, *one) for one in every])

    def _remove_unnamed(self, names: Sequence[str]) -> int:
        gone = self._unnamed(names)
        self._objects.delete(gone)
        return len(gone)

    def _unnamed(self, names: Sequence[str]) -> list[str]:
        """Return which objects no row names."""
        found: list[str] = []
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            of = {name.rpartition("/")[2].partition("-")[0] for name in some}
            known = {_name(camera, frame, teacher) for frame, (camera, teacher) in self.find(of).items()}
            found += [name for name in some if name not in known]
        return found


def _name(camera: str, frame: str, teacher: str) -> str:
    return f"{FOLDER}/{camera}/{frame}-{teacher[:16]}"


def feature_store(settings: CloudSettings, index: Index) -> FeatureStore:
    """Return the features of every camera. Raises StorageError."""
    return FeatureStore(index, open_objects(settings.store.objects, settings.data_dir))
