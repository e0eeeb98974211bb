"""Every setting of the cloud service: TOML, then `CULLING_SECTION__KEY` variables, then flags.

[service]   where its state lives and where it listens    [round]       what a round keeps and trains on
[store]     index, quota and retention of frames          [resolution]  how far the input may shrink
[teacher]   who labels                                    [gate]        when a candidate may be published
[labelling] how many frames a day are labelled            [publish]     how long a manifest holds
[student]   what every camera starts with                 [metrics]     where the counters are served
[schedule]  when a round starts by itself                 [page]        where the live page is served
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationInfo, field_validator, model_validator
from sqlalchemy import URL

from culling.cloud.teacher.views import parse_view
from culling.common.address import Endpoint, Host, Network
from culling.common.config import Section, Settings, load
from culling.common.errors import SettingsError
from culling.common.frame import CLASSES, ClassName


class ServiceSettings(Section):
    """`[service]`: the process itself.

    `window` frames of one edge may be unacknowledged at a time; it shrinks when the teacher's queue passes
    `queue_high` frames of a camera, while the disk is slow to store a frame, and when it nears `reserve_bytes`, below
    which nothing is stored.
    """

    data_dir: Path = Field(
        description="folder that holds keys, index, frames, models and rounds; made for its owner alone"
    )
    endpoint: Endpoint = Field(
        default="tcp://127.0.0.1:5577",
        description="address that edges connect to, `tcp://HOST:PORT`; an IPv6 address stands in brackets, and "
        "`tcp://*:PORT` is every address of the machine",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe log lines to write"
    )
    window: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="frames that one edge may have unacknowledged at a time; it shrinks when the teacher or the disk "
        "falls behind",
    )
    queue_high: int = Field(
        default=4096, ge=1, description="frames of one camera waiting for the teacher above which its window shrinks"
    )
    reserve_bytes: int = Field(
        default=512 << 20, ge=0, description="free bytes on the disk below which nothing is stored"
    )


class StoreSettings(Section):
    """`[store]`: `url` is an SQLAlchemy URL (none: SQLite in the data folder); quota per camera, in bytes. Frames are
    kept for `retention_days`, those that a person labelled for `people_days`, the records of rounds, swaps, requests
    and models that are out of use for `records_days`.

    Of every five blocks of `held_out_block_s` seconds, the frames of one are held out: never trained on, only judged
    by. Those of the `guard_s` seconds before and after it are neither trained on nor judged by: what stands there for
    minutes, a parked car for example, must not be on both sides.
    """

    url: str | None = Field(
        default=None,
        description="URL of the index's database, `postgresql+psycopg://USER:PASSWORD@HOST/NAME`; none: SQLite in the "
        "data folder",
    )
    objects: str | None = Field(
        default=None,
        pattern=r"^s3://[^/?#@]+(/[^?#]*)?$",
        description="URL of the bucket that pictures and models lie in, `s3://BUCKET/PREFIX`; none: the data folder",
    )
    quota_bytes: int = Field(
        default=8 << 30,
        ge=1,
        description="bytes of frames that one camera may keep; frames that rounds are done with go first",
    )
    retention_days: float = Field(default=30.0, gt=0, description="days after which a frame is removed")
    records_days: float = Field(
        default=365.0,
        gt=0,
        description="days after which the records of rounds, swaps, requests and models out of use are removed; "
        "at least `retention_days`",
    )
    people_days: float | None = Field(
        default=None,
        gt=0,
        description="days after which a frame that a person labelled is removed, which may be later than others; none: "
        "as `records_days`",
    )
    held_out_block_s: float = Field(
        default=300.0,
        gt=0,
        description="length of a block, seconds; of every five blocks of a camera the frames of one are held out: "
        "never trained on, only judged by",
    )
    guard_s: float = Field(
        default=60.0,
        ge=0,
        validate_default=True,
        description="seconds on both sides of a held-out block whose frames are neither trained on nor judged by; "
        "less than half a block",
    )

    @field_validator("records_days")
    @classmethod
    def _outlive_frames(cls, days: float, info: ValidationInfo) -> float:
        if days < (frames := info.data.get("retention_days", days)):
            raise ValueError(f"is below retention_days = {frames:g}: frames would outlive the rounds they are of")
        return days

    @field_validator("people_days")
    @classmethod
    def _keep_what_people_said(cls, days: float | None, info: ValidationInfo) -> float | None:
        least, most = info.data.get("retention_days", 0.0), info.data.get("records_days", math.inf)
        if days is not None and not least <= days <= most:
            raise ValueError(f"is not within retention_days = {least:g} and records_days = {most:g}")
        return days

    @field_validator("guard_s")
    @classmethod
    def _leave_some(cls, guard_s: float, info: ValidationInfo) -> float:
        if 2 * guard_s >= (block_s := info.data.get("held_out_block_s", math.inf)):
            raise ValueError(
                f"is at least half of held_out_block_s = {block_s:g}: "
                "between two held-out blocks nothing would be left to train on"
            )
        return guard_s


Layout = Literal["torchvision", "yolox", "yolov5", "yolov8", "end-to-end", "detr"]
Colours = Literal["rgb", "bgr"]
Pixels = Literal["0-1", "0-255", "imagenet"]
Fit = Literal["stretch", "corner", "centre"]


class TeacherPart(Section):
    """One teacher: of which `kind`, from which `file`, and how it looks (see `cloud/teacher`)."""

    kind: str = Field(
        default="bundled",
        description="`bundled`, `torchvision`, `detectron2`, `transformers`, `onnx`, `ensemble`, or one that another "
        "package brings",
    )
    file: Path | None = Field(
        default=None,
        description="the teacher's weights, model file or folder; none: what comes with the kind, if anything does",
    )
    builder: str | None = Field(
        default=None, description="`torchvision`: which of its detectors, e.g. `fasterrcnn_resnet50_fpn_v2`"
    )
    names: tuple[str, ...] = Field(
        default=(), description="what the teacher's labels mean, in order; an empty list: what its file says, or COCO's"
    )
    map: dict[str, tuple[str, ...]] = Field(
        default={},
        description='for a class, the teacher\'s names that mean it, e.g. `car = ["car", "van"]`; a class that is not '
        "here is meant by its own name. An open-vocabulary teacher is asked for these words",
    )
    views: tuple[str, ...] = Field(
        default=(),
        description="how it looks at each frame, merged: `whole`, `flip`, `tiles 2x2`, `scale 1.5`; empty: whole",
    )
    short_side: int | None = Field(
        default=None,
        ge=64,
        le=2160,
        description="pixels of the short side of the frames that the teacher sees; none: what it was made for, 480 for "
        "the bundled one, which enlarges small frames 1.5 times at most",
    )
    batch: int = Field(default=4, ge=1, le=64, description="frames per forward pass")
    layout: Layout | None = Field(default=None, description="`onnx`: what the outputs mean; none: it is recognised")
    colours: Colours | None = Field(default=None, description="`onnx`: order of colours; none: as the layout has it")
    pixels: Pixels | None = Field(
        default=None,
        description="`onnx`: range of the input, or `imagenet`, normalised by its mean and deviation; none: as the "
        "layout has it",
    )
    fit: Fit | None = Field(
        default=None,
        description="`onnx`: how a frame comes to the input's size, stretched or with grey beside it; none: as the "
        "layout has it",
    )

    @field_validator("views")
    @classmethod
    def _seen(cls, views: tuple[str, ...]) -> tuple[str, ...]:
        for view in views:
            parse_view(view)
        return views


class TeacherSettings(TeacherPart):
    """`[teacher]`: who labels, and which of its boxes are believed (see `cloud/teacher`).

    When a student is compared with the labels, those of `true_score` or more count as true, and those between
    `min_score` and that count neither way; labels below `min_score` are not kept.
    """

    member: tuple[TeacherPart, ...] = Field(
        default=(), description="`ensemble`: two or more `[[teacher.member]]`, each with the keys above"
    )
    min_score: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="boxes below this score are not kept; those from here to `true_score` count neither as right "
        "nor as wrong",
    )
    true_score: float = Field(default=0.4, ge=0, le=1, description="boxes from this score on are taken as true")

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if isinstance(given, dict) and "weights" in given:
            file = given["weights"]
            raise ValueError(f'write file = "{file}" instead of weights' if file != "bundled" else "leave out weights")
        return given


class LabellingSettings(Section):
    """`[labelling]`: of each camera at most `per_day` frames are labelled in a UTC day, as they come.

    It accrues over the day: half for held-out and audit frames, half for the others, those worth most, and what one of
    them leaves for the other. Forwarding 40 an hour, a camera sends 960 a day: two thirds of them are labelled.
    """

    per_day: int = Field(
        default=640,
        ge=0,
        description="frames of a camera that are labelled in a UTC day at most, 0 for none, as they accrue over the "
        "day: half for held-out and audit frames, half for those worth most, what one leaves for the other",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="threads of the process that labels; 0: half as many as there are cores, so that a round that "
        "trains meanwhile has the others",
    )


class StudentSettings(Section):
    """`[student]`: `weights` is "bundled" or a file, the model of a camera that has none; see `scaler.input_size`.

    `family` is the architecture (see `model/family.py`). Where a camera's student is of another one, its next round
    starts from `weights`, and is judged against what the camera has, as any round is.

    With `int8` rounds make students in 8 bits, for edges without a GPU (see `quantise.py`); a GPU gains nothing by it.
    """

    family: str = Field(
        default="faster-rcnn-resnet18",
        description="architecture of the students: `faster-rcnn-resnet18`, or `yolox`, a fifth of the time on a CPU; "
        "a camera whose student is of another family changes with its next round",
    )
    weights: Literal["bundled"] | Path = Field(
        default="bundled",
        description="`bundled`, or a weights file of the family, safetensors, or for `yolox` ONNX: where every camera "
        "starts",
    )
    long_side: int = Field(
        default=640, ge=64, le=4096, description="pixels of the long side of a student's input at scale 1"
    )
    int8: bool = Field(default=False, description="ship the students of rounds in 8 bits, for edges without a GPU")


class ScheduleSettings(Section):
    """`[schedule]`: what starts a round. With `hold` only `culling cloud rounds CAMERA --start` does.

    `min_new` labelled frames since the last round; or the first of them older than `max_age_s`; or an AP50, as measured
    by audits, that fell by more than `drift`, and more than chance explains, all day or in a part of it. The last two
    want `least` frames, and the last one `first`. Until a round has found something to teach, `first` frames start one:
    a base student is worst, and `min_new` can take hours. A round that starts for new frames finds at least `CULLED`
    times as many as it keeps, or it would cull nothing.
    """

    hold: bool = Field(
        default=False, description="start no round by itself; `culling cloud rounds CAMERA --start` still does"
    )
    min_new: int = Field(
        default=256,
        ge=1,
        description="labelled frames since the last round that start one; at least twice `round.kept`, so that a round "
        "has something to cull",
    )
    first: int = Field(
        default=32,
        ge=1,
        description="labelled frames that start a round until one has found something to teach, and that must wait "
        "before `drift` starts one, if fewer than `min_new`",
    )
    max_age_s: float = Field(
        default=86_400.0, gt=0, description="age of the oldest labelled frame that waits, seconds, that starts one"
    )
    drift: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="fall of the measured AP50, all day or in a part of the day, beyond which one starts if chance "
        "does not explain it",
    )
    least: int = Field(
        default=16, ge=1, description="frames that must wait before `max_age_s` starts one; `drift` waits for `first`"
    )


CULLED = 2
"""A round keeps at most one in so many of the frames that it chooses from: one that keeps all would cull nothing."""


class RoundSettings(Section):
    """`[round]`: the `kept` frames of the pool that teach most by `policy` are trained on (n).

    Before that the student in use runs on at most `scored` frames of the pool that it has not seen. `mistakes` is all
    that is wrong on a frame in total (see `evaluation/mistakes.py`), `precision` the paper's 1 - AP. `replay_share` of
    the training set are other frames of the pool, of every hour and class. Training ends when the loss of frames that
    are kept aside has not fallen for `patience` steps, and after `most_steps` in any case. `frozen` counts the trunk's
    stages that keep their weights; `nice` is the niceness of its process, which is killed after `stall_s` seconds
    without a step: an export, the longest step there is, takes five minutes on two busy cores. `interest` names the
    classes that frames are culled, scaled and gated by (none: all); every class is trained.
    """

    kept: int = Field(
        default=128,
        ge=1,
        le=4096,
        description="frames that a round trains on (n), of all that were labelled; at most half",
    )
    policy: Literal["mistakes", "precision"] = Field(
        default="mistakes",
        description="by what the frames that teach most are found: `mistakes`, all that is wrong on a frame in total, "
        "or `precision`, the paper's 1 - AP",
    )
    scored: int = Field(
        default=1024,
        ge=1,
        description="frames of the pool on which a round runs the student in use at most; what it found is kept for "
        "the next round",
    )
    replay_share: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="share of the training set that are other frames of the pool: a few of each hour of the day and "
        "each class, rare ones first",
    )
    spare_unseen: bool = Field(
        default=False,
        description="teach no background to classes that the held-out frames show and the training set lacks; "
        "`culling study unseen` says what that is worth on a clip",
    )
    held_out: int = Field(default=64, ge=1, le=1024, description="most frames by which the gate judges")
    most_steps: int = Field(
        default=640,
        ge=1,
        le=1_000_000,
        description="steps of training at most; it ends before when the loss of the frames kept aside no longer falls",
    )
    patience: int = Field(
        default=80,
        ge=1,
        description="steps without a lower loss on the frames kept aside (a fifth of the training set, 32 at most) "
        "after which training cools down, for half as many steps, and ends; a set of fewer than 24 frames has none to "
        "keep aside, and takes twice as many steps",
    )
    batch: int = Field(
        default=4, ge=1, le=64, description="frames per step of training; halved once where a GPU has no memory for it"
    )
    lr: float = Field(default=0.01, gt=0, description="peak learning rate")
    warmup: int = Field(default=20, ge=0, description="steps over which the learning rate rises")
    frozen: int = Field(default=1, ge=0, le=4, description="stages of the student's trunk that keep their weights")
    checkpoint_s: float = Field(
        default=30.0, gt=0, description="seconds between two checkpoints: the most training that a kill can cost"
    )
    seed: int = Field(default=0, description="seed of batches and sampling")
    threads: int = Field(default=0, ge=0, le=256, description="threads of a round; 0: as many as there are cores")
    nice: int = Field(
        default=5,
        ge=0,
        le=19,
        description="how far a round steps back before other work on the machine, as in `nice`; the process that "
        "labels steps back 5 further",
    )
    stall_s: float = Field(
        default=900.0,
        ge=1,
        description="seconds without a step of its process after which a round is killed and tried once more; the "
        "process that labels is replaced after as long",
    )
    interest: tuple[ClassName, ...] = Field(
        default=(),
        description="classes that frames are culled, scaled and gated by; an empty list: all six. Every class "
        "is trained",
    )

    @property
    def labels_of_interest(self) -> list[int] | None:
        """The labels of the classes of interest, None for every class."""
        return [CLASSES.index(name) for name in self.interest] or None


class ResolutionSettings(Section):
    """`[resolution]`: by `labels`, the smallest input at which every class surely loses at most `tolerance`; or,
    as in the paper, by `loss`, whose change, squared and relative, `threshold` bounds (see `round/scale.py`).
    """

    choose: Literal["labels", "loss"] = Field(
        default="labels",
        description="how the input's size is chosen: `labels`, by what the student in use loses of the teacher's "
        "labels at a smaller one; or `loss`, the paper's way, by how far its confidence loss changes",
    )
    tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="AP50, and AP50:95, that a class may lose by a smaller input, with 95 % certainty (`labels`); a "
        "class of fewer than 100 objects may lose more, by the root of what it lacks",
    )
    threshold: float = Field(
        default=0.05,
        ge=0,
        description="largest change of the confidence loss, squared and relative to its own size, that a smaller input "
        "may bring (`loss`); at ten times that, an input is not worth a look (`labels`)",
    )
    max_steps: int = Field(default=8, ge=0, le=32, description="most steps of 0.9 that the input may shrink by")
    min_scale: float = Field(default=0.4, gt=0, le=1, description="smallest scale that is tried")
    policy: Literal["paper", "zero-intercept", "reference", "per-object"] = Field(
        default="paper", description="form of the confidence loss that scales are compared by"
    )


class GateSettings(Section):
    """`[gate]`: the candidate's AP50 must certainly exceed the incumbent's by `margin`, on `least` held-out frames.

    `certainty` is that of a one-sided bound; .5 takes the likelier of the two. No class, no part of the day and no
    false alarm may be worse by more than `worse` (see `evaluation/comparison.py`).
    """

    margin: float = Field(
        default=0.0,
        ge=-1,
        le=1,
        description="AP50 by which a candidate must exceed the model in use for certain: the lower bound of its gain",
    )
    least: int = Field(
        default=16,
        ge=1,
        description="held-out frames that are needed to judge at all; a round does not start with fewer",
    )
    certainty: float = Field(
        default=0.95, ge=0.5, lt=1, description="certainty of each one-sided bound; 0.5 takes the likelier of the two"
    )
    worse: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="AP50 by which no class of interest and no part of the day may be worse, false alarms likewise",
    )


class PublishSettings(Section):
    """`[publish]`: a manifest expires after `valid_days`; an unaccepted offer is repeated after `reoffer_s`."""

    valid_days: float = Field(
        default=365.0, gt=0, description="days until the offer of a model expires; a model that is in use runs on"
    )
    reoffer_s: float = Field(
        default=60.0, gt=0, description="seconds after which an offer that was not taken is repeated"
    )


class MetricsSettings(Section):
    """`[metrics]`: where `/metrics`, `/healthz` and `/readyz` are served; port 0 takes a free one."""

    host: Host = Field(
        default="127.0.0.1", description="address on which `/metrics`, `/healthz` and `/readyz` are served"
    )
    port: int = Field(default=9465, ge=0, le=65535, description="port of the same; 0 takes a free one")


class PageSettings(Section):
    """`[page]`: where the page is served, and to which host names beside its own; port 0 takes a free one.

    It is read-only unless `actions` allows requests from holders of the token. At most `streams` may watch at a time.
    Behind a proxy, `names` are the names that browsers know it by, `root_path` the path below which it serves the page,
    and `proxies` the addresses or networks that tell the truth about who asks (`X-Forwarded-For`).
    """

    host: Host = Field(default="127.0.0.1", description="address on which the page is served")
    port: int = Field(default=9466, ge=0, le=65535, description="port of the page; 0 takes a free one")
    names: tuple[Host, ...] = Field(
        default=(),
        description="further host names by which browsers may ask for the page, e.g. that of a proxy; without a port",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path below which a proxy serves the page, e.g. `/culling`; the proxy may strip it or not",
    )
    proxies: tuple[Network, ...] = Field(
        default=("127.0.0.1", "::1"),
        description="addresses or networks of proxies; what they say in `X-Forwarded-For` is believed, for the log",
    )
    actions: bool = Field(default=False, description="let whoever holds the token in `page.token` act on the page")
    streams: int = Field(default=200, ge=1, le=10_000, description="browsers that may watch at a time")


class CloudSettings(Settings):
    """All settings of one service; `load_settings` reads them."""

    side = "cloud"
    searched = (Path("cloud.toml"), Path("/etc/culling/cloud.toml"), Path("/var/lib/culling/cloud.toml"))

    service: ServiceSettings
    store: StoreSettings = StoreSettings()
    teacher: TeacherSettings = TeacherSettings()
    labelling: LabellingSettings = LabellingSettings()
    student: StudentSettings = StudentSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    round: RoundSettings = RoundSettings()
    resolution: ResolutionSettings = ResolutionSettings()
    gate: GateSettings = GateSettings()
    publish: PublishSettings = PublishSettings()
    metrics: MetricsSettings = MetricsSettings()
    page: PageSettings = PageSettings()

    @field_validator("round")
    @classmethod
    def _culls(cls, round_: RoundSettings, info: ValidationInfo) -> RoundSettings:
        least = CULLED * round_.kept
        if "schedule" in info.data and (new := info.data["schedule"].min_new) < least:
            raise ValueError(
                f"kept is {round_.kept}, but schedule.min_new is {new}: a round would keep over one in {CULLED} of "
                f"those it waited for; lower round.kept to {new // CULLED}, or raise schedule.min_new to {least}"
            )
        return round_

    @field_validator("gate")
    @classmethod
    def _judged(cls, gate: GateSettings, info: ValidationInfo) -> GateSettings:
        most = info.data["round"].held_out if "round" in info.data else gate.least
        if gate.least > most:
            raise ValueError(f"least is {gate.least}, but round.held_out is {most}: no round could be judged")
        return gate

    @property
    def data_dir(self) -> Path:
        """The folder that holds everything the service keeps."""
        return self.service.data_dir

    @property
    def store_url(self) -> str | URL:
        """The SQLAlchemy URL of the index."""
        return self.store.url or sqlite_url(self.data_dir / "index.sqlite")


def sqlite_url(path: Path) -> URL:
    """Return the SQLAlchemy URL of an SQLite file; built, not pasted, since a path may hold `?`, `#` and `%`."""
    return URL.create("sqlite", database=str(path))


def load_settings(path: Path | None, overrides: dict[str, Any]) -> CloudSettings:
    """Read the settings at `path`; `overrides` maps dotted keys, e.g. `service.endpoint`, to values from flags.

    Makes the data folder, for its owner alone. Raises `SettingsError` naming the key.
    """
    settings = load(CloudSettings, path, overrides)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"service.data_dir: cannot make {settings.data_dir}: {error.strerror}") from None
    return settings


def to_toml(settings: CloudSettings) -> bytes:
    """Return the settings as a file that `load_settings` reads back, for a child process; it may hold a password."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)).encode()
