"""`[pace]`: whether measured accuracy steers how many frames a camera forwards."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from culling.common.config import Section


class PaceSettings(Section):
    """`[pace]`: a camera forwards fewer frames while its student is certainly right, and more while it is not.

    Each time that `audits` more were labelled, the candidates of the next windows are halved where measured accuracy is
    certainly above `halve_above`, and doubled where it is certainly below `double_below`, or certainly fell: the whole
    interval must lie there. They stay between `least` and `most` times what the budget in the edge's settings leaves
    for them. Audits are never paced, and limits of a day stay what they are. A budget that an operator gave a camera
    goes before its pace until it is given back.
    """

    on: bool = Field(
        default=False, description="steer how many frames each camera forwards by its student's measured accuracy"
    )
    halve_above: float = Field(
        default=0.9, ge=0, le=1, description="AP50 that the whole interval lies above where candidates are halved"
    )
    double_below: float = Field(
        default=0.8, ge=0, le=1, description="AP50 that the whole interval lies below where candidates are doubled"
    )
    audits: int = Field(
        default=12,
        ge=1,
        description="newly labelled audits of the student in use before a camera is judged again: six hours of them at "
        "the defaults",
    )
    least: float = Field(
        default=0.125, gt=0, le=1, description="fewest candidates, as a multiple of what its budget leaves for them"
    )
    most: float = Field(default=4.0, ge=1, le=64, description="most candidates, as a multiple of the same")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.double_below >= self.halve_above:
            raise ValueError(
                f"double_below is {self.double_below}, which is not below halve_above ({self.halve_above})"
            )
        return self
