from __future__ import annotations

import pytest

from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.sheet import to_png
from culling.cloud.study.basis import camera
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.phases import Phases
from culling.cloud.study.basis.training import Scores
from culling.cloud.study.studies import forgetting as study
from culling.cloud.study.studies.forgetting import Turn, Way, forgetting, worst


def test_every_way_runs_the_loops_own_rounds_through_day_and_night_and_does_so_once(
    long_yard: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "WAYS", {"without replay": Way(replay=False), "always published": Way(gated=False)})
    monkeypatch.setattr(study, "COURSE", Phases(1, (("day", 10.0), ("night", 20.0))))
    found = forgetting(long_yard, (4,), (0,))
    rows = found.rows
    assert [(row["way"], row["number"], row["light"], row["outcome"], row["model"]) for row in rows] == [
        ("without replay", 0, "", "", "studied-1"),
        ("without replay", 1, "day", "refused", "studied-1"),
        ("without replay", 2, "night", "refused", "studied-1"),
        ("always published", 0, "", "", "studied-1"),
        ("always published", 1, "day", "refused", "studied-2"),
        ("always published", 2, "night", "refused", "studied-3"),
    ]
    assert [(row["kept"], row["replayed"]) for row in rows if row["number"]] == [(4, 0), (4, 0), (4, 1), (4, 1)]
    assert all(row["day_teacher_ap50"] is not None and row["night_labels_ap50"] is not None for row in rows)
    assert {(row["way"], row["by"], row["light"]) for row in found.facts["losses"]} == {
        (way, truth, "day") for way in ("without replay", "always published") for truth in ("teacher", "labels")
    }
    assert to_png(*found.panels[:2]).startswith(b"\x89PNG")
    monkeypatch.setattr(camera, "run_round", None)
    assert forgetting(long_yard, (4,), (0,)).rows == rows


def turn(number: int, day: float | None, night: float) -> Turn:
    day_, night_ = (
        Scores(None if value is None else EvaluationResult(value, value, value, {}, 9), None) for value in (day, night)
    )
    return Turn(number, "", "", "", "", 0, 0, 0, 0, day_, night_)


def test_what_was_lost_is_held_against_the_light_when_it_became_old() -> None:
    turns = [turn(number, day, night) for number, (day, night) in enumerate(HELD)]
    loss = worst(turns, "teacher")
    assert loss is not None
    assert (loss.light, loss.number) == ("night", 6)
    assert loss.fell == pytest.approx(0.1)
    assert worst(turns, "labels") is None


HELD = [(0.2, 0.1), (0.5, 0.0), (0.6, 0.05), (0.55, 0.3), (0.7, 0.5), (0.3, 0.45), (0.8, 0.4)]
"""By day only .05 of the .6 are lost while the night is learnt; that of the first phase at night was never learnt."""
