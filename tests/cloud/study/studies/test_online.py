from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from culling.cloud.sheet import to_png
from culling.cloud.study.basis.corpus import Corpus
from culling.cloud.study.basis.strategy import missed
from culling.cloud.study.studies.online import EAGER_SHARES, VARIANTS, best_of, online, replay
from culling.common.errors import SettingsError
from culling.common.selection.selector import SelectorSettings


def stream(seed: int, frames: int = 400) -> tuple[list[float], list[float], list[NDArray[np.uint8]]]:
    """Return losses, times ten a second, and thumbnails that are all different."""
    rng = np.random.default_rng(seed)
    losses = [float(loss) for loss in rng.gamma(2.0, 1.0, frames) * (rng.random(frames) < 0.8)]
    return (
        losses,
        [index / 10 for index in range(frames)],
        list(rng.integers(0, 256, (frames, 32, 32)).astype(np.uint8)),
    )


def settings(**changes: Any) -> SelectorSettings:
    bare = {"spacing_s": 0.0, "duplicate_change": 0.0, "audit_share": 0.0, "bootstrap": 0}
    return SelectorSettings(**{"frames_per_window": 10, "window_s": 10.0, **bare, **changes})


@pytest.mark.parametrize("seed", range(3))
def test_a_selector_that_may_wait_and_wants_nothing_else_is_the_offline_choice(seed: int) -> None:
    losses, times, thumbnails = stream(seed)
    told = replay(settings(eager_share=0.0), losses, times, thumbnails, random.Random(0))
    assert set(told.hard) == set(best_of(np.array(losses), told.windows, 10))
    assert sorted(set(told.windows)) == [0, 1, 2, 3]
    assert not told.audits
    assert max(told.delays) <= 10.1


def test_an_eager_selector_waits_less_and_forwards_no_more() -> None:
    losses, times, thumbnails = stream(0)
    told = {
        share: replay(settings(eager_share=share), losses, times, thumbnails, random.Random(0)) for share in (0.0, 1.0)
    }
    assert np.mean(told[1.0].delays) < np.mean(told[0.0].delays)
    assert len(told[1.0].hard) == len(set(told[1.0].hard)) <= 40


def test_audits_are_drawn_among_frames_that_are_not_hard() -> None:
    losses, times, thumbnails = stream(0)
    told = replay(settings(audit_share=0.2), losses, times, thumbnails, random.Random(0))
    assert len(told.audits) == 8
    assert not set(told.audits) & set(told.hard)
    assert len(told.audits) + len(told.hard) <= 40


def test_the_best_of_each_window_is_taken_and_nothing_without_loss() -> None:
    losses = np.array([3.0, 1.0, 2.0, 0.0, 0.0, 5.0])
    assert best_of(losses, [0, 0, 0, 1, 1, 1], 2) == [0, 2, 5]


def test_audits_estimate_what_is_missed() -> None:
    losses, times, thumbnails = stream(1)
    hardness = np.random.default_rng(2).random(len(losses))
    truth, told = [], []
    for seed in range(30):
        result = replay(settings(audit_share=0.5, eager_share=1.0), losses, times, thumbnails, random.Random(seed))
        rest = np.setdiff1d(np.arange(len(losses)), result.hard)
        kept, weight = hardness[result.hard], len(rest) / len(result.audits)
        truth.append(missed(kept, hardness[rest], 40))
        told.append(missed(kept, hardness[result.audits], 40, weight))
    assert np.mean(told) == pytest.approx(np.mean(truth), abs=0.05)


def test_a_study_compares_each_variant_at_each_share_and_trains_on_what_they_forward(corpus: Corpus) -> None:
    found = online(corpus, (2,), (0,))
    assert [(row["variant"], row["eager_share"]) for row in found.rows] == [
        (variant, share) for variant in VARIANTS for share in EAGER_SHARES
    ]
    exact = next(row for row in found.rows if row["variant"] == "no spacing, no audit")
    assert (exact["overlap"], exact["mass"], exact["missed_estimated"]) == (1.0, 1.0, None)
    assert all(0 <= row["overlap"] <= 1 for row in found.rows)
    assert [row["from"] for row in found.facts["students"]] == ["online, defaults", "online, no spacing", "offline"]
    assert all(row["kept"] <= 2 for row in found.facts["students"])
    assert to_png(*found.panels).startswith(b"\x89PNG")


def test_a_budget_that_holds_every_frame_is_refused(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match=r"--n 4: a budget of 16 leaves nothing of 15 to choose"):
        online(corpus, (4,), (0,))
