"""A camera looks for other classes: labels, one round, a hot swap and the way back, with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from culling.cloud.demo.figures import lost, read_trace
from culling.cloud.store.classes.lists import ClassLists
from culling.cloud.store.registry import Registry
from culling.cloud.store.rounds import Round
from culling.cloud.weights.classes import CLASSES
from support.loop import CAMERA, Loop
from support.narrow import install_two, narrow_base

pytestmark = pytest.mark.timeout(900)  # two minutes on free cores: a graph of another shape is traced
SHOP = ("bottle", "person")
SHARED = Path(__file__).parents[3] / "shared"
TEACHER, CLIP = SHARED / "weights" / "yolox_nano.onnx", SHARED / "data" / "cameras" / "shop.mp4"
"""A detector of 80 classes as its authors publish it, and a shop: where somebody put them beside the checkout."""

SYNTHETIC = {"classes": {"shop": {"names": list(SHOP), "from": {"bottle": list(CLASSES[1:])}}}}
"""Whatever vehicle a teacher of random weights sees is a bottle."""
REAL = {
    "classes": {"shop": {"names": list(SHOP)}},
    "teacher": {"kind": "onnx", "file": str(TEACHER), "min_score": 0.1, "true_score": 0.3},
    "round": {"interest": ["person"]},
}


@pytest.fixture(params=["synthetic", pytest.param("yolox", marks=pytest.mark.soak)])
def loop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Loop]:
    real = request.param == "yolox"
    if real and not (TEACHER.exists() and CLIP.exists()):
        pytest.skip("needs yolox_nano.onnx and shop.mp4 beside the checkout")
    loop = Loop(tmp_path, narrow_base(request.config), CLIP if real else None, **(REAL if real else SYNTHETIC))
    install_two(narrow_base(request.config), tmp_path / "data")
    yield loop
    loop.close()


def finds(loop: Loop) -> tuple[str, ...]:
    """Return what the student finds that the cloud has published last, once the edge runs it; nothing until then."""
    live = Registry(loop.index).live()[CAMERA]
    swaps = Registry(loop.index).swaps([(CAMERA, live.model_id)])
    return live.artefact.classes if any(swap.outcome == "live" for swap in swaps.values()) else ()


def of_the_shop(loop: Loop) -> list[Round]:
    """Return the published rounds whose student finds the shop's classes, the newest first."""
    return [turn for turn in loop.published() if turn.stages["export"]["artefact"]["classes"] == list(SHOP)]


def test_a_camera_looks_for_other_classes_after_one_round_and_goes_back(loop: Loop) -> None:
    config = ("--config", str(loop.folder / "cloud.toml"))
    loop.culling("cloud", "hold", CAMERA, *config)  # rounds of the classes before would only take time
    loop.start("cloud")
    loop.start("edge")
    loop.wait(lambda: loop.stored() >= 12, within_s=240)
    assert "set default" in loop.culling("cloud", "classes", CAMERA, *config)

    loop.culling("cloud", "classes", CAMERA, "shop", *config)
    loop.wait(lambda: ClassLists(loop.index).of(CAMERA) == SHOP, within_s=240)
    loop.culling("cloud", "unhold", CAMERA, *config)
    loop.wait(lambda: bool(of_the_shop(loop)), within_s=600)
    loop.culling("cloud", "hold", CAMERA, *config)  # else rounds are quicker than the edge, which swaps for the newest
    loop.wait(lambda: finds(loop) == SHOP, within_s=240)
    *_, told = of_the_shop(loop)
    # the oldest: those after it may compare a student of the shop's classes with another of them
    told_of = None if "interest" in loop.cloud["round"] else ["person"]  # what is of interest is compared whole
    assert told.report.get("compared") == told_of, "by what both students find"
    assert "classes_changed" in (loop.folder / "cloud.log").read_text()
    shown = loop.culling("cloud", "classes", CAMERA, *config)
    assert "looks for bottle, person (set shop, by command)" in shown

    loop.wait(lambda: not [turn for turn in loop.rounds() if turn.state == "running"], within_s=400)
    while Registry(loop.index).live()[CAMERA].artefact.classes == SHOP:
        loop.culling("cloud", "rollback", CAMERA, *config)
    loop.wait(lambda: finds(loop) == CLASSES, within_s=120)
    assert loop.end("edge") == 0
    assert loop.end("cloud") == 0
    assert lost(loop.folder / "edge" / "spool.sqlite", loop.stored(), {}) == 0
    assert len(read_trace(loop.folder / "trace.jsonl")) >= 2, "students of both lists saw the camera"
