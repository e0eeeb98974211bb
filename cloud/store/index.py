"""The cloud's index: what is known of edges, frames, models, rounds and requests, as tables.

SQLAlchemy Core on SQLite in the data folder, or on PostgreSQL by URL (`database/`). Service, round child and command
line work on it at the same time, so every change is one short transaction that takes the write lock first: what it
then reads nobody else changes before it is done.

In the data folder, an index of an earlier version is brought up to date when it is opened, any other one by `culling
cloud migrate`; how to add a column or a table stands in `migrations/steps.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from copy import copy

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, MetaData, String, Table, Text

from culling.cloud.store.database.connections import open_database
from culling.cloud.store.database.errors import translated
from culling.cloud.store.database.seat import Seat
from culling.cloud.store.migrations.migrate import check_current, is_current, migrate
from culling.cloud.store.migrations.totals import NAMES as TOTALS

_tables = MetaData()
_IN_A_SET = sa.text("kept IS NOT NULL")  # few frames are: the rest need no entry

ASKING = sa.text("labels IS NULL AND round IS NULL AND state = 'stored'")
"""Frames that the teacher has not seen and that were not passed over; a query has to say it as the index does."""

UNREAD = sa.text("labels IS NOT NULL AND round IS NULL AND state = 'stored' AND NOT held_out")
"""Frames to train on that the teacher has labelled, and that no round has read."""

ESCALATED = sa.text("jpeg IS NOT NULL")
"""Questions of edges that were not answered, and whose pictures are still kept."""

UNFINISHED = sa.text("state IN ('running', 'ready')")
"""Rounds that are not over; a camera has one at most."""

_NAMED = ("camera", "state", "round")  # as if the condition did not say it: or SQLite takes an index of every frame

edges = Table(
    "edges",
    _tables,
    Column("name", String(64), primary_key=True),
    Column("public_key", String(40), nullable=False, unique=True),
    Column("revoked", Boolean, nullable=False, default=False),
    Column("enrolled", Float, nullable=False),
)

cameras = Table(
    "cameras",
    _tables,
    Column("name", String(64), primary_key=True),
    Column("edge", String(64), nullable=False, index=True),
    Column("state", Text),  # the latest CameraState, JSON
    Column("heard", Float),
    Column("counted", Text),  # up to which of its counters `history` has them, JSON
    Column("accuracy", Text),  # `control.steering.accuracy.MeasuredAccuracy`, JSON
    Column("class_list", Integer),  # the one in force; NULL where no other than the first was wanted yet
    Column("class_list_since", Float),  # when that came into force
)

frames = Table(
    "frames",
    _tables,
    Column("id", String(32), primary_key=True),
    Column("edge_key", String(40), nullable=False),
    Column("boot", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("camera", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # stored, expired, corrupt or purged
    Column("frame", BigInteger, nullable=False),
    Column("pts", Float, nullable=False),
    Column("captured", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("probability", Float),  # with which an audit was drawn
    Column("loss", Float, nullable=False),
    Column("model_id", String(64), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("held_out", Boolean, nullable=False),  # never trained on
    Column("guard", Boolean),  # nor judged by: it lies beside a held-out block
    Column("detections", LargeBinary),  # the student's, WireDetections
    Column("features", LargeBinary),  # WireFeatures
    Column("ignored", LargeBinary),  # the places that its camera ignored, `wire.ignored.Places`; NULL: none
    Column("shadow", LargeBinary),  # what a model found that ran beside the student, the wire's `Beside`; NULL: none
    Column("echo", LargeBinary),  # what an audit tells of the frames before it, `wire/echo.py`; NULL: nothing
    Column("labels", LargeBinary),  # a person's if there are any, else the teacher's, WireDetections
    Column("class_list", Integer),  # that of the labels; NULL where an earlier version wrote them: the first
    Column("labelled", Float),  # when the teacher saw it
    Column("answered", Boolean),  # its label was an answer of a cascade, in time for its record; NULL: it was none
    Column("round", Integer),  # that first read its labels; `lifecycle.PASSED`: it was never labelled
    Column("kept", Integer),  # round whose culled set it is in
    sa.UniqueConstraint("edge_key", "boot", "seq"),
    sa.Index("frames_by_round", "camera", "state", "held_out", "round", "received"),  # what waits, and what is done
    sa.Index("frames_by_time", "camera", "state", "received", "bytes", "reason", "kept"),
    sa.Index("frames_by_age", "state", "received"),
    sa.Index("frames_by_labelling", "camera", "labelled", "held_out", "reason"),
    sa.Index("frames_asking", *_NAMED, "labels", "received", sqlite_where=ASKING, postgresql_where=ASKING),
    sa.Index("frames_unread", *_NAMED, "received", sqlite_where=UNREAD, postgresql_where=UNREAD),
    sa.Index("frames_by_set", "camera", "kept", sqlite_where=_IN_A_SET, postgresql_where=_IN_A_SET),
)

totals = Table(  # of the frames of each camera; triggers keep them, see `migrations/totals.py`
    "totals",
    _tables,
    Column("camera", String(64), primary_key=True),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in TOTALS),
)

leases = Table(  # frames that a worker is labelling, or was when it died
    "leases",
    _tables,
    Column("frame", String(32), primary_key=True),
    Column("token", String(80), nullable=False, index=True),
    Column("until", Float, nullable=False),
    Column("tries", Integer, nullable=False),
)

scores = Table(  # what a student in use finds in frames that others forwarded
    "scores",
    _tables,
    Column("frame", String(32), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("detections", LargeBinary, nullable=False),  # WireDetections
    sa.Index("scores_by_model", "model"),
)

teacher_features = Table(  # the frames of which the teacher's features are kept, see `features/features.py`
    "teacher_features",
    _tables,
    Column("frame", String(32), primary_key=True),
    Column("camera", String(64), nullable=False),
    Column("teacher", String(64), nullable=False),  # the hash of its weights
    Column("bytes", Integer, nullable=False),
    Column("worth", Float, nullable=False),  # what a student gets wrong there in total, as it was last judged
    sa.Index("teacher_features_by_worth", "camera", "worth"),
)

changes = Table(  # what two students found where they differ most, the one before a round and its candidate
    "changes",
    _tables,
    Column("round", Integer, primary_key=True),
    Column("frame", String(32), primary_key=True),
    Column("camera", String(64), nullable=False),
    Column("difference", Float, nullable=False),
    Column("before", LargeBinary, nullable=False),  # WireDetections, as `after`
    Column("after", LargeBinary, nullable=False),
    Column("class_list", Integer, nullable=False),  # that of both
    sa.Index("changes_by_frame", "frame"),
)

reviews = Table(  # what people said of frames
    "reviews",
    _tables,
    Column("frame", String(32), primary_key=True),
    Column("camera", String(64), nullable=False),
    Column("decision", String(16), nullable=False),  # see `people/reviews.py`
    Column("who", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("teacher", LargeBinary),  # what the teacher says of it, WireDetections
    Column("class_list", Integer),  # that of what the teacher says; NULL: the first
    sa.Index("reviews_by_time", "camera", "at"),
)

ignores = Table(  # places that people had ignored in frames, beside those that the cameras ignored
    "ignores",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("frame", String(32), nullable=False, index=True),
    Column("camera", String(64), nullable=False, index=True),
    Column("place", LargeBinary, nullable=False),  # `wire.ignored.Places`, of one
    Column("who", Text, nullable=False),
    Column("at", Float, nullable=False),
)

class_lists = Table(  # what labels mean; rows are only ever added
    "class_lists",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("names", Text, nullable=False, unique=True),  # JSON
)

shelf = Table(  # labels that were made for a list which says too little for the one in force; they may come back
    "shelf",
    _tables,
    Column("frame", String(32), primary_key=True),
    Column("class_list", Integer, primary_key=True),
    Column("camera", String(64), nullable=False, index=True),
    Column("labels", LargeBinary, nullable=False),
    Column("decision", String(16)),  # these are of its review, if it had one
    Column("who", Text),
    Column("at", Float),
    Column("teacher", LargeBinary),
    Column("teacher_list", Integer),
)

models = Table(
    "models",
    _tables,
    Column("camera", String(64), primary_key=True),
    Column("counter", Integer, primary_key=True),
    Column("model_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # live, shadow, previous, retired, rejected or revoked
    Column("origin", String(16), nullable=False),  # base, round, zoo, manual or rollback
    Column("round", Integer),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", Integer, nullable=False),
    Column("weights", String(64)),  # sha256 of the safetensors it was exported from
    Column("scale", Float, nullable=False),
    Column("long_side", Integer, nullable=False),
    Column("parent", String(64)),
    Column("classes", Text, nullable=False),  # JSON
    Column("golden", LargeBinary, nullable=False),  # MessagePack
    Column("ranker", LargeBinary),  # MessagePack
    Column("cost", Text),  # `bill.cost.StudentCost`, JSON; NULL where it was never counted
    Column("manifest", LargeBinary, nullable=False),  # signed
    sa.Index("models_by_id", "model_id", "camera"),
    sa.Index("models_by_state", "state", "created"),
    sa.Index("models_by_origin", "origin"),
)

rollouts = Table(  # a student that a person brings to several cameras, see `waves/trials.py`
    "rollouts",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("state", String(16), nullable=False),  # running, halted, back or done
    Column("waves", Text, nullable=False),  # JSON: the share of its cameras up to each wave
    Column("max_failure_rate", Float, nullable=False),
    Column("forgiven", Integer, nullable=False),  # failures of before it was last resumed
    Column("why", Text, nullable=False),
)

trials = Table(  # students that have to show at a camera that they are not worse than the one before
    "trials",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("camera", String(64), nullable=False),
    Column("rollout", Integer),
    Column("wave", Integer, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, shadow, live, passed, failed, back or left
    Column("artefact", Text),  # JSON, of one that waits
    Column("model_id", String(64)),
    Column("before", String(64)),  # the model that was live
    Column("measured", Float),  # the lower end of its AP50, where no shadow compares both
    Column("began", Float),
    Column("ended", Float),
    Column("why", Text, nullable=False),
    sa.Index("trials_by_state", "state"),
    sa.Index("trials_by_rollout", "rollout"),
)

swaps = Table(
    "swaps",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("camera", String(64), nullable=False),
    Column("model_id", String(64), nullable=False),
    Column("previous", String(64)),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("gap_ms", Float, nullable=False),
    Column("at", Float, nullable=False),
    Column("received", Float, nullable=False),
    sa.UniqueConstraint("camera", "model_id", "outcome", "at"),
    sa.Index("swaps_by_time", "received"),
)

rounds = Table(
    "rounds",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("camera", String(64), nullable=False, index=True),
    Column("trigger", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),  # running, ready, published, refused or failed
    Column("started", Float, nullable=False),
    Column("finished", Float),
    Column("crashes", Integer, nullable=False, default=0),
    Column("lease", String(32)),  # of the one process that may write it
    Column("worker", String(32)),  # the lease of a process that began, and whose end was not seen yet
    Column("stages", Text, nullable=False, default="{}"),  # JSON: stage → its result
    Column("report", Text, nullable=False, default="{}"),
    Column("reason", Text, nullable=False, default=""),
    Column("model_id", String(64)),
    sa.Index("rounds_unfinished", "camera", unique=True, sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    sa.Index("rounds_by_model", "camera", "model_id"),
    sa.Index("rounds_by_end", "camera", "finished"),
    sa.Index("rounds_by_time", "finished"),
)

requests = Table(
    "requests",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),  # see `requests.Kind`
    Column("camera", String(64), nullable=False),
    Column("payload", Text, nullable=False, default="{}"),
    Column("asked", Float, nullable=False),
    Column("done", Float),
    Column("failed", Boolean),
    Column("answer", Text),
    sa.Index("requests_by_end", "done"),
)

deeds = Table(  # who did what; rows are only ever added, see `people/deeds.py`
    "deeds",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("who", Text, nullable=False),
    Column("by", String(16), nullable=False),  # page, token, signed or command: how it is known who; or service
    Column("address", Text, nullable=False, server_default=""),
    Column("action", String(32), nullable=False),
    Column("camera", String(64)),
    Column("outcome", String(16), nullable=False),  # done, asked or refused
    Column("request", Integer),  # in which it was asked for
    Column("what", Text, nullable=False, server_default="{}"),  # JSON
    sa.Index("deeds_by_time", "at"),
)

tokens = Table(  # of programs that speak to the page's API
    "tokens",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("hash", String(64), nullable=False, unique=True),  # sha256 of the token
    Column("role", String(16), nullable=False),
    Column("sites", Text, nullable=False),  # JSON; none: every site
    Column("created", Float, nullable=False),
    Column("creator", Text, nullable=False),
    Column("expires", Float, nullable=False),
    Column("revoked", Float),
)

history = Table(  # by how much a camera's counters rose within one minute
    "history",
    _tables,
    Column("camera", String(64), primary_key=True),
    Column("minute", Integer, primary_key=True),  # since the epoch
    *(Column(name, BigInteger, nullable=False) for name in ("seen", "inferred", "dropped", "evicted", "acked")),
    *(Column(name, BigInteger, nullable=False) for name in ("hard", "audit", "bootstrap", "manual")),
    Column("threshold", Float, nullable=False),
    Column("loss_mean", Float, nullable=False),
    Column("taken", BigInteger),  # see `keeping_up.py`; NULL in minutes that earlier versions recorded
    Column("missed", BigInteger),
    Column("model", String(64)),  # that ran at the end of the minute; NULL in minutes that earlier versions recorded
    sa.Index("history_by_minute", "minute"),
)

rates = Table(  # what this machine's labelling and training costs, see `bill/rates.py`
    "rates",
    _tables,
    Column("work", String(16), primary_key=True),  # label or train
    Column("gflops", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("each", Text),  # `bill.cost.PassCost` of a frame, JSON; the teacher's
)

purges = Table(  # what must not come back, whoever sends it
    "purges",
    _tables,
    Column("camera", String(64), primary_key=True),
    Column("before", Float, nullable=False),  # frames captured before are refused
    Column("removed", Boolean, nullable=False, default=False),  # all of its frames are
)

notes = Table(  # what the processes below control say of their work, see `control/said.py`
    "notes",
    _tables,
    Column("name", String(64), primary_key=True),
    Column("text", Text, nullable=False),
)

wishes = Table(  # the desired state of each camera
    "wishes",
    _tables,
    Column("camera", String(64), primary_key=True),
    Column("held", Boolean, nullable=False, default=False),
    Column("pinned", String(64)),  # the model to stay with
    Column("paused", Boolean, nullable=False, default=False),
    Column("frames_per_window", Integer),
    Column("frame", Integer),  # the request for a frame that is still to be taken
    Column("classes", String(64)),  # the set of classes that an operator chose
    Column("paced", Text),  # `desired.Paced`, JSON; NULL where its pace was never judged
    Column("profiled", Text),  # `desired.Profiled`, JSON; NULL where it has no profile
)


looks = Table(  # cameras that somebody looks at live, and the newest picture of each, see `link/looks.py`
    "looks",
    _tables,
    Column("camera", String(64), primary_key=True),
    Column("until", Float, nullable=False),
    Column("captured", Float),
    Column("received", Float),
    Column("model_id", String(64)),
    Column("width", Integer),
    Column("height", Integer),
    Column("detections", LargeBinary),  # WireDetections
    Column("jpeg", LargeBinary),
)

escalations = Table(  # what edges ask the teacher about, and its answers, see `labelling/escalated.py`
    "escalations",
    _tables,
    Column("id", Integer, primary_key=True),
    Column("camera", String(64), nullable=False),
    Column("boot", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("asked", Float, nullable=False),
    Column("until", Float, nullable=False),  # when the edge's own answer stands
    Column("taken", Float),  # by a worker
    Column("answered", Float),
    Column("sha256", String(64), nullable=False),
    Column("classes", Text, nullable=False),  # JSON, those of the student
    Column("jpeg", LargeBinary),  # NULL once it is answered, or too late
    Column("found", LargeBinary),  # WireDetections
    Column("teacher", Text),  # NULL before it is answered
    sa.UniqueConstraint("camera", "boot", "seq"),
    sa.Index("escalations_open", "until", sqlite_where=ESCALATED, postgresql_where=ESCALATED),
    sa.Index("escalations_by_picture", "sha256"),
    sa.Index("escalations_by_time", "asked"),
)

answers = Table(  # how many pictures the teacher looked at for edges within one minute: for the bill
    "answers",
    _tables,
    Column("camera", String(64), primary_key=True),
    Column("minute", Integer, primary_key=True),  # since the epoch
    Column("frames", Integer, nullable=False),
    sa.Index("answers_by_minute", "minute"),
)


def stored_among(names: Collection[str], camera: str | None = None) -> sa.ColumnElement[bool]:
    """Return the condition that a frame has one of those names and is stored, and of that camera.

    SQLite shall not see that a state is compared, or a camera: it takes any for rarer than the names of a dozen frames,
    and walks all that are stored to find those.
    """
    found = frames.c.id.in_(names) & (frames.c.state.concat("") == "stored")
    return found if camera is None else found & (frames.c.camera.concat("") == camera)


class Index:
    """The database; safe to use from several threads and processes. Raises StorageError where it cannot be used.

    With `migrating` one that is not embedded is brought up to date too. `migrated` names the steps that were taken.
    """

    def __init__(self, url: str | sa.URL, migrating: bool = False) -> None:
        self.migrated: tuple[str, ...] = ()
        self._url = url
        self._seat: Seat | None = None
        self._database = open_database(url)
        try:
            self._bring_up_to_date(migrating or self._database.embedded)
        except BaseException:
            self.close()
            raise

    def apart(self) -> Index:
        """Return the same index with connections of its own, so that whoever uses up those holds nobody else up."""
        return Index(self._url)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one moment of the database."""
        with translated(), self._database.reading.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give a connection whose changes become durable, all or none, at the end of the block.

        Raises StorageError as `read` does; a broken unique constraint is left as SQLAlchemy's IntegrityError.
        """
        with translated(), self._database.writing.begin() as connection:
            if self._seat is not None:
                self._seat.check(connection)
            yield connection

    def seat(self) -> Seat:
        """Return the seat of the one process that does what only one of those that share the index should."""
        return self._database.seat()

    def fenced(self, seat: Seat) -> Index:
        """Return the same index for whoever has `seat`: a change raises DeposedError once another may have it."""
        fenced = copy(self)
        fenced._seat = seat
        return fenced

    def settle(self) -> None:
        """Have the database give up what it still holds of rows that were deleted."""
        with translated():
            self._database.settle()

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def _bring_up_to_date(self, migrating: bool) -> None:
        with self.read() as connection:
            if is_current(connection):
                return
            if not migrating:
                check_current(connection)
        with self.write() as connection:  # where two open it at once, the second finds all steps taken
            self.migrated = migrate(connection, _tables)
