"""`[store]`: index, quota and retention of frames."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from sqlalchemy import URL

from culling.common.config import Section


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
    features_bytes: int = Field(
        default=1 << 30,
        ge=0,
        description="bytes of the teacher's features that one camera may keep for `round.distil`, about 2 MB a frame; "
        "those of frames that teach least go first; all of them where `round.distil` is off",
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
    audit_days: float = Field(
        default=365.0,
        ge=30,
        description="days after which the index forgets who did what; at least 30, since its database refuses less",
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

    @property
    def embedded(self) -> bool:
        """Whether the index is a file, which one service works on."""
        return self.url is None or self.url.startswith("sqlite")

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


def sqlite_url(path: Path) -> URL:
    """Return the SQLAlchemy URL of an SQLite file; built, not pasted, since a path may hold `?`, `#` and `%`."""
    return URL.create("sqlite", database=str(path))
