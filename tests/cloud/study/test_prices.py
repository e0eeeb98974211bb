from __future__ import annotations

import pytest

from culling.cloud.study.corpus import Corpus
from culling.cloud.study.cost import DAY_FRAMES
from culling.cloud.study.prices import Prices, Trained
from culling.cloud.study.training import Trials


@pytest.fixture(scope="module")
def culled(corpus: Corpus) -> Trained:
    trials, kept = Trials(corpus), [2, 4]
    search = trials.search(kept)
    labelled = list(range(8))
    return Trained("culled 2", labelled, kept, search, [trials.train(kept, 0, search.chosen)], search.chosen)


@pytest.fixture(scope="module")
def full(corpus: Corpus) -> Trained:
    everything = list(range(len(corpus)))
    return Trained("full", everything, everything, None, [Trials(corpus).train(everything, 0)], 1.0)


def test_on_the_clip_seconds_are_those_that_were_measured(corpus: Corpus, culled: Trained, full: Trained) -> None:
    prices = Prices(Trials(corpus))
    labels = [seen.seconds for seen in corpus.labels(range(len(corpus)))]
    bill, whole = prices.clip(culled), prices.clip(full)
    assert bill.student.seconds == pytest.approx(sum(seen.seconds for seen in corpus.seen))
    assert bill.teacher.seconds == pytest.approx(sum(labels[:8]))
    assert culled.search is not None
    assert bill.resolution.seconds == culled.search.seconds
    assert bill.training.seconds == culled.trials[0].seconds
    assert whole.teacher.seconds == pytest.approx(sum(labels))
    assert (whole.student.seconds, whole.resolution.seconds) == (0, 0)


def test_on_a_day_stages_cost_what_their_images_do(corpus: Corpus, culled: Trained, full: Trained) -> None:
    prices = Prices(Trials(corpus))
    each, day, whole = prices.per_image(culled), prices.day(culled), prices.day(full)
    epochs, factor = corpus.settings.round.epochs, corpus.settings.round.factor
    assert day.student.gflops == pytest.approx(DAY_FRAMES * each.student.gflops)
    assert day.teacher.gflops == pytest.approx(factor * 2 * each.teacher.gflops)
    assert day.training.gflops == pytest.approx(2 * epochs * each.training.gflops)
    assert day.resolution == prices.clip(culled).resolution, "it looks at the culled set, which is no larger"
    assert whole.teacher.gflops == pytest.approx(DAY_FRAMES * each.teacher.gflops)
    assert 0 < each.student.gflops < each.training.gflops
