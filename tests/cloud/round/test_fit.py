from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import simplejpeg
import torch
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.recipe.watch import Watch
from culling.cloud.model.train import Recipe, Run
from culling.cloud.model.weights import load_weights, save_weights
from culling.cloud.round.fit import canvases, retrain, round_recipe, start_from, unseen, watch_over, why_ended
from culling.cloud.settings import RoundSettings
from culling.cloud.store.frames import StoredFrame
from culling.common.errors import ModelError, TrainingError
from culling.common.frame import Detections
from support.cloud import CAMERA, CloudState
from support.detectors import small_student
from support.rounds import context_of

WIDTH, HEIGHT = 128, 96
BATCHES = Batcher([], 4, [(64, 64)])


def train_below(limit: int, tried: list[int]) -> Any:
    """Return a training run that has memory for batches smaller than `limit`."""

    def train(model: object, batches: Batcher, recipe: Recipe, *_: object, **__: object) -> Run:
        tried.append(batches.batch)
        if batches.batch >= limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Run(recipe.steps)

    return train


@pytest.mark.parametrize(("limit", "tried"), [(5, [4]), (3, [4, 2])])
def test_a_batch_that_does_not_fit_is_halved_once(
    limit: int, tried: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("culling.cloud.round.fit.train", train_below(limit, asked))
    _, run = retrain(lambda: torch.nn.Module(), BATCHES, Recipe(7, 0.1), tmp_path / "c", lambda: False)
    assert (asked, run.step) == (tried, 7)


def test_what_does_not_fit_by_half_either_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("culling.cloud.round.fit.train", train_below(1, asked))
    with pytest.raises(TrainingError, match=r"batch of 2: lower round\.batch"):
        retrain(lambda: torch.nn.Module(), BATCHES, Recipe(7, 0.1), tmp_path / "c", lambda: False)
    assert asked == [4, 2]


def test_canvases_are_the_input_one_a_step_smaller_and_the_full_one() -> None:
    assert canvases((WIDTH, HEIGHT), 0.75, 640) == [(64, 96), (96, 128)]
    assert canvases((WIDTH, HEIGHT), 1.0, 640) == [(96, 128)]
    assert canvases((640, 480), 0.45, 640, full=0.5) == [(224, 288), (192, 256), (256, 320)]


# How long it trains


def test_a_round_that_keeps_frames_aside_ends_by_them_and_at_its_most_steps() -> None:
    recipe = round_recipe(RoundSettings(most_steps=300, patience=60, lr=0.5, warmup=3, seed=7), watched=5)
    assert (recipe.steps, recipe.patience, recipe.cooldown, recipe.look_every) == (300, 60, 30, 15)
    assert (recipe.lr, recipe.warmup, recipe.seed) == (0.5, 3, 7)
    assert recipe.end() == 300


def test_a_round_of_few_frames_takes_twice_its_patience_and_its_rate_falls_to_nothing() -> None:
    recipe = round_recipe(RoundSettings(most_steps=300, patience=60), watched=0)
    assert (recipe.steps, recipe.patience, recipe.cooldown) == (120, None, None)
    assert recipe.rate(119) < 0.001
    assert round_recipe(RoundSettings(most_steps=70, patience=60), watched=0).steps == 70


def test_the_report_says_in_words_why_a_training_ended() -> None:
    recipe = round_recipe(RoundSettings(most_steps=200, patience=40), watched=5)
    stuck = Run(60, [], [(0, 9.0), *((step, 5.0) for step in range(10, 61, 10))])
    assert why_ended(stuck, recipe, 20, 5) == (
        "plateau after 50 of at most 200 steps, 60 with the cool-down, best after 10, by 5 frames kept aside"
    )
    falling = Run(200, [], [(step, 1.0 / (step + 1)) for step in range(0, 201, 10)])
    assert why_ended(falling, recipe, 20, 5) == "all of 200 steps, best after 200, by 5 frames kept aside"
    few = why_ended(Run(80), round_recipe(RoundSettings(patience=40), 0), 12, 0)
    assert few == "80 steps: of 12 frames none can be kept aside to see when it is done"


def test_the_weights_that_were_best_are_kept_and_not_the_last(narrow: Path, tmp_path: Path) -> None:
    frame = np.full((64, 64, 3), 110, np.uint8)
    frame[10:40, 20:44] = (250, 30, 30)
    found = Detections(np.float32([[20, 10, 44, 40]]), np.float32([1.0]), np.int64([0]))
    sample = Sample(simplejpeg.encode_jpeg(frame, quality=95), 64, 64, found, "a")
    batches = Batcher([sample], 2, [(64, 64)], jitter=(1.0, 1.0))
    losses = iter([9.0, 3.0, 4.0, 4.0, 4.0])
    states: list[torch.Tensor] = []

    def watched(model: FasterRCNN) -> Watch:
        def loss() -> float:
            states.append(model.rpn.head.cls_logits.weight.detach().clone())
            return next(losses)

        return Watch(model, loss)

    def start() -> FasterRCNN:
        return load_weights(narrow / "student.safetensors")[0]

    recipe = Recipe(9, 0.01, warmup=1, cooldown=1, patience=2)
    model, run = retrain(start, batches, recipe, tmp_path / "c", watch=watched)
    assert (run.step, [loss for _, loss in run.looks]) == (4, [9.0, 3.0, 4.0, 4.0, 4.0])
    assert torch.equal(model.rpn.head.cls_logits.weight, states[1])
    assert not torch.equal(states[1], states[-1])


def test_the_loss_of_frames_kept_aside_is_the_same_as_long_as_the_weights_are(narrow: Path) -> None:
    model = load_weights(narrow / "student.safetensors")[0].train()
    rng = np.random.default_rng(0)
    found = Detections(np.float32([[4, 4, 40, 50]]), np.float32([0.9]), np.int64([0]))
    samples = [
        Sample(simplejpeg.encode_jpeg(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)), 64, 64, found, f"{at}")
        for at in range(3)
    ]
    watch = watch_over(Batcher([], 4, [(64, 64), (96, 96)]), samples, model)
    looks: list[tuple[int, float]] = []
    for step in (0, 1):
        watch.look(looks, step)
    assert looks[0][1] == looks[1][1] > 0


