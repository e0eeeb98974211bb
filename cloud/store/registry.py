"""Which models there are, which one each camera should run, and their files.

Files are named by their SHA-256 and durable before anything names them. Rows are only ever added with a counter above
all earlier ones of the camera, in the transaction that makes them live, so that a camera has exactly one live
model at any moment. `previous` is kept for rollback, and the camera's first model, its base, always.

    live ─ a newer one is published ─→ previous ─→ retired        live ─ the edge refuses it ─→ rejected
    live ─ it is signed anew ─→ retired, previous stays           previous takes its place again
    live ─ rolled back by hand ─→ revoked                         previous ─ the edge refused it ─→ rejected
    shadow ─ it is not worse ─→ live                              shadow ─ worse, refused or outdone ─→ rejected
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from culling.cloud.archive.zoo import EARLIER, Student, members
from culling.cloud.bill.cost import StudentCost
from culling.cloud.store.index import Index, models, requests, rounds, swaps, trials
from culling.cloud.store.objects.folder import Folder
from culling.cloud.store.objects.objects import LostError, Objects
from culling.cloud.store.rounds import UNFINISHED
from culling.cloud.store.waves.alike import gone_back_to, same, state_of, uses
from culling.cloud.store.waves.shadows import end_shadow, give_way
from culling.common.errors import InputError, ModelError, ProtocolError, StorageError
from culling.common.selection.ranker import Ranker
from culling.common.wire.delta import MAX_START, read_header
from culling.common.wire.manifest import Golden
from culling.common.wire.messages import SwapReport

Origin = Literal["base", "round", "zoo", "manual", "rollback"]
Withdrawn = Literal["rejected", "revoked"]
HANDED_OUT = ("live", "shadow", "previous")
"""States of models that edges may fetch."""
log = structlog.get_logger(__name__)
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
_STUDENT = ("camera", "counter", "model_id", "state", "origin", "created", "sha256", "weights")


class Artefact(msgspec.Struct, frozen=True):
    """A model that may be published: its files are in the `ModelFiles`; sizes in bytes, hashes SHA-256."""

    sha256: str
    size: int
    weights: str | None
    scale: float
    long_side: int
    classes: tuple[str, ...]
    parent: str | None
    golden: tuple[Golden, ...] = ()
    ranker: Ranker | None = None
    cost: StudentCost | None = None


@dataclass(frozen=True)
class Model:
    """One model as it was published for a camera; `manifest` is the signed blob."""

    camera: str
    counter: int
    model_id: str
    state: str
    origin: str
    round: int | None
    created: float
    expires: float
    artefact: Artefact
    manifest: bytes


@dataclass(frozen=True)
class Gone:
    """Why a model is never used again; `at` is when it was gone back from, in epoch seconds, None where nobody did."""

    at: float | None

    def told(self) -> str:
        """Return it as what follows the model's name."""
        if self.at is None:
            return "was taken back: a gate found it no better than the model before it, or its file is damaged"
        return f"was gone back from at {datetime.fromtimestamp(self.at):%d %b %H:%M}"


class DeltaFiles:
    """What makes one model of another (`common/wire/delta.py`), as files beside the models that are made.

    They are named `target.base`, so that they go with their target. What is in one is for the edge to doubt.
    """

    def __init__(self, folder: str, place: Objects) -> None:
        self._folder = folder
        self._place = place
        self.shared = place.shared

    def add(self, base: str, target: str, data: bytes) -> None:
        """Keep `data` durably. Raises StorageError."""
        self._place.put({self._name(f"{target}.{base}"): data})

    def size(self, base: str, target: str) -> int:
        """Return how many bytes are kept, 0 for none. Raises StorageError where that cannot be told."""
        try:
            with BytesIO(self._place.range(self._name(f"{target}.{base}"), 0, MAX_START)) as start:
                header, total = read_header(start)
        except (LostError, ProtocolError):
            return 0
        return total if (header.base, header.target) == (base, target) else 0

    def fetch(self, name: str) -> bytes:
        """Return a whole file. Raises StorageError."""
        return self._place.get(self._name(name))

    def piece(self, name: str, offset: int, length: int) -> bytes:
        """Return part of a file. Raises StorageError."""
        return self._place.range(self._name(name), offset, length)

    def _name(self, name: str) -> str:
        return f"{self._folder}/{name}.delta"


