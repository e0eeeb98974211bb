from __future__ import annotations

import numpy as np
import pytest
import torch

from culling.cloud.model.losses import Target
from culling.cloud.study.corpus import Corpus
from culling.cloud.study.cost import (
    DAY_FRAMES,
    Bill,
    Cost,
    PerImage,
    Prices,
    TrainedSelection,
    culled_bill,
    forward_gflops,
    full_bill,
    training_gflops,
)
from culling.cloud.study.strategy import FACTOR
from culling.cloud.study.training import Trainer
from support.detectors import picture, small_student

EACH = PerImage(student=Cost(0.01, 10.0), teacher=Cost(0.5, 100.0), training=Cost(0.1, 30.0))


def test_full_training_pays_the_teacher_and_every_epoch_for_every_frame() -> None:
    bill = full_bill(1000, 20, EACH)
    assert bill.total == Cost(1000 * 0.5 + 1000 * 20 * 0.1, 1000 * 100.0 + 1000 * 20 * 30.0)
    assert bill.student == Cost()


def test_the_ratios_of_a_culled_set_are_those_worked_out_by_hand() -> None:
    full = full_bill(1000, 20, EACH)  # 2500 s, 700 TFLOPs
    culled = culled_bill(1000, 40, 10, 20, EACH, resolution=Cost(5.0, 1000.0))
    # student 10 s, teacher 20 s, optResolution 5 s, training 20 s
    assert full.total.over(culled.total).seconds == pytest.approx(2500 / 55)
    assert full.total.over(culled.incremental).seconds == pytest.approx(2500 / 45)
    # student 10,000, teacher 4,000, optResolution 1,000, training 6,000 GFLOPs
    assert full.total.over(culled.total).gflops == pytest.approx(700_000 / 21_000)
    assert full.total.over(culled.incremental).gflops == pytest.approx(700_000 / 11_000)


def test_the_papers_own_hours_give_the_papers_own_ratio() -> None:
    full = Bill(teacher=Cost(8.0), training=Cost(96.0))
    culled = Bill(student=Cost(1.54), teacher=Cost(0.33), training=Cost(0.28))
    assert full.total.over(culled.total).seconds == pytest.approx(48, abs=1)
    assert full.total.over(culled.incremental).seconds == pytest.approx(170, abs=1)


def test_no_more_frames_are_labelled_than_there_are() -> None:
    assert culled_bill(30, 40, 10, 1, EACH, Cost()).teacher == EACH.teacher * 30


def test_nothing_is_infinitely_cheaper() -> None:
    assert Cost(1.0, 1.0).over(Cost()) == Cost(float("inf"), float("inf"))


def test_computing_is_counted_by_what_the_input_holds() -> None:
    model = small_student()
    one, four = (forward_gflops(model, picture(side, side)) for side in (64, 128))
    assert 0 < one < four < 5 * one


def test_a_training_step_computes_more_than_looking_and_batches_do_not_matter() -> None:
    model = small_student()
    target = Target(
        torch.tensor([[4.0, 4, 40, 40]]),
        torch.tensor([1]),
        torch.ones(1),
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
    )
    image = torch.from_numpy(picture(64, 64)).permute(2, 0, 1)[None] / 255
    one = training_gflops(model, image, [target])
    assert one > 1.5 * forward_gflops(model, picture(64, 64))
    assert training_gflops(model, image.repeat(2, 1, 1, 1), [target] * 2) == pytest.approx(one, rel=0.1)
    assert np.isfinite(one)


@pytest.fixture(scope="module")
def culled(corpus: Corpus) -> TrainedSelection:
    trainer, kept = Trainer(corpus), [2, 4]
    search = trainer.search(kept)
    labelled = list(range(8))
    return TrainedSelection("culled 2", labelled, kept, search, [trainer.train(kept, 0, search.chosen)], search.chosen)


@pytest.fixture(scope="module")
def full(corpus: Corpus) -> TrainedSelection:
    everything = list(range(len(corpus)))
    return TrainedSelection("full", everything, everything, None, [Trainer(corpus).train(everything, 0)], 1.0)


def test_on_the_clip_seconds_are_those_that_were_measured(
    corpus: Corpus, culled: TrainedSelection, full: TrainedSelection
) -> None:
    prices = Prices(Trainer(corpus))
    labels = [seen.seconds for seen in corpus.labels(range(len(corpus)))]
    bill, whole = prices.clip(culled), prices.clip(full)
    assert bill.student.seconds == pytest.approx(sum(seen.seconds for seen in corpus.seen))
    assert bill.teacher.seconds == pytest.approx(sum(labels[:8]))
    assert culled.search is not None
    assert bill.resolution.seconds == culled.search.seconds
    assert bill.training.seconds == culled.students[0].seconds
    assert whole.teacher.seconds == pytest.approx(sum(labels))
    assert (whole.student.seconds, whole.resolution.seconds) == (0, 0)


def test_on_a_day_stages_cost_what_their_images_do(
    corpus: Corpus, culled: TrainedSelection, full: TrainedSelection
) -> None:
    prices = Prices(Trainer(corpus))
    each, day, whole = prices.per_image(culled), prices.day(culled), prices.day(full)
    epochs = corpus.epochs
    assert day.student.gflops == pytest.approx(DAY_FRAMES * each.student.gflops)
    assert day.teacher.gflops == pytest.approx(FACTOR * 2 * each.teacher.gflops)
    assert day.training.gflops == pytest.approx(2 * epochs * each.training.gflops)
    assert day.resolution == prices.clip(culled).resolution, "it looks at the culled set, which is no larger"
    assert whole.teacher.gflops == pytest.approx(DAY_FRAMES * each.teacher.gflops)
    assert 0 < each.student.gflops < each.training.gflops
