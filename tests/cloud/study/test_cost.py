from __future__ import annotations

import pytest

from culling.cloud.bill.cost import DAY_FRAMES
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.strategy import FACTOR
from culling.cloud.study.basis.training import Trainer
from culling.cloud.study.cost import Prices, TrainedSelection


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
    assert bill.parts["edge"].seconds == pytest.approx(sum(seen.seconds for seen in corpus.seen))
    assert bill.parts["labels"].seconds == pytest.approx(sum(labels[:8]))
    assert culled.search is not None
    assert bill.parts["resolution"].seconds == culled.search.seconds
    assert bill.parts["train"].seconds == culled.students[0].seconds
    assert whole.parts["labels"].seconds == pytest.approx(sum(labels))
    assert whole.parts.keys() == {"labels", "train"}


def test_on_a_day_stages_cost_what_their_images_do(
    corpus: Corpus, culled: TrainedSelection, full: TrainedSelection
) -> None:
    prices = Prices(Trainer(corpus))
    each, day, whole = prices.per_image(culled), prices.day(culled), prices.day(full)
    epochs = corpus.epochs
    assert day.parts["edge"].gflops == pytest.approx(DAY_FRAMES * each.student.gflops)
    assert day.parts["labels"].gflops == pytest.approx(FACTOR * 2 * each.teacher.gflops)
    assert day.parts["train"].gflops == pytest.approx(2 * epochs * each.training.gflops)
    assert day.parts["resolution"] == prices.clip(culled).parts["resolution"], (
        "it looks at the culled set, which is no larger"
    )
    assert whole.parts["labels"].gflops == pytest.approx(DAY_FRAMES * each.teacher.gflops)
    assert 0 < each.student.gflops < each.training.gflops


def test_a_drawn_set_that_stands_for_all_frames_has_their_price(corpus: Corpus, full: TrainedSelection) -> None:
    prices, drawn = Prices(Trainer(corpus)), [0, 3, 5, 7]
    stand = TrainedSelection("random 4", drawn, drawn, None, [Trainer(corpus).train(drawn, 0)], 1.0)
    bill, whole = prices.clip(stand), prices.clip(full)
    assert bill.parts["labels"].gflops == whole.parts["labels"].gflops
    assert bill.parts["train"].gflops == pytest.approx(
        corpus.epochs * len(corpus) * prices.per_image(stand).training.gflops
    )
