from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from culling.cloud.archive.judges import hour_of
from culling.cloud.evaluation.evaluate import EvaluationResult
from culling.cloud.settings import load_settings
from culling.cloud.sheet import to_png
from culling.cloud.study.basis import camera
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.training import Scores
from culling.cloud.study.studies import forgetting as study
from culling.cloud.study.studies.forgetting import Turn, Way, forgetting, place_of, times, worst
from support.rounds import QUICK
from support.studied import make_yard, use_teacher


@pytest.fixture
def long_yard(narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A clip with a dozen frames for each of six rounds, and settings under which a round takes a second or two."""
    use_teacher(monkeypatch)
    yard = make_yard(tmp_path, narrow, frames=120)
    overrides = {f"{section}.{name}": value for section, values in QUICK.items() for name, value in values.items()}
    overrides |= {"gate.margin": 1.0, "resolution.max_steps": 0}
    own = {"service.data_dir": yard.out / "cache", "student.weights": str(yard.weights)}
    return Corpus(yard.clip, yard.labels, 72, 3, 1.0, load_settings(None, overrides | own))


def test_every_way_runs_the_loops_own_rounds_through_day_and_night_and_does_so_once(
    long_yard: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "WAYS", {"without replay": Way(replay=False), "always published": Way(gated=False)})
    monkeypatch.setattr(study, "PHASES", (("day", 10.0), ("night", 20.0)))
    monkeypatch.setattr(study, "ROUNDS", 1)
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


def test_the_frames_of_a_round_have_hours_that_no_other_light_has() -> None:
    hours = {number: {hour_of(at) for at in times(number, 80)} for number in range(1, 7)}
    night = hours[3] | hours[4]
    assert not night & (hours[1] | hours[2] | hours[5] | hours[6])
    assert all(max(times(one, 80)) < min(times(other, 80)) for one, other in pairwise(range(1, 7)))
    assert [place_of(number) for number in (1, 2, 3, 4, 5, 6)] == [
        ("day", 0, 4),
        ("day", 1, 4),
        ("night", 0, 2),
        ("night", 1, 2),
        ("day", 2, 4),
        ("day", 3, 4),
    ]
    assert Counter(place_of(number)[0] for number in range(1, 7)) == {"day": 4, "night": 2}


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
