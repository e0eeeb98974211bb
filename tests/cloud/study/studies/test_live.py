from __future__ import annotations

import pytest

from culling.cloud.control.steering.accuracy import MeasuredAccuracy
from culling.cloud.evaluation.accuracy import Accuracy, Share
from culling.cloud.sheet import to_png
from culling.cloud.study.basis import camera
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.studies import live as study
from culling.cloud.study.studies.live import NONE, TEACHER, WAYS, live
from culling.common.errors import SettingsError

MEASURED = MeasuredAccuracy("studied-1", 0.0, Accuracy(10, 10, None, {}, None, Share(0.0, 1.0)), None)


def test_every_way_goes_through_the_windows_with_the_loops_own_rounds_and_does_so_once(
    day_yard: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "WINDOW_S", 350.0)
    monkeypatch.setattr(study, "WAYS", {name: WAYS[name] for name in ("loop", "interval", "continual")})
    found = live(day_yard, (6,), (0,))
    by = {name: [row for row in found.rows if row["way"] == name] for name in (NONE, *study.WAYS, TEACHER)}
    assert all([row["number"] for row in rows] == [0, 1] for rows in by.values())
    assert {row["labels_ap50"] for row in by[TEACHER]} == {1.0}, "whose word the label file of this clip is"
    assert [row["forwarded"] for row in by["interval"]] == [row["forwarded"] for row in by["continual"]] == [6, 6]
    assert all(0 < row["forwarded"] <= 6 for row in by["loop"])
    assert by["loop"][0]["labels_ap50"] == by[NONE][0]["labels_ap50"], "no round has run yet"
    assert all(row["outcome"] and row["size"] > 0 for name in study.WAYS for row in by[name])
    trained = [row for name in study.WAYS for row in by[name] if row["steps"]]
    assert trained
    assert all(row["training_gflops"] > 0 and row["gain"] is not None for row in trained)
    last, then = by["continual"][0], by["continual"][1]
    assert (last["steps"] > 0) == (then["model"] != last["model"]), "what is not gated is always published"
    summary, verdicts, *_ = found.tables
    assert [row["way"] for row in summary.rows] == [*by]
    assert {row["way"]: row["of the gap"] for row in summary.rows}[TEACHER] == "1.000"
    for row in verdicts.rows:
        assert int(row["passed"]) + int(row["refused"]) <= int(row["rounds"]) == 2
    assert to_png(*found.panels).startswith(b"\x89PNG")
    monkeypatch.setattr(camera, "run_round", None)
    assert live(day_yard, (6,), (0,)).rows == found.rows, "it is computed once"


def test_a_paced_camera_asks_by_how_right_its_student_is(day_yard: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "WINDOW_S", 350.0)
    monkeypatch.setattr(study, "WAYS", {"paced": WAYS["paced"]})

    def halve(old: study.Paced, *_: object) -> study.Paced:
        return study.Paced(old.times / 2)

    monkeypatch.setattr(study, "decide", halve)
    monkeypatch.setattr(study.StudiedCamera, "accuracy", property(lambda self: MEASURED))
    rows = [row for row in live(day_yard, (6,), (0,)).rows if row["way"] == "paced"]
    assert [row["pace"] for row in rows] == [0.5, 0.25]
    assert rows[0]["forwarded"] > rows[1]["forwarded"] > 0


def test_no_other_way_has_a_pace(day_yard: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "WINDOW_S", 350.0)
    monkeypatch.setattr(study, "WAYS", {"random": WAYS["random"]})
    monkeypatch.setattr(study, "decide", None)
    monkeypatch.setattr(study.StudiedCamera, "accuracy", property(lambda self: MEASURED))
    assert {row["pace"] for row in live(day_yard, (6,), (0,)).rows} == {1.0}


def test_what_the_audits_told_is_held_against_the_windows_that_they_come_from(
    day_yard: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "WINDOW_S", 350.0)
    monkeypatch.setattr(study, "WAYS", {"interval": WAYS["interval"]})
    found = live(day_yard, (12,), (0,))
    told = next(table for table in found.tables if table.title == "Was the measured accuracy right?")
    assert {row["way"] for row in told.rows} == {"interval"}
    assert all(int(row["estimates"]) > 0 for row in told.rows)
    for row in (row for row in found.rows if row["way"] == "interval"):
        for each in (line["class"] for line in told.rows):
            low, value, high = (row[f"believed_{each}_{end}"] for end in ("low", "value", "high"))
            assert value is None or 0 <= low <= value <= high <= 1


def test_a_student_is_held_against_all_windows_that_its_newest_audits_span() -> None:
    day = [
        {"model": model, "audits": 40, "ap50": ap50} for model, ap50 in zip("aabb", (0.1, 0.3, 0.5, 0.9), strict=True)
    ]
    assert study._meanwhile(day, 1, "ap50") == pytest.approx(0.2), "40 audits of its own, 20 of the window before"
    assert study._meanwhile(day, 2, "ap50") == 0.5, "another student's say nothing of it"
    day[3]["audits"] = 60
    assert study._meanwhile(day, 3, "ap50") == 0.9


def test_a_clip_of_minutes_is_refused_with_what_makes_a_day_of_it(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match=r"two windows of four hours are needed; `culling study day` makes a day"):
        live(corpus, (4,), (0,))
