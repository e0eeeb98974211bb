from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from culling.cloud.evaluation.evaluate import DOUBTFUL
from culling.cloud.study.basis.corpus import Corpus
from culling.common.errors import CameraError, ModelError
from culling.common.video import FED
from support.clips import make_clip, number_of
from support.studied import FRAMES, LEARNT_FROM, WIDTH, Yard, make_yard, use_teacher


def test_only_the_first_part_is_learnt_from_and_only_the_rest_measured_by(corpus: Corpus) -> None:
    assert [shot.number for shot in corpus.shots] == list(range(LEARNT_FROM))
    assert round(FED * FRAMES) == LEARNT_FROM
    assert min(corpus.measured.numbers | corpus.measured.labels.keys()) >= LEARNT_FROM
    assert [shot.at for shot in corpus.shots[:3]] == pytest.approx([0.0, 0.1, 0.2])


def test_frames_are_thinned_evenly(yard: Yard, corpus: Corpus) -> None:
    thinned = Corpus(yard.clip, yard.labels, 3, 3, 1.0, corpus.settings)
    assert [shot.number for shot in thinned.shots] == [0, 7, 14]
    assert thinned.identity != corpus.identity


def test_what_was_scored_for_other_classes_of_interest_is_not_remembered_for_these(yard: Yard, corpus: Corpus) -> None:
    narrowed = corpus.settings.round.model_copy(update={"interest": ("car",)})
    settings = corpus.settings.model_copy(update={"round": narrowed})
    assert Corpus(yard.clip, yard.labels, LEARNT_FROM, 3, 1.0, settings).identity != corpus.identity


def test_samples_carry_the_teachers_word_on_their_own_picture(corpus: Corpus) -> None:
    samples = corpus.samples([9, 2])
    assert [number_of(sample.pixels().permute(1, 2, 0).numpy()) for sample in samples] == [9, 2]
    lefts = [5 * number % (WIDTH - WIDTH // 5) for number in (9, 2)]
    assert [sample.detections.boxes[0, 0] for sample in samples] == pytest.approx(lefts, abs=3)
    assert all(sample.detections.scores.min() >= DOUBTFUL for sample in samples)


def test_the_teacher_is_asked_about_a_frame_once(narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = use_teacher(monkeypatch)
    yard = make_yard(tmp_path, narrow)
    corpus = yard.corpus()
    assert teacher.shown == 0
    corpus.hardness([1, 2, 3])
    corpus.labels([3, 4])
    assert teacher.shown == 4
    yard.corpus().labels([1, 2, 3, 4])
    assert teacher.shown == 4


def test_losses_are_those_of_the_policy(corpus: Corpus) -> None:
    losses = {policy: corpus.losses(policy) for policy in ("paper", "zero-intercept")}
    counts = np.array([(seen.found.scores >= np.float32(0.2)).sum() for seen in corpus.seen])
    np.testing.assert_allclose(losses["paper"] - losses["zero-intercept"], counts, atol=1e-6)


def test_the_record_tells_what_of_the_clip_is_used(corpus: Corpus) -> None:
    facts = corpus.facts()
    assert (facts["clip"], facts["frame_size"], facts["input_size"]) == ("yard.mp4", "128x96", "128x96")
    assert (facts["frames_to_learn_from"], facts["frames_measured"]) == (LEARNT_FROM, 3)


def test_a_clip_of_one_frame_and_a_teacher_that_is_not_there_are_named(
    yard: Yard, corpus: Corpus, tmp_path: Path
) -> None:
    short = make_clip(tmp_path / "short.mp4", frames=1)
    with pytest.raises(CameraError, match=r"short\.mp4: its 1 frames leave none to hold back"):
        Corpus(short, yard.labels, 9, 3, 1.0, corpus.settings)
    teacher = corpus.settings.teacher.model_copy(update={"file": Path("gone.safetensors")})
    with pytest.raises(ModelError, match=r"gone\.safetensors: cannot be read"):
        Corpus(yard.clip, yard.labels, 9, 3, 1.0, corpus.settings.model_copy(update={"teacher": teacher}))
