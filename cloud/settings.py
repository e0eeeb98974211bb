"""Every setting of the cloud service: TOML, then `CULLING_SECTION__KEY` variables, then flags.

[service]  where its state lives and where it listens     [round]       what a round labels, keeps and trains
[store]    index, quota and retention of frames           [resolution]  how far the input may shrink
[teacher]  who labels                                     [gate]        when a candidate may be published
[student]  what every camera starts with                  [publish]     how long a manifest holds
[schedule] when a round starts by itself                  [metrics]     where the counters are served
[page]     where the live page is served
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationInfo, field_validator
from sqlalchemy import URL

from culling.common.address import Endpoint, Host
from culling.common.config import Section, Settings, load
from culling.common.errors import SettingsError
from culling.common.frame import CLASSES, ClassName


class ServiceSettings(Section):
    """`[service]`: the process itself.

    `window` frames of one edge may be unacknowledged at a time; it shrinks when the teacher's queue passes
    `queue_high` frames of a camera, while the disk is slow to store a frame, and when it nears `reserve_bytes`, below
    which nothing is stored.
    """

    data_dir: Path
    endpoint: Endpoint = "tcp://127.0.0.1:5577"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    window: int = Field(default=32, ge=1, le=4096)
    queue_high: int = Field(default=4096, ge=1)
    reserve_bytes: int = Field(default=512 << 20, ge=0)


class StoreSettings(Section):
    """`[store]`: `url` is an SQLAlchemy URL (none: SQLite in the data folder); quota per camera, in bytes. Frames are
    kept for `retention_days`, the records of rounds, swaps, requests and models that are out of use for `records_days`.

    Of every five stretches of `stretch_s` seconds, the frames of one are held out: never trained on, only judged by.
    """

    url: str | None = None
    quota_bytes: int = Field(default=8 << 30, ge=1)
    retention_days: float = Field(default=30.0, gt=0)
    records_days: float = Field(default=365.0, gt=0)
    stretch_s: float = Field(default=10.0, gt=0)

    @field_validator("records_days")
    @classmethod
    def _outlive_frames(cls, days: float, info: ValidationInfo) -> float:
        if days < (frames := info.data.get("retention_days", days)):
            raise ValueError(f"is below retention_days = {frames:g}: frames would outlive the rounds they are of")
        return days


class TeacherSettings(Section):
    """`[teacher]`: `weights` is "bundled" or a file; it sees frames at `short_side` pixels (see `teacher.py`).

    When a student is compared with the labels, those of `true_score` or more count as true, and those between
    `min_score` and that count neither way; labels below `min_score` are not kept.
    """

    weights: Literal["bundled"] | Path = "bundled"
    short_side: int = Field(default=480, ge=64, le=2160)
    batch: int = Field(default=4, ge=1, le=64)
    min_score: float = Field(default=0.1, ge=0, le=1)
    true_score: float = Field(default=0.4, ge=0, le=1)


class StudentSettings(Section):
    """`[student]`: `weights` is "bundled" or a file, the model of a camera that has none; see `scaler.input_size`.

    With `int8` rounds make students in 8 bits, for edges without a GPU (see `quantise.py`); a GPU gains nothing by it.
    """

    weights: Literal["bundled"] | Path = "bundled"
    long_side: int = Field(default=640, ge=64, le=4096)
    int8: bool = False


class ScheduleSettings(Section):
    """`[schedule]`: what starts a round. With `hold` only `culling cloud rounds --start CAMERA` does.

    `min_new` hard frames since the last round; or the first of them older than `max_age_s`; or an AP50, as measured by
    audits, that lies below the student's first one by more than `drift` and the interval of both. The last two want
    `least` frames.
    """

    hold: bool = False
    min_new: int = Field(default=128, ge=1)
    max_age_s: float = Field(default=86_400.0, gt=0)
    drift: float = Field(default=0.0, ge=0, lt=1)
    least: int = Field(default=16, ge=1)


class RoundSettings(Section):
    """`[round]`: `kept` frames are trained on (n), at most `factor` times as many labelled, plus the held-out ones.

    `replay_share` of the training set comes from earlier rounds' culled sets. `frozen` counts the trunk's stages
    that keep their weights; `nice` is the niceness of its process. `interest` names
    the classes that frames are culled, scaled and gated by (none: all); every class is trained.
    """

    kept: int = Field(default=128, ge=1, le=4096)
    factor: int = Field(default=4, ge=1, le=64)
    replay_share: float = Field(default=0.25, ge=0, lt=1)
    held_out: int = Field(default=64, ge=1, le=1024)
    epochs: float = Field(default=10.0, gt=0)
    batch: int = Field(default=4, ge=1, le=64)
    lr: float = Field(default=0.01, gt=0)
    warmup: int = Field(default=20, ge=0)
    frozen: int = Field(default=1, ge=0, le=4)
    checkpoint_s: float = Field(default=30.0, gt=0)
    seed: int = 0
    threads: int = Field(default=0, ge=0, le=256)
    nice: int = Field(default=5, ge=0, le=19)
    interest: tuple[ClassName, ...] = ()

    @property
    def labels_of_interest(self) -> list[int] | None:
        """The labels of the classes of interest, None for every class."""
        return [CLASSES.index(name) for name in self.interest] or None


class ResolutionSettings(Section):
    """`[resolution]`: `threshold` bounds the change of the loss, squared and relative (see `round/scale.py`)."""

    threshold: float = Field(default=0.05, ge=0)
    max_steps: int = Field(default=8, ge=0, le=32)
    min_scale: float = Field(default=0.4, gt=0, le=1)
    policy: Literal["paper", "zero-intercept", "reference"] = "paper"


class GateSettings(Section):
    """`[gate]`: the candidate's AP must exceed the incumbent's by `margin`, on at least `least` held-out frames."""

    margin: float = Field(default=0.0, ge=-1, le=1)
    least: int = Field(default=4, ge=1)


class PublishSettings(Section):
    """`[publish]`: a manifest expires after `valid_days`; an unaccepted offer is repeated after `reoffer_s`."""

    valid_days: float = Field(default=365.0, gt=0)
    reoffer_s: float = Field(default=60.0, gt=0)


class MetricsSettings(Section):
    """`[metrics]`: where `/metrics`, `/healthz` and `/readyz` are served; port 0 takes a free one."""

    host: Host = "127.0.0.1"
    port: int = Field(default=9465, ge=0, le=65535)


class PageSettings(Section):
    """`[page]`: where the page is served, and to which host names beside its own; port 0 takes a free one.

    It is read-only unless `actions` allows requests from holders of the token. At most `streams` may watch at a time.
    """

    host: Host = "127.0.0.1"
    port: int = Field(default=9466, ge=0, le=65535)
    names: tuple[Host, ...] = ()
    actions: bool = False
    streams: int = Field(default=200, ge=1, le=10_000)


class CloudSettings(Settings):
    """All settings of one service; `load_settings` reads them."""

    service: ServiceSettings
    store: StoreSettings = StoreSettings()
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    round: RoundSettings = RoundSettings()
    resolution: ResolutionSettings = ResolutionSettings()
    gate: GateSettings = GateSettings()
    publish: PublishSettings = PublishSettings()
    metrics: MetricsSettings = MetricsSettings()
    page: PageSettings = PageSettings()

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
