from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from safetensors.torch import load_file, save_file
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.faster_rcnn.network import build, freeze
from culling.cloud.model.recipe.average import Average
from culling.cloud.model.recipe.watch import Watch
from culling.cloud.model.target import Target
from culling.cloud.model.train import Recipe, Run, train
from culling.common.errors import ModelError, TrainingError
from culling.common.frame import Detections
from support.detectors import SMALL_STUDENT


def detector() -> FasterRCNN:
    torch.manual_seed(0)
    model = build(SMALL_STUDENT)
    freeze(model, 3)
    return model


@pytest.fixture(scope="module")
def batches() -> Batcher:
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(4):
        frame = rng.integers(90, 130, (64, 64, 3)).astype(np.uint8)
        left, top = rng.integers(0, 30, 2)
        frame[top : top + 30, left : left + 24] = (250, 30, 30)
        box = np.float32([[left, top, left + 24, top + 30]])
        found = Detections(box, np.float32([1]), np.int64([0]))
        samples.append(Sample(simplejpeg.encode_jpeg(frame, quality=95), 64, 64, found, "a"))
    return Batcher(samples, 2, [(64, 64)], jitter=(1.0, 1.0))


class Poisoned(Batcher):
    """Batches of which the fourth is not a number."""

    def __call__(self, step: int, rank: int = 0) -> tuple[torch.Tensor, list[Target]]:
        images, targets = super().__call__(step, rank)
        return images * (torch.nan if step == 3 else 1), targets


def weights(model: FasterRCNN) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def stop_after(steps: int) -> tuple[Callable[[Run, float], None], Callable[[], bool]]:
    done: list[int] = []
    return (lambda run, seconds: done.append(run.step)), (lambda: len(done) >= steps)


def test_the_rate_warms_up_and_then_falls_to_zero() -> None:
    recipe = Recipe(steps=100, lr=1.0, warmup=10)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) > 0.95
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_with_a_cooldown_the_rate_stays_up_and_falls_at_the_end() -> None:
    recipe = Recipe(steps=100, lr=1.0, warmup=10, cooldown=20)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:81] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.05)


def test_training_lowers_the_loss(batches: Batcher, tmp_path: Path) -> None:
    run = train(detector(), batches, Recipe(steps=30, lr=0.02, warmup=5), tmp_path / "c.safetensors")
    totals = [sum(losses.values()) for losses in run.losses]
    assert run.step == 30 == len(totals)
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])


def test_frozen_weights_stay_and_the_others_move(batches: Batcher, tmp_path: Path) -> None:
    model = detector()
    before = weights(model)
    train(model, batches, Recipe(steps=2, warmup=1), tmp_path / "c.safetensors")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad or name.endswith("bias"), name
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items() if "running" in name)


def test_a_run_that_was_stopped_goes_on_exactly_where_it_stood(batches: Batcher, tmp_path: Path) -> None:
    recipe = Recipe(steps=6, warmup=2)
    whole, parts = detector(), detector()
    unbroken = train(whole, batches, recipe, tmp_path / "whole.safetensors")
    on_step, stop = stop_after(3)
    first = train(parts, batches, recipe, tmp_path / "parts.safetensors", on_step, stop)
    assert first.step == 3
    again = detector()
    resumed = train(again, batches, recipe, tmp_path / "parts.safetensors")
    assert resumed == unbroken
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


def test_a_resumed_run_has_the_average_of_an_unbroken_one(batches: Batcher, tmp_path: Path) -> None:
    recipe, averages = Recipe(steps=6, warmup=2), []
    for name, parts in (("whole", (6,)), ("parts", (2, 6))):
        for steps in parts:
            model = detector()
            averages.append(Average(model, 0.9))
            on_step, stop = stop_after(steps - (2 if steps > 2 and name == "parts" else 0))
            train(model, batches, recipe, tmp_path / f"{name}.safetensors", on_step, stop, average=averages[-1])
    whole, _, resumed = (average.tensors for average in averages)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert any(not torch.equal(value, dict(model.named_parameters())[name]) for name, value in whole.items())


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_watched_run_that_was_cut_short_ends_where_an_unbroken_one_does(
    batches: Batcher, tmp_path: Path, cut: int
) -> None:
    recipe, kept, runs = Recipe(20, warmup=2, cooldown=2, patience=4), [], []
    for name, parts in (("whole", [None]), ("parts", [cut, None])):
        for steps in parts:
            model = detector()
            # By the weights alone, as a look is: falling at first, then not any more.
            watch = Watch(model, lambda m=model: round(float(m.rpn.head.cls_logits.weight.detach().norm()), 2))
            on_step, stop = stop_after(steps or 10**6)
            run = train(model, batches, recipe, tmp_path / name, on_step, stop, watch=watch)
        runs.append(run)
        kept.append(watch.tensors)
    assert runs[0] == runs[1]
    assert runs[0].step == recipe.end(runs[0].looks)
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())


def test_of_a_share_a_run_that_was_stopped_ends_where_an_unbroken_one_does(batches: Batcher, tmp_path: Path) -> None:
    recipe, start = Recipe(steps=6, warmup=3, share=0.05), weights(detector())
    unbroken = detector()
    train(unbroken, batches, recipe, tmp_path / "whole.safetensors")
    for stopped in (1, 4):
        path = tmp_path / f"{stopped}.safetensors"
        on_step, stop = stop_after(stopped)
        train(detector(), batches, recipe, path, on_step, stop)
        resumed = detector()
        train(resumed, batches, recipe, path)
        assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(unbroken).items())
    moved = sum(int((value != start[name]).sum()) for name, value in weights(unbroken).items())
    learning = sum(value.numel() for value in unbroken.parameters() if value.requires_grad)
    assert 0 < moved <= 0.05 * learning + 1


