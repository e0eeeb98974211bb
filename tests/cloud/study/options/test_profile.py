"""What the study of profiles finds on clips of which the answers are known: 25 frames a second, a label every fifth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from culling.cloud.evaluation.matching import Compared
from culling.cloud.evaluation.tally import tally
from culling.cloud.profile.options import FULL
from culling.cloud.settings import load_settings
from culling.cloud.sheet import to_png
from culling.cloud.study.options import profile as study
from culling.cloud.study.options.profile import STARTS, Shown, profile
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import InputError
from culling.common.frame import Detections
from culling.common.wire.profile import Profile
from support.cloud import detections

FRAMES, BORDER = 500, 300
EMPTY = tally(Compared(Detections.empty(), Detections.empty()), 1)


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    """What the study asks of a clip beside its frames and labels, which `film` makes up."""
    graph = SimpleNamespace(info=SimpleNamespace(classes=CLASSES))
    names = {"video": Path("yard.mp4"), "label_file": Path("yard.jsonl")}
    return SimpleNamespace(
        settings=load_settings(None, {"service.data_dir": tmp_path}), graph=graph, interest=None, **names
    )


def film(monkeypatch: pytest.MonkeyPatch, pixels: float, every: int = 5) -> None:
    """Let the clip be one in which a car of 20 pixels moves by so many a frame, and the student always finds it."""

    def car(number: int) -> Detections:
        return detections((pixels * number, 0, pixels * number + 20, 20, 0.9, 0))

    still, moves = np.full((32, 32), 90, np.uint8), pixels > 0
    shown = [Shown(number, number / 25, still + (number % 2) * 40 * moves, car(number)) for number in range(FRAMES)]
    labels = {number: car(number) for number in range(0, FRAMES, every)}
    monkeypatch.setattr(study, "_watch", lambda corpus: shown)
    monkeypatch.setattr(study, "_early_truth", lambda corpus: {at: one for at, one in labels.items() if at < BORDER})
    monkeypatch.setattr(study, "_truth", lambda corpus, first, last: {at: labels[at] for at in labels if at >= BORDER})
    monkeypatch.setattr(study, "count_frames", lambda clip: FRAMES)
    monkeypatch.setattr(study, "frame_rate", lambda clip: 25.0)


def test_where_nothing_moves_nearly_every_look_is_spared(corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    film(monkeypatch, 0.0)
    found = profile(corpus, (1,), (0,))
    [chosen] = [row for row in found.rows if row["chosen"]]
    assert chosen["believed_share"] == pytest.approx(1 / 50)
    assert chosen["share"] == pytest.approx(1 / 50, rel=0.1)
    assert (chosen["change"], chosen["faster"]) == (0.0, 1 / chosen["share"])
    [table] = found.tables
    assert [row[""] for row in table.rows] == ["every frame", "chosen", "in hindsight"]
    assert to_png(*found.panels).startswith(b"\x89PNG")


def test_where_an_object_leaves_its_box_soon_only_the_frames_before_are_spared(
    corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 3 pixels a frame a car of 20 is found by an answer of two frames ago (IoU .54), and by none of three (.38)."""
    film(monkeypatch, 3.0)
    rows = {row["profile"]: row for row in profile(corpus, (1,), (0,)).rows}
    assert rows["16 frames/s"]["chosen"]
    assert rows["16 frames/s"]["change"] == rows["16 frames/s"]["believed_change"] == 0.0
    assert rows["16 frames/s"]["faster"] == pytest.approx(25 / 16, rel=0.02)
    for name in ("8 frames/s", "4 frames/s"):
        assert rows[name]["change"] < -0.01, "it is played, and not believed"
        assert rows[name]["believed_low"] < -0.01


def test_what_is_played_is_what_stands_from_every_start(corpus: Any) -> None:
    judge, seen = study._Judge(corpus), list[tuple[int, int]]()
    shown = [Shown(number, number / 25, np.zeros((32, 32), np.uint8), Detections.empty()) for number in range(40)]
    judge.stood = lambda answer, one, truth: seen.append((answer.number, one.number)) or EMPTY  # type: ignore
    played = study._play(shown, judge, {20: Detections.empty()}, Profile(rate=5.0))
    assert seen == [(20 - (20 - start) % 5, 20) for start in range(STARTS)]
    assert played.share == pytest.approx(0.2, abs=0.02)


def test_a_student_that_is_never_right_is_spared_nothing_and_why_is_told(
    corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(monkeypatch, 0.0)
    blind = [replace(one, found=Detections.empty()) for one in study._watch(corpus)]
    monkeypatch.setattr(study, "_watch", lambda corpus: blind)
    found = profile(corpus, (), ())
    assert [row["profile"] for row in found.rows if row["chosen"]] == [str(FULL)]
    [table] = found.tables
    assert table.note is not None
    assert "the student's own AP50 is 0.00, not certainly 0.5, by 50 audits" in table.note


def test_a_clip_with_few_labels_is_refused_before_it_is_watched(corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    film(monkeypatch, 0.0, every=50)
    monkeypatch.delattr(study, "_watch")
    with pytest.raises(InputError, match=r"yard.jsonl: .*: 5 labelled audits of 5 blocks of time; 24 of 5 are needed"):
        profile(corpus, (1,), (0,))


@pytest.mark.parametrize("scores", [(), (0.3,)], ids=["no box", "only doubtful ones"])
def test_a_clip_whose_last_part_has_no_object_is_refused_before_it_is_watched(
    corpus: Any, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...]
) -> None:
    film(monkeypatch, 0.0)
    empty = detections(*((0, 0, 20, 20, score, 0) for score in scores))
    monkeypatch.setattr(study, "_truth", lambda corpus, first, last: dict.fromkeys(range(BORDER, FRAMES, 5), empty))
    monkeypatch.delattr(study, "_watch")
    with pytest.raises(InputError, match=r"no object to lose in the last 40% of yard.mp4: .* from teacher.true_score"):
        profile(corpus, (1,), (0,))


def test_objects_in_frames_that_cannot_be_decoded_are_as_none(corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    film(monkeypatch, 0.0)
    kept = [one for one in study._watch(corpus) if one.number < BORDER or one.number % 5]
    monkeypatch.setattr(study, "_watch", lambda corpus: kept)
    with pytest.raises(InputError, match="no object to lose in the last 40%"):
        profile(corpus, (1,), (0,))
