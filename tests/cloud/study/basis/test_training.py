from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from culling.cloud.model.train import Run
from culling.cloud.model.weights import load_weights
from culling.cloud.study.basis import training
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.training import Trainer


def head(corpus: Corpus, weights: str) -> torch.Tensor:
    model, _ = load_weights(corpus.memo.folder / weights)
    return model.roi_heads.box_predictor.cls_score.weight


def test_a_selection_is_trained_as_a_round_trains_and_only_once(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Trainer(corpus).train([7, 3, 5], seed=4)
    assert (done.steps, done.sizes) == (1, [(96, 128)]), "half an epoch of three frames, four a step"
    assert done.seconds == done.steps * done.step_s > 0
    monkeypatch.setattr(training, "retrain", None)
    assert Trainer(corpus).train([3, 5, 7], seed=4) == done
    assert not list(corpus.memo.folder.glob("*.checkpoint"))


def test_another_seed_gives_another_student(corpus: Corpus) -> None:
    one, other = (head(corpus, Trainer(corpus).train([3, 5, 7], seed).weights) for seed in (4, 5))
    assert not torch.equal(one, other)


def test_a_training_that_was_killed_goes_on_where_it_was(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    retrain, steps = training.retrain, []

    def killed(*arguments: Any, **named: Any) -> Any:
        calls = iter((False, True))
        retrain(*arguments, **named, stop=lambda: next(calls))
        raise KeyboardInterrupt

    def watched(*arguments: Any, on_step: Any, **named: Any) -> Any:
        def step(run: Run, seconds: float) -> None:
            steps.append(run.step)
            on_step(run, seconds)

        return retrain(*arguments, on_step=step, **named)

    monkeypatch.setattr(training, "retrain", killed)
    with pytest.raises(KeyboardInterrupt):
        Trainer(corpus).train(range(9), seed=6)
    monkeypatch.setattr(training, "retrain", watched)
    assert Trainer(corpus).train(range(9), seed=6).steps == 2
    assert steps == [2]


def test_students_are_scored_against_teacher_and_labels(corpus: Corpus) -> None:
    trainer = Trainer(corpus)
    base = trainer.score(None, 1.0)
    assert base.teacher is not None
    assert base.labels is not None
    assert base.teacher.frames == 3
    flat = base.flat()
    assert flat["teacher_ap50"] == base.teacher.ap50
    assert set(flat) == {f"{truth}_{name}" for truth in ("teacher", "labels") for name in ("ap50", "ap50_95", "voc07")}
    assert trainer.score(None, 1.0) == base


def test_the_search_for_a_scale_tells_each_step_until_one_changes_too_much(corpus: Corpus) -> None:
    whole = Trainer(corpus).search([1, 2], threshold=math.inf)
    assert [step.k for step in whole.steps] == sorted({step.k for step in whole.steps})
    assert whole.steps[0].scale == 1.0
    assert len({step.size for step in whole.steps}) == len(whole.steps) > 1
    assert whole.chosen == whole.steps[-1].scale
    assert whole.seconds > 0
    strict = Trainer(corpus).search([1, 2], threshold=-1.0)
    assert strict.chosen == 1.0
    assert len(strict.steps) == 2, "it stops at the first that changes too much"