class ModelFiles:
    """Files named by their hash, below `folder`; those of a shared place are copied there when they are asked for."""

    def __init__(self, folder: Path, objects: Objects | None = None) -> None:
        self._folder = folder
        self._local = Folder(folder.parent)
        self._shared = objects if objects is not None and objects.shared else None
        self._proven: set[str] = set()
        self.deltas = DeltaFiles(folder.name, self._shared or self._local)

    @property
    def shared(self) -> bool:
        """Whether files lie in a place that services share, so that reading one takes long."""
        return self._shared is not None

    def add(self, data: bytes, suffix: str) -> str:
        """Keep `data` durably; return its SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        for place in filter(None, (self._shared, self._local)):
            place.put({self._name(sha256, suffix): data})
        return sha256

    def path(self, sha256: str, suffix: str) -> Path:
        """Return where a file lies, or would."""
        path = self._folder / f"{sha256}.{suffix}"
        if self._shared is not None and not path.exists():
            with suppress(LostError):
                self._local.put({self._name(sha256, suffix): self._shared.get(self._name(sha256, suffix))})
        return path

    def renew(self, sha256: str, suffix: str) -> None:
        """Have a file that no model uses count as new: those that are old are pruned."""
        self.path(sha256, suffix).touch()
        if self._shared is not None:
            self._shared.put({self._name(sha256, suffix): self.path(sha256, suffix).read_bytes()})

    def _name(self, sha256: str, suffix: str) -> str:
        return f"{self._folder.name}/{sha256}.{suffix}"

    def read(self, sha256: str, suffix: str = "onnx") -> bytes:
        """Return a whole file. Raises ModelError when it is missing or not what was kept."""
        path = self.path(sha256, suffix)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: the model file cannot be read: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ModelError(f"{path}: the model file is damaged; restore it from a backup")
        return data

    def fetch(self, sha256: str, suffix: str = "onnx") -> bytes:
        """Return a whole file, as `read` does, without keeping a copy of one that is only in the shared place."""
        if self._shared is None or (self._folder / f"{sha256}.{suffix}").exists():
            return self.read(sha256, suffix)
        try:
            data = self._shared.get(self._name(sha256, suffix))
        except LostError as error:
            raise ModelError(f"model file {sha256[:12]}: {error}") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ModelError(f"{self._shared.place(self._name(sha256, suffix))}: the model file is damaged")
        return data

    def piece(self, sha256: str, offset: int, length: int) -> bytes:
        """Return part of an ONNX file, having checked the whole once. Raises ModelError as `read` does."""
        if sha256 not in self._proven:
            self.read(sha256)
            self._proven.add(sha256)
        try:
            return self._local.range(self._name(sha256, "onnx"), offset, length)
        except LostError as error:
            self._proven.discard(sha256)
            raise ModelError(f"model file {sha256[:12]}: {error}") from None

    def keeps(self, sha256: str) -> bool:
        """Return whether an ONNX file is still here: those of retired models are pruned."""
        here = (self._folder / f"{sha256}.onnx").exists()
        if here or self._shared is None:
            return here
        try:
            return bool(self._shared.range(self._name(sha256, "onnx"), 0, 1))
        except LostError:
            return False

    def prune(self, wanted: set[str], before: float) -> int:
        """Remove files older than `before`, seconds since the epoch, whose hash is not wanted; return how many."""
        removed = 0
        try:
            for path in self._folder.iterdir() if self._folder.exists() else ():
                if path.name.partition(".")[0] not in wanted and path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        except OSError as error:
            raise StorageError(f"cannot clean up {self._folder}: {error.strerror}") from error
        if self._shared is not None:
            found = list(self._shared.list(self._folder.name))
            names = {item.name: Path(item.name).name.partition(".")[0] for item in found if item.written < before}
            self._shared.delete([name for name, sha256 in names.items() if sha256 not in wanted])
        return removed


class Registry:
    """The models of every camera in the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def live(self) -> dict[str, Model]:
        """Return the model that each camera should run."""
        with self._index.read() as connection:
            rows = connection.execute(models.select().where(models.c.state == "live")).all()
        return {model.camera: model for model in _readable(rows)}

    def live_ids(self) -> dict[str, str]:
        """Return the id of the model that each camera should run."""
        query = sa.select(models.c.camera, models.c.model_id).where(models.c.state == "live")
        with self._index.read() as connection:
            return {row.camera: row.model_id for row in connection.execute(query)}

    def models(self, camera: str) -> list[Model]:
        """Return every model of a camera, newest first."""
        query = models.select().where(models.c.camera == camera).order_by(models.c.counter.desc())
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        return _readable(rows)

    def find(self, camera: str, model_id: str) -> Model | None:
        """Return a model that may be handed out, live, shadow or previous, also by the id before it was signed anew."""
        named = (models.c.camera == camera) & (models.c.model_id == model_id)
        one = models.alias()
        renewed = (models.c.state == "retired") & sa.exists().where(same(one, models), one.c.state.in_(HANDED_OUT))
        with self._index.read() as connection:
            row = connection.execute(models.select().where(named, models.c.state.in_(HANDED_OUT) | renewed)).first()
            return None if row is None else _model(row)

    def hashes(self, camera: str) -> set[str]:
        """Return the SHA-256 of every model that a camera ever had."""
        query = sa.select(models.c.sha256).where(models.c.camera == camera)
        with self._index.read() as connection:
            return set(connection.execute(query).scalars())

    def classes(self, camera: str, model_id: str) -> tuple[str, ...]:
        """Return what a camera's model finds; nothing for one that is not known any more."""
        named = (models.c.camera == camera) & (models.c.model_id == model_id)
        with self._index.read() as connection:
            text = connection.execute(sa.select(models.c.classes).where(named)).scalar()
        return () if text is None else tuple(msgspec.json.decode(text, type=list[str]))

    def price(self, camera: str, weights: str, cost: StudentCost) -> None:
        """Note what students of those weights cost, where that was not counted when they were made."""
        mine = (models.c.camera == camera) & (models.c.weights == weights) & models.c.cost.is_(None)
        with self._index.write() as connection:
            connection.execute(models.update().where(mine).values(cost=msgspec.json.encode(cost).decode()))

    def provisional(self, camera: str) -> frozenset[str]:
        """Return the ids of a camera's models that were published although it is not certain that they are better.

        A round's gate said so of its model, and no later one has confirmed it. A model that was renewed, and so has the
        same bytes under another name, is as certain as the one that it renews.
        """
        says_so = rounds.c.report.contains('"provisional":true') | rounds.c.report.contains('"confirmed":')
        query = sa.select(rounds.c.report, rounds.c.model_id).where(rounds.c.camera == camera, says_so)
        with self._index.read() as connection:
            told = [(_report(row.report), row.model_id) for row in connection.execute(query.order_by(rounds.c.id))]
            named = sa.select(models.c.model_id, models.c.sha256).where(models.c.camera == camera)
            known = connection.execute(named.order_by(models.c.counter)).all() if told else []
        confirmed = {report.get("confirmed") for report, _ in told}
        doubted = {name for report, name in told if name and report.get("provisional")} - confirmed
        uncertain: dict[str, bool] = {}
        for model_id, sha256 in known:
            uncertain[sha256] = model_id in doubted or (uncertain.get(sha256, False) and model_id not in confirmed)
            doubted |= {model_id} if uncertain[sha256] else set()
        return frozenset(doubted)

    def gone(self, camera: str) -> dict[str, Gone]:
        """Return the models of a camera that are never used again, by id: revoked ones, and those that have the bytes
        and scale of one that was revoked since, as one has that was renewed.
        """
        names = ("model_id", "state", "origin", "created", "sha256", "scale")
        known = sa.select(*(models.c[name] for name in names)).where(models.c.camera == camera)
        query = known.order_by(models.c.counter.desc())
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        found: dict[str, Gone] = {}
        newest: dict[tuple[str, float], Gone | None] = {}
        for row, after in zip(rows, [None, *rows], strict=False):
            back = after.created if after is not None and after.origin == "rollback" else None
            mine = Gone(back) if row.state == "revoked" else None
            newest.setdefault((row.sha256, row.scale), mine)
            if (told := mine or newest[row.sha256, row.scale]) is not None:
                found[row.model_id] = told
        return found

    def is_newest(self, camera: str, model_id: str, beside: str | None = None) -> bool:
        """Return whether no model of the camera that its edge may have accepted was signed under a higher counter.

        The one that is to run beside the live one counts where the edge says that it has it, as `beside`: it is signed
        after the live one, and offered after that was taken.
        """
        accepted = (models.c.state != "shadow") | (models.c.model_id == (beside or ""))
        query = sa.select(models.c.model_id).where(models.c.camera == camera, accepted)
        query = query.order_by(models.c.counter.desc())
        with self._index.read() as connection:
            return connection.execute(query.limit(1)).scalar() == model_id

    def fallback(self, camera: str) -> Model:
        """Return the model that a rollback goes to: the previous one, else the base.

        Raises InputError when the camera is unknown, or nothing but the live model is left.
        """
        known = self.models(camera)
        if not known:
            raise InputError(f"there is no camera {camera}: see `culling cloud status`")
        live = next((model for model in known if model.state == "live"), None)
        for model in (*(m for m in known if m.state == "previous"), known[-1]):
            if live is None or _bytes_and_scale(model) != _bytes_and_scale(live):
                return model
        raise InputError(f"camera {camera} has no earlier model to go back to")

    def fallbacks(self) -> dict[str, str]:
        """Return the id of the model that a rollback of each camera goes to, as `fallback` finds it, where one does."""
        columns = (models.c.camera, models.c.model_id, models.c.state, models.c.origin, models.c.sha256, models.c.scale)
        kept = models.c.state.in_(("live", "previous")) | (models.c.origin == "base")
        with self._index.read() as connection:
            rows = connection.execute(sa.select(*columns).where(kept).order_by(models.c.counter)).all()
        live = {row.camera: (row.sha256, row.scale) for row in rows if row.state == "live"}
        previous = [row for row in reversed(rows) if row.state == "previous"]
        bases = [row for row in rows if row.origin == "base"]
        found: dict[str, str] = {}
        for row in (*previous, *bases):
            if live.get(row.camera) not in (None, (row.sha256, row.scale)):
                found.setdefault(row.camera, row.model_id)
        return found

    def withdraw(self, camera: str, model_id: str, state: Withdrawn) -> bool:
        """Take the live model back, if it is that one, and put the one before it in its place; return whether it was.

        The one before it is another student, never the same one under the id that it had before it was signed anew. A
        camera's base is not withdrawn: there is nothing before it. One that runs beside the live one only goes, and
        nobody goes back to a previous one that is rejected.
        """
        with self._index.write() as connection:
            if end_shadow(connection, camera, model_id, state):
                return True
            mine = models.c.camera == camera
            named = mine & (models.c.model_id == model_id)
            if (before := _before(connection, camera, model_id)) is None:
                if state == "rejected":  # the next one was published before its edge said so
                    _move(connection, named & (models.c.state == "previous") & (models.c.origin != "base"), state)
                return False
            _move(connection, named, state)
            _move(connection, mine & (models.c.counter == before), "live")
            return True

    def gives_way(self, camera: str, model_id: str) -> bool:
        """Return whether `withdraw` would take a model back now."""
        with self._index.read() as connection:
            is_shadow = state_of(connection, camera, model_id) == "shadow"
            return is_shadow or _before(connection, camera, model_id) is not None

    def zoo(self, most: int, since: float, camera: str | None = None) -> dict[str, list[Student]]:
        """Return at most `most` earlier students of each camera, or of one, that may be tried again, newest first.

        They went live from `since` on, in seconds since the epoch.
        """
        earlier = models.c.state.in_(EARLIER) & (models.c.created >= since)
        ruling = models.c.state.in_(("live", "rejected", "revoked")) | (models.c.origin == "base")
        query = sa.select(*(models.c[name] for name in _STUDENT)).where(earlier | ruling)
        if camera is not None:
            query = query.where(models.c.camera == camera)
        known: dict[str, list[Student]] = defaultdict(list)
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        for row in sorted(rows, key=lambda row: -row.counter):
            student = Student(row.model_id, row.state, row.created, row.sha256, row.weights, row.origin == "base")
            known[row.camera].append(student)
        return {name: members(each, most) for name, each in known.items()}

    def wanted_files(self, zoo: Collection[Student] = ()) -> set[str]:
        """Return the hashes of all files that may still be needed: by a model, by the `zoo`, a round that runs, a
        request, a wave, or what takes one back.
        """
        needed = models.c.state.in_(HANDED_OUT) | (models.c.origin == "base")
        running = sa.select(rounds.c.stages).where(rounds.c.state.in_(UNFINISHED))
        asked = sa.select(requests.c.payload).where(requests.c.done.is_(None))
        waiting = sa.select(trials.c.artefact).where(trials.c.state == "waiting")
        with self._index.read() as connection:
            queries = (sa.select(models.c.sha256, models.c.weights).where(needed), gone_back_to())
            rows = [row for query in queries for row in connection.execute(query)]
            texts = [text for query in (running, asked, waiting) for text in connection.execute(query).scalars()]
        named = {sha256 for row in rows for sha256 in row if sha256}
        named |= {sha256 for one in zoo for sha256 in (one.sha256, one.weights) if sha256}
        return named.union(*(_SHA256.findall(text) for text in texts))

    def report(self, swap: SwapReport, at: float) -> bool:
        """Keep an edge's report of a swap; return whether it was new."""
        told = {field: getattr(swap, field) for field in swap.__struct_fields__}
        try:
            with self._index.write() as connection:
                connection.execute(swaps.insert().values(**told, received=at))
        except IntegrityError:
            return False
        return True

    def swaps(self, of: Collection[tuple[str, str]] | None = None) -> dict[str, SwapReport]:
        """Return the first verdict on each model, by camera and model id as `camera/model_id`.

        `of` names the models that are asked for as (camera, model id); None: all there are, which is more and more.
        """
        query, fields = swaps.select(), SwapReport.__struct_fields__
        if of is not None:
            names, ids = {camera for camera, _ in of}, {model_id for _, model_id in of}
            query = query.where(swaps.c.camera.in_(names), swaps.c.model_id.in_(ids))
        with self._index.read() as connection:
            rows = sorted(connection.execute(query), key=lambda row: -row.id)
        return {f"{row.camera}/{row.model_id}": SwapReport(**{f: getattr(row, f) for f in fields}) for row in rows}


