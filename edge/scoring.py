"""How hard a frame is for the student in use: its confidence loss, and what the selector goes by.

That is the ranker's prediction where the model came with one, proven in the cloud to find hard frames better than the
loss does, and else the loss itself. The features that a ranker reads travel with every frame that leaves, because the
next one learns from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from culling.common.frame import Detections
from culling.common.selection.confidence import POLICIES, LossMeter
from culling.common.selection.features import SPEC, FeatureMeter
from culling.common.wire.manifest import Manifest
from culling.common.wire.messages import WireFeatures
from culling.edge.settings import ConfidenceSettings


@dataclass(frozen=True)
class Score:
    """The `loss` of one frame, its `features`, and its `worth`: of two frames the one that is worth more is chosen."""

    loss: float
    worth: float
    features: WireFeatures


class Scorer:
    """The scores of one camera's frames under one model, in the order they come; another model's do not compare."""

    def __init__(self, manifest: Manifest, settings: ConfidenceSettings) -> None:
        interest = [manifest.classes.index(name) for name in settings.interest if name in manifest.classes]
        self._losses = LossMeter(
            POLICIES[settings.policy], len(manifest.classes), interest, settings.min_side, settings.normalise
        )
        self._features = FeatureMeter()
        ranker = manifest.ranker if settings.ranking == "learned" else None
        self._ranker = ranker if ranker is not None and ranker.known else None

    @property
    def learned(self) -> bool:
        """Whether a ranker's predictions are gone by."""
        return self._ranker is not None

    def score(self, found: Detections, width: int, height: int) -> Score:
        """Return the score of the next frame, of `width` × `height` pixels.

        Raises `ValueError` for a score or label that is out of range.
        """
        loss = self._losses.loss(found)
        features = self._features.features(self._losses.relevant(found), loss, width, height)
        worth = loss if self._ranker is None else float(self._ranker.predict(features))
        return Score(loss, worth, WireFeatures(SPEC, features.tolist()))
