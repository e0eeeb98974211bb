"""`[waves]`: how a student that is new to its cameras has to show that it is not worse, before it is in use."""

from __future__ import annotations

from pydantic import Field, field_validator

from culling.common.config import Section


class WavesSettings(Section):
    """`[waves]`: a new student runs beside the one in use first, and reaches a group of cameras in waves.

    Beside the one in use it looks at a share of the frames (`shadow`), and at those that may become audits. Once
    `audits` of these are labelled, both are compared on them: a student that is certainly worse, or worse by more than
    `gate.worse`, goes; any other is put in use, on probation as ever. One that cannot be judged within `deadline_s`
    goes as well.

    A student that is pushed to several cameras gets to the first share of `waves` first, and to the next one once the
    others have passed. Where more than `max_failure_rate` of them failed, no further one gets it.
    """

    shadow: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the frames on which a new student runs beside the one in use before it may take its "
        "place; 0: it takes it at once, on probation",
    )
    audits: int = Field(
        default=24,
        ge=10,
        description="labelled audits that both are compared by: half a day of them at the defaults",
    )
    deadline_s: float = Field(
        default=172_800.0, gt=0, description="seconds until a student has to go that could not be judged"
    )
    waves: tuple[float, ...] = Field(
        default=(0.1, 1.0),
        min_length=1,
        description="share of the cameras that `culling cloud push` has reached by the end of each wave; the last is 1",
    )
    max_failure_rate: float = Field(
        default=0.1, ge=0, lt=1, description="share of the cameras reached that may fail before no further one gets it"
    )

    @field_validator("waves")
    @classmethod
    def _rising(cls, waves: tuple[float, ...]) -> tuple[float, ...]:
        if not all(before < after for before, after in zip((0.0, *waves), waves, strict=False)) or waves[-1] != 1.0:
            told = ", ".join(f"{share:g}" for share in waves)
            raise ValueError(f"waves are {told}; expected shares above 0 that rise to 1, as in [0.1, 1.0]")
        return waves