def add(connection: sa.Connection, camera: str, make: Callable[[int], Model], shadow: bool = False) -> Model:
    """Make a new model live under the next counter, which `make` is given; the live one becomes previous.

    Where that is the same student, which is only signed anew, the one before it stays previous. As a `shadow` it is to
    run beside the live one, which stays. One that ran there before goes in any case.
    """
    mine = models.c.camera == camera
    newest = connection.execute(sa.select(sa.func.max(models.c.counter)).where(mine)).scalar()
    model = replace(make((newest or 0) + 1), state="shadow" if shadow else "live")
    _move(connection, mine & (models.c.state == "shadow"), "rejected")
    if not shadow and uses(connection, camera, model.artefact.sha256, model.artefact.scale) is not None:
        _move(connection, mine & (models.c.state == "live"), "retired")
    elif not shadow:
        give_way(connection, camera)
    connection.execute(models.insert().values(**_row(model)))
    return model


def _before(connection: sa.Connection, camera: str, model_id: str) -> int | None:
    """Return the counter of what takes a model's place if that is withdrawn; None where it is not live, or stays."""
    mine = models.c.camera == camera
    found = connection.execute(models.select().where(mine & (models.c.state == "live"))).first()
    if found is None or found.model_id != model_id or found.origin == "base":
        return None
    kept = (models.c.state == "previous") | (models.c.origin == "base")
    other = (models.c.sha256 != found.sha256) | (models.c.scale != found.scale)
    return connection.execute(sa.select(sa.func.max(models.c.counter)).where(mine, kept, other)).scalar()


