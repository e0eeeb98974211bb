from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from support.scripts import loaded

SCRIPT = Path(__file__).parents[2] / "examples" / "confidence_loss.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return loaded(SCRIPT)


def test_it_plays_the_bundled_clip_and_writes_a_plot(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "loss.png"
    example.main(["--step", "80", "--scale", "0.4", "--budget", "1", "--out", str(out)])
    assert out.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.startswith("looked at 10 frames; ")


def test_no_window_sends_more_than_its_budget_and_no_frame_twice(example: ModuleType) -> None:
    losses = [float(index * 7 % 40) for index in range(200)]
    seen = example.Seen(at=[index / 2 for index in range(200)], losses=losses)
    seen.thumbnails = [example.np.full((32, 32), index * 37 % 251, "u1") for index in range(200)]
    left, closed = example.choose(seen, budget=5)
    sent = [index for frames in left.values() for index in frames]
    assert len(sent) == len(set(sent))
    assert 0 < len(sent) <= 5 * example.WINDOWS
    assert len(closed) == example.WINDOWS
