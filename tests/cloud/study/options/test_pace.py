from __future__ import annotations

import pytest

from culling.cloud.control.steering.accuracy import MeasuredAccuracy
from culling.cloud.evaluation.accuracy import Accuracy, Estimate
from culling.cloud.sheet import to_png
from culling.cloud.study.basis import camera
from culling.cloud.study.basis.camera import StudiedCamera
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.phases import Phases
from culling.cloud.study.options import pace as study
from culling.cloud.study.options.pace import pace
from culling.common.errors import SettingsError


def believe(monkeypatch: pytest.MonkeyPatch, low: float, high: float) -> None:
    """Let every student be believed to be so right."""
    ap50 = Estimate((low + high) / 2, low, high)
    accuracy = Accuracy(4, 4, ap50, {}, None, Estimate(0.0, 0.0, 1.0))
    told = property(lambda self: MeasuredAccuracy(self.live.model_id, 0.0, accuracy, None))
    monkeypatch.setattr(StudiedCamera, "accuracy", told)


def judged_by(corpus: Corpus, audits: int) -> None:
    settings = corpus.settings.pace.model_copy(update={"audits": audits, "most": 2.0})
    corpus.settings = corpus.settings.model_copy(update={"pace": settings})


def test_a_student_that_is_surely_right_is_asked_about_half_as_often_and_others_have_as_many_labels_or_more(
    long_yard: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "COURSE", Phases(1, (("day", 10.0), ("night", 20.0))))
    believe(monkeypatch, 0.95, 0.99)
    judged_by(long_yard, 4)
    found = pace(long_yard, (4,), (0,))
    assert [(row["way"], row["number"], row["light"], row["forwarded"], row["pace"]) for row in found.rows] == [
        ("fixed", 1, "day", 4, 0.5),
        ("fixed", 2, "night", 4, 0.25),
        ("paced", 1, "day", 4, 0.5),
        ("paced", 2, "night", 2, 0.5),  # two labels are too few to judge it again
        ("as many", 1, "day", 3, 1.0),
        ("as many", 2, "night", 3, 0.5),
    ]
    assert all(row["teacher_ap50"] is not None and row["labels_ap50"] is not None for row in found.rows)
    summary, _ = found.tables
    assert [row["labels"] for row in summary.rows] == ["8 (+0%)", "6 (-25%)", "6 (-25%)"]
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(camera, "run_round", None)
    assert pace(long_yard, (4,), (0,)).rows == found.rows, "it is computed once"


def test_too_few_frames_to_judge_a_pace_by_are_refused(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match=r"--n 4: a pace is judged by 12 frames \(pace\.audits\)"):
        pace(corpus, (4,), (0,))