def revoke(connection: sa.Connection, camera: str, model_id: str | None) -> None:
    """Rule out that a model of a camera is ever used again."""
    _move(connection, (models.c.camera == camera) & (models.c.model_id == model_id), "revoked")


def _move(connection: sa.Connection, which: sa.ColumnElement[bool], state: str) -> None:
    connection.execute(models.update().where(which).values(state=state))


def _report(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return {}  # `Rounds` logs it


def _bytes_and_scale(model: Model) -> tuple[str, float]:
    return model.artefact.sha256, model.artefact.scale


def _row(model: Model) -> dict[str, Any]:
    row = {**vars(model), **msgspec.structs.asdict(model.artefact)}
    del row["artefact"]
    golden, ranker = msgspec.msgpack.encode(model.artefact.golden), model.artefact.ranker
    told = {"classes": msgspec.json.encode(model.artefact.classes).decode(), "golden": golden}
    cost = None if model.artefact.cost is None else msgspec.json.encode(model.artefact.cost).decode()
    return {**row, **told, "ranker": None if ranker is None else msgspec.msgpack.encode(ranker), "cost": cost}


def _readable(rows: Sequence[Any]) -> list[Model]:
    """Return the models of rows; one that cannot be decoded is left out, so that it stops no other camera."""
    found = []
    for row in rows:
        try:
            found.append(_model(row))
        except (msgspec.MsgspecError, TypeError):
            log.error("model_record_unreadable", camera=row.camera, model_id=row.model_id)
    return found


def _model(row: Any) -> Model:
    fields = dict(row._mapping)
    golden = msgspec.msgpack.decode(fields.pop("golden"), type=tuple[Golden, ...])
    ranker = None if (blob := fields.pop("ranker")) is None else msgspec.msgpack.decode(blob, type=Ranker)
    cost = None if (text := fields.pop("cost")) is None else msgspec.json.decode(text, type=StudentCost)
    classes = tuple(msgspec.json.decode(fields.pop("classes")))
    told = {name: fields.pop(name) for name in Artefact.__struct_fields__ if name in fields}
    return Model(**fields, artefact=Artefact(**told, classes=classes, golden=golden, ranker=ranker, cost=cost))
