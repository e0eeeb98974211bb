"""The learned selector's rule: how wrong the student is on a frame, predicted from its outputs (after ORIC, SEC 2024).

It is fitted in the cloud to a camera's own frames that the teacher labelled, and travels inside the signed manifest. At
the edge it costs one product of two short vectors.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from culling.common.selection.features import FEATURES, SPEC
from culling.common.wire.messages import MAX_FEATURES, Count, Real

Vector = Annotated[tuple[Real, ...], Meta(min_length=1, max_length=MAX_FEATURES)]


class Ranker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A linear rule over the features of `spec`; each is held within `low` and `high`, the range it was fitted on.

    Raises `ValueError` where the vectors differ in length.
    """

    spec: Count
    low: Vector
    high: Vector
    weights: Vector
    bias: Real

    def __post_init__(self) -> None:
        if not len(self.low) == len(self.high) == len(self.weights):
            raise ValueError("a ranker's vectors differ in length")

    @property
    def known(self) -> bool:
        """Whether it was fitted to the features that this version computes."""
        return self.spec == SPEC and len(self.weights) == len(FEATURES)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how wrong the student is predicted to be on frames with those features, `(..., F)` to `(...)`.

        It is in the unit of what the ranker was fitted to, and not cut to that unit's range: frames beyond its end
        would all rank the same.
        """
        held = np.clip(features, self.low, self.high)
        return np.asarray(held @ np.asarray(self.weights) + self.bias)
