from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from culling.cloud.settings import load_settings
from culling.cloud.study.basis.corpus import Corpus
from support.rounds import QUICK
from support.studied import make_yard, use_teacher


@pytest.fixture
def long_yard(narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A clip with a dozen frames for each of six rounds, and settings under which a round takes a second or two."""
    return quick_corpus(narrow, tmp_path, monkeypatch)


@pytest.fixture
def day_yard(narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """The same with a frame in ten seconds, of which blocks of half a minute are held out."""
    blocks = {"store.held_out_block_s": 30.0, "store.guard_s": 0.0}
    return quick_corpus(narrow, tmp_path, monkeypatch, Fraction(1, 10), **blocks)


def quick_corpus(
    narrow: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, fps: int | Fraction = 10, **more: float
) -> Corpus:
    use_teacher(monkeypatch)
    yard = make_yard(folder, narrow, frames=120, fps=fps)
    overrides = {f"{section}.{name}": value for section, values in QUICK.items() for name, value in values.items()}
    overrides |= {"gate.margin": 1.0, "resolution.max_steps": 0}
    own = {"service.data_dir": yard.out / "cache", "student.weights": str(yard.weights)}
    return Corpus(yard.clip, yard.labels, 72, 3, 1.0, load_settings(None, overrides | own | more))