def seen(*rows: tuple[float, int]) -> StoredFrame:
    """Return a frame in which the teacher is so sure of such classes."""
    boxes = np.tile(np.float32([[0, 0, 9, 9]]), (len(rows), 1))
    found = Detections(boxes, np.float32([score for score, _ in rows]), np.int64([label for _, label in rows]))
    rest = {"reason": "hard", "loss": 0.0, "model_id": "m", "width": 9, "height": 9, "sha256": "", "held_out": False}
    return StoredFrame(
        "id", "gate", 0.0, guard=False, detections=Detections.empty(), features=None, labels=found, **rest
    )


def test_a_class_that_the_judges_show_and_no_frame_teaches_is_spared() -> None:
    judges = [seen((0.9, 0), (0.8, 4)), seen((0.3, 5), (0.7, 2))]
    assert unseen([seen((0.9, 0)), seen((0.3, 4))], judges, 0.4) == (2, 4)
    assert unseen([seen((0.9, 0), (0.5, 4), (0.5, 2))], judges, 0.4) == ()
    assert unseen([seen((0.9, 0))], [], 0.4) == (), "nobody has seen it here: it may be unlearnt"


def test_a_camera_whose_models_were_all_published_as_onnx_starts_where_every_camera_does(cloud: CloudState) -> None:
    onnx_only = msgspec.structs.replace(cloud.registry.live()[CAMERA].artefact, weights=None)
    cloud.enroll("yard", edge="edge-2")
    cloud.publisher.publish("yard", onnx_only, "manual")
    started, base = start_from(context_of(cloud), "yard"), start_from(context_of(cloud), CAMERA)
    for name, tensor in base.state_dict().items():
        assert torch.equal(tensor, started.state_dict()[name]), name


def test_a_round_trains_the_share_of_the_weights_that_the_settings_name() -> None:
    assert round_recipe(RoundSettings(), watched=5).share == 1
    assert round_recipe(RoundSettings(trained_share=0.05), watched=5).share == 0.05


def test_a_round_starts_from_the_weights_that_the_zoo_names(cloud: CloudState) -> None:
    path = cloud.folder / "earlier.safetensors"
    save_weights(path, small_student(seed=7), "fp16")
    earlier, _ = load_weights(path)
    weights = cloud.files.add(path.read_bytes(), "safetensors")
    started = start_from(context_of(cloud), CAMERA, weights)
    for name, tensor in earlier.state_dict().items():
        assert torch.equal(tensor, started.state_dict()[name]), name
    cloud.files.path(weights, "safetensors").write_bytes(b"rot")
    with pytest.raises(ModelError, match="damaged"):
        start_from(context_of(cloud), CAMERA, weights)
