"""`[profile]`: whether labelled audits choose which frames a camera's student looks at."""

from __future__ import annotations

from pydantic import Field

from culling.common.config import Section

MOST = 240
"""The newest labelled audits that choose, of whichever student: five days at the defaults. What is lost between two
looks depends on what moves, which stays when students change."""


class ProfileSettings(Section):
    """`[profile]`: a camera's student looks at fewer frames where next to nothing is lost by it.

    The cheapest profile is taken, of rates and of differences, whose AP50 is certainly at most `tolerance` below that
    of a look at every frame, by the audits that the teacher labelled anyway; of the three cheapest, each part of the
    day has its own. A camera is judged again each time that `audits` more were labelled. One that has fewer than
    `least` begins with what the other cameras of its site chose most.
    """

    on: bool = Field(default=False, description="choose by labelled audits which frames each camera's student looks at")
    tolerance: float = Field(
        default=0.01, ge=0, le=1, description="AP50 that may be lost, at most, for a profile to be taken"
    )
    audits: int = Field(
        default=12,
        ge=1,
        description="newly labelled audits before a camera is judged again: six hours of them at the defaults",
    )
    least: int = Field(
        default=24,
        ge=5,
        le=MOST,
        description="labelled audits of a camera from which on its own decide, not those of its site; only "
        f"the newest {MOST} are looked at",
    )
