"""`[cascade]`: which frames the cloud's teacher is asked about, how often, and how long a record waits for it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from culling.common.config import NAME, Section


class CascadeSettings(Section):
    """`[cascade]`: records of frames whose student is unsure wait for the teacher's answer, for `deadline_s` at most.

    It is off: `per_minute` is 0. The service has to allow it too (`labelling.verdicts_per_minute`), and a camera needs
    an output, since it is records that are answered for.
    """

    per_minute: int = Field(
        default=0,
        ge=0,
        le=600,
        description="frames of each camera that the teacher is asked about within any minute at most; 0: none",
    )
    share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="share of a camera's frames, those of highest worth to training, in which its student counts "
        "as unsure",
    )
    deadline_s: float = Field(
        default=2.0,
        ge=0.1,
        le=30,
        description="seconds that a record waits for the teacher's answer, and those behind it; then the student's "
        "stands",
    )
    cameras: tuple[Annotated[str, Field(pattern=NAME)], ...] = Field(
        default=(), description="only these cameras; an empty list: all"
    )

    def asks(self, camera: str) -> bool:
        """Return whether anything is asked about a camera's frames."""
        return self.per_minute > 0 and (not self.cameras or camera in self.cameras)