def test_a_watch_looks_before_the_first_step_now_and_then_and_after_the_last(batches: Batcher, tmp_path: Path) -> None:
    model, losses = detector(), iter([9.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    run = train(
        model,
        batches,
        Recipe(40, warmup=1, cooldown=1, patience=8),
        tmp_path / "c",
        watch=Watch(model, lambda: next(losses)),
    )
    assert [step for step, _ in run.looks] == [0, 2, 4, 6, 8, 10, 11]
    assert run.step == 11, "nothing was lower for 8 steps after 2, and it cooled down for one more"


def test_a_watched_run_cools_down_by_its_end_and_the_rate_never_rises_on_the_way() -> None:
    recipe = Recipe(steps=100, lr=1.0, warmup=0, cooldown=10, patience=20)
    looks = [(0, 1.0), *((step, 0.5) for step in range(5, 26, 5))]
    assert recipe.end(looks[:-1]) == 100
    assert recipe.end(looks) == 35
    assert [recipe.rate(step, looks) for step in (24, 25, 30, 34)] == pytest.approx([1.0, 1.0, 0.5, 0.1])
    late = [(step, max(0.25, 1 - step / 100)) for step in range(0, 96, 5)]
    assert recipe.end(late) == min(100, 95 + 10), "never more than its steps"


def test_a_checkpoint_of_a_version_that_did_not_look_is_resumed(batches: Batcher, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    train(detector(), batches, Recipe(2, warmup=1), path)
    tensors = load_file(path)
    save_file(tensors, path, {"step": "2", "losses": "[]"})
    model = detector()
    watch = Watch(model, lambda: 1.0)
    run = train(model, batches, Recipe(4, warmup=1, patience=4, cooldown=0), path, watch=watch)
    assert [step for step, _ in run.looks] == [2, 3, 4]
    watch.apply()


def test_a_run_resumed_with_fewer_stages_frozen_goes_on_without_momentum(batches: Batcher, tmp_path: Path) -> None:
    path, recipe = tmp_path / "c.safetensors", Recipe(steps=4, warmup=1)
    on_step, stop = stop_after(2)
    train(detector(), batches, recipe, path, on_step, stop, average=Average(detector(), 0.9))
    thawed = detector()
    freeze(thawed, 2)
    average = Average(thawed, 0.9)
    assert train(thawed, batches, recipe, path, average=average).step == 4
    assert any(name.startswith("backbone.body.layer3") for name in average.tensors)


def test_checkpoints_are_written_as_time_passes(batches: Batcher, tmp_path: Path) -> None:
    path, present = tmp_path / "c.safetensors", []
    ticks: Iterator[float] = iter(range(0, 10_000, 10))
    recipe = Recipe(steps=5, warmup=1, checkpoint_every_s=45)
    train(
        detector(), batches, recipe, path, lambda run, seconds: present.append(path.exists()), clock=lambda: next(ticks)
    )
    assert present[0] is False
    assert present[-1] is True
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_run_is_not_run_again(batches: Batcher, tmp_path: Path) -> None:
    recipe = Recipe(steps=2, warmup=1)
    train(detector(), batches, recipe, tmp_path / "c.safetensors")
    steps: list[int] = []
    again = train(detector(), batches, recipe, tmp_path / "c.safetensors", lambda run, seconds: steps.append(run.step))
    assert (again.step, steps) == (2, [])


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(batches: Batcher, tmp_path: Path) -> None:
    path, clock = tmp_path / "c.safetensors", iter(range(10_000))
    poisoned = Poisoned(**vars(batches))
    recipe = Recipe(steps=9, warmup=1, checkpoint_every_s=1)
    with pytest.raises(TrainingError, match=r"loss is nan, its gradient nan at step 3"):
        train(detector(), poisoned, recipe, path, clock=lambda: float(next(clock)))
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())
    resumed = train(detector(), batches, Recipe(steps=4, warmup=1), path)
    assert resumed.step == 4


def test_no_checkpoint_is_named_that_was_not_written(batches: Batcher, tmp_path: Path) -> None:
    poisoned = Poisoned(**vars(batches))
    with pytest.raises(TrainingError, match=r"lower the rate and start again$"):
        train(detector(), poisoned, Recipe(steps=9, warmup=1), tmp_path / "c.safetensors")


def test_a_gradient_that_is_no_number_stops_the_run_before_it_reaches_the_weights(
    batches: Batcher, tmp_path: Path
) -> None:
    model = detector()
    model.rpn.head.cls_logits.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingError, match="its gradient"):
        train(model, batches, Recipe(steps=2, warmup=1), tmp_path / "c.safetensors")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("spoil", ["cut", "text", "other", "no-step", "momentum"])
def test_a_checkpoint_that_is_not_of_this_model_is_refused(batches: Batcher, tmp_path: Path, spoil: str) -> None:
    path, recipe = tmp_path / "c.safetensors", Recipe(steps=1, warmup=1)
    train(detector(), batches, recipe, path)
    tensors, data = load_file(path), path.read_bytes()
    metadata = {"step": "1", "losses": "[]"}
    if spoil == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif spoil == "text":
        path.write_text("no checkpoint")
    elif spoil == "other":
        save_file({"model.weight": torch.zeros(1)}, path, metadata)
    elif spoil == "no-step":
        save_file(tensors, path)
    else:
        save_file(tensors | {"momentum.0": torch.zeros(3)}, path, metadata)
    with pytest.raises(ModelError, match=r"c\.safetensors: not a checkpoint of this model") as caught:
        train(detector(), batches, recipe, path)
    assert "\n" not in str(caught.value)
