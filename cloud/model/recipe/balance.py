"""Rare classes are drawn more often: repeat factors, as for LVIS (Gupta et al. 2019, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from culling.cloud.model.dataset import Sample

SURE = 0.4
"""A label counts from this score on."""


def balanced(samples: Sequence[Sample], drawn: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the probabilities `drawn` `(N,)` times max over a sample's classes of sqrt(`share` / the class's own).

    A class's own share is how likely a draw has it; one that has as much as `share` changes nothing.
    """
    present = [set(sample.detections.labels[sample.detections.scores >= SURE].tolist()) for sample in samples]
    own = {label: sum(drawn[i] for i, has in enumerate(present) if label in has) for label in set().union(*present)}
    factor = {label: max(1.0, float(np.sqrt(share / value))) if value else 1.0 for label, value in own.items()}
    raised = drawn * [max((factor[label] for label in has), default=1.0) for has in present]
    return np.asarray(raised / raised.sum(), np.float64)
