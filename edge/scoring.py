"""How hard a frame is for the student in use: its confidence loss, and its worth, by which the selector decides.

The worth is the ranker's prediction if the model came with a ranker, which the cloud has proven to find hard frames
better than the loss does; otherwise it is the loss. A ranker's features travel with every forwarded frame, because the
next ranker is fitted to them.
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
    """The `loss` of one frame, its `features`, and its `worth`: the selector prefers the frame of higher worth."""

    loss: float
    worth: float
    features: WireFeatures


class Scorer:
    """Scores one camera's frames under one model, in order; scores of different models do not compare."""

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
        """Whether frames are chosen by a ranker rather than by their loss."""
        return self._ranker is not None

    def score(self, found: Detections, width: int, height: int) -> Score:
        """Return the score of the next frame, of `width` × `height` pixels.

        Raises `ValueError` for a score or label that is out of range.
        """
        loss = self._losses.loss(found)
        features = self._features.features(self._losses.relevant(found), loss, width, height)
        worth = loss if self._ranker is None else float(self._ranker.predict(features))
        return Score(loss, worth, WireFeatures(SPEC, features.tolist()))
