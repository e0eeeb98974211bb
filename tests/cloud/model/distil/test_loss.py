from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from torch import Tensor, nn

from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.distil.features import rounded, unpack
from culling.cloud.model.distil.loss import BACKGROUND, MARGIN, Distilled, _Picture, _ridge, bounded_loss, soft_loss
from culling.cloud.model.distil.tutor import Head, Taught, faster_rcnn_head
from culling.cloud.model.family import family_of
from culling.cloud.model.target import Target
from culling.cloud.model.train import Recipe, train
from culling.cloud.model.weights import load_bundled
from culling.cloud.teacher.bundled import Bundled
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import ModelError
from culling.common.frame import Detections
from support.detectors import picture, small_student

WIDTH, HEIGHT = 128, 96
KNOWN = torch.ones(3, dtype=torch.bool)


def lessons(count: int = 3) -> tuple[list[Sample], list[bytes | None], Head]:
    """Return pictures, the features of all but the first, and the head of the teacher that labelled them."""
    teacher = Bundled(small_student(3), short_side=96, identity="t")
    frames = [picture(HEIGHT, WIDTH, seed) for seed in range(count)]
    with teacher.tutor.watched() as seen:
        teacher.label(frames)
    found = Detections(np.float32([[10, 8, 60, 70], [70, 30, 120, 90]]), np.float32([0.9, 0.8]), np.int64([0, 2]))
    samples = [Sample(simplejpeg.encode_jpeg(one, 95), WIDTH, HEIGHT, found, f"{at}") for at, one in enumerate(frames)]
    return samples, [None, *(seen[at].pack() for at in range(1, count))], teacher.tutor.head


def losses(loss: nn.Module, model: nn.Module, batches: Batcher, step: int = 0) -> dict[str, float]:
    images, targets = batches(step)
    torch.manual_seed(step)
    return {name: float(value.detach()) for name, value in loss(model, images, targets).items()}


@pytest.fixture(scope="module")
def taught() -> tuple[list[Sample], list[bytes | None], Head]:
    return lessons()


def test_all_three_are_added_and_the_labels_count_for_half(
    taught: tuple[list[Sample], list[bytes | None], Head],
) -> None:
    samples, packed, head = taught
    model, batches = small_student().train(), Batcher(samples[1:], 6, [(96, 128)], jitter=(1.0, 1.0))
    plain = losses(family_of(model).loss, model, batches)
    both = losses(Distilled(model, head, packed[1:], batches), model, batches)
    assert both["roi_class"] == pytest.approx(plain["roi_class"] / 2, rel=1e-4)
    assert {name: both[name] for name in ("rpn_score", "rpn_box", "roi_box")} == pytest.approx(
        {name: plain[name] for name in ("rpn_score", "rpn_box", "roi_box")}
    )
    assert min(both["soft"], both["bounded"], both["hint"]) > 0


def test_a_picture_without_features_costs_what_its_labels_say(
    taught: tuple[list[Sample], list[bytes | None], Head],
) -> None:
    samples, packed, head = taught
    model, batches = small_student().train(), Batcher(samples[:1], 2, [(96, 128)])
    assert losses(Distilled(model, head, packed[:1], batches), model, batches) == losses(
        family_of(model).loss, model, batches
    )


def test_what_the_teacher_says_is_least_costly_to_say_but_for_the_background() -> None:
    said = Taught(torch.tensor([[0.0, 0.3, 0.7]]), torch.zeros(1, 3, 4), KNOWN)
    best = soft_loss(torch.tensor([[-50.0, 0.3, 0.7]]).clamp(min=1e-9).log(), said)
    for other in ([-50.0, 0.4, 0.6], [0.1, 0.3, 0.6], [-50.0, 0.2, 0.8]):
        assert soft_loss(torch.tensor([other]).clamp(min=1e-9).log(), said) > best
    nothing = Taught(torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(1, 3, 4), KNOWN)
    even = torch.zeros(1, 3)
    assert float(soft_loss(even, nothing)) == pytest.approx(BACKGROUND * np.log(3), rel=1e-5)


def test_of_a_class_that_the_teacher_does_not_know_it_teaches_nothing() -> None:
    said = Taught(torch.tensor([[0.6, 0.0, 0.4]]), torch.zeros(1, 3, 4), torch.tensor([True, False, True]))
    logits = torch.tensor([[0.2, 3.0, 0.1]], requires_grad=True)
    soft_loss(logits, said).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert logits.grad.isfinite().all()


def test_a_box_learns_until_it_is_better_than_the_teachers_by_a_margin() -> None:
    goals = torch.zeros(4, 4)
    found = torch.zeros(4, 4)
    found[:, 0] = torch.tensor([2.0, 1.0, 0.9, 0.5])
    theirs = torch.tensor([1.0, 1.0, 0.81 + MARGIN / 2, 0.25 + 2 * MARGIN])
    assert bounded_loss(found, goals, theirs).tolist() == pytest.approx([4.0, 1.0, 0.81, 0.0])


def place(mirrored: bool, left: float = 10, top: float = 20, width: float = 100, height: float = 50) -> _Picture:
    nothing, none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    placed = torch.tensor([[0.0, left, top, width, height, float(mirrored)]])
    target = Target(nothing, none, torch.zeros(0), nothing, none, placed=placed)
    features = rounded("t", (200, 400), [np.ones((1, 50, 100), np.float32)] * 4)
    return _Picture(0, target, features, [])


@pytest.mark.parametrize(("mirrored", "wanted"), [(False, [0, 0, 200, 100]), (True, [200, 0, 400, 100])])
def test_a_box_of_the_canvas_is_where_the_teacher_saw_it(mirrored: bool, wanted: list[float]) -> None:
    assert place(mirrored).to_teacher(torch.tensor([[10.0, 20, 60, 45]]))[0].tolist() == pytest.approx(wanted)


def test_boxes_that_are_mostly_on_grey_are_left_to_the_labels() -> None:
    boxes = torch.tensor([[0.0, 20, 40, 40], [0, 20, 15, 40], [20, 0, 60, 30], [20, 0, 60, 60], [200, 200, 220, 220]])
    assert place(False).shows(boxes).tolist() == [True, False, False, True, False]


def test_the_batcher_says_where_a_box_of_the_teacher_comes_to_stand() -> None:
    """By a picture whose one bright block is a label, at whatever scale, offset and side."""
    frame = np.full((96, 128, 3), 60, np.uint8)
    frame[20:60, 30:80] = 250
    found = Detections(np.float32([[30, 20, 80, 60]]), np.float32([1.0]), np.int64([0]))
    batches = Batcher([Sample(simplejpeg.encode_jpeg(frame, 95), 128, 96, found, "a")], 8, [(96, 128)], seed=5)
    features = rounded("t", (192, 256), [np.ones((1, 48, 64), np.float32)] * 4)
    sides = set()
    for target in batches(0)[1]:
        box = _Picture(0, target, features, []).to_teacher(target.boxes)
        assert box[0].tolist() == pytest.approx([60, 40, 160, 120], abs=3)
        sides.add(bool(target.placed[0, 5]))
    assert sides == {False, True}


def test_a_map_begins_as_the_nearest_that_there_is() -> None:
    rng = torch.Generator().manual_seed(0)
    mine = torch.randn(500, 6, generator=rng)
    other = mine @ torch.randn(6, 4, generator=rng) + 3
    with torch.no_grad():
        fitted = _ridge(mine, other)
        assert (fitted(mine) - other).square().mean() < 0.01 * (other - other.mean(0)).square().mean()
        assert not _ridge(mine[:0], other[:0]).weight.any()


def test_hints_pull_the_pyramid_and_only_inside_labelled_boxes(
    taught: tuple[list[Sample], list[bytes | None], Head],
) -> None:
    samples, packed, head = taught
    model, batches = small_student().train(), Batcher(samples[1:], 8, [(96, 128)], jitter=(1.0, 1.0))
    images, targets = batches(0)
    flips = [bool(target.placed[0, 5]) for target in targets]
    assert set(flips) == {False, True}
    distilled = Distilled(model, head, packed[1:], batches)
    levels: list[Tensor] = []

    def keep(module: nn.Module, given: object, out: dict[str, Tensor]) -> None:
        levels.extend(out.values())
        for level in out.values():
            level.retain_grad()

    with model.backbone.register_forward_hook(keep):
        distilled(model, images, targets)["hint"].backward()
    grad = levels[0].grad
    assert grad is not None
    moved = grad.abs().sum(1) > 0
    y, x = torch.meshgrid(4 * torch.arange(24) + 2, 4 * torch.arange(32) + 2, indexing="ij")
    for at, (target, mirrored) in enumerate(zip(targets, flips, strict=True)):
        wanted = torch.zeros(24, 32, dtype=torch.bool)
        for left, top, right, bottom in () if mirrored else target.boxes.tolist():
            wanted |= (x >= left) & (x < right) & (y >= top) & (y < bottom)
        assert torch.equal(moved[at], wanted)


def test_a_family_without_proposals_is_refused_in_a_line(
    taught: tuple[list[Sample], list[bytes | None], Head],
) -> None:
    samples, packed, head = taught
    model = load_bundled("student", family="yolox")[0]
    with pytest.raises(ModelError, match=r"round\.distil: students of the family yolox cannot be distilled"):
        Distilled(model, head, packed, Batcher(samples, 1, [(96, 128)]))


def test_a_distilled_training_that_was_killed_ends_where_an_unbroken_one_does(
    taught: tuple[list[Sample], list[bytes | None], Head], tmp_path: Path
) -> None:
    samples, packed, head = taught
    batches = Batcher(samples, 2, [(64, 96)], seed=1)
    recipe = Recipe(4, 0.01, warmup=1, checkpoint_every_s=0.0)

    def run(name: str, stop_at: int | None) -> tuple[nn.Module, Distilled, list[dict[str, float]]]:
        model = small_student().train()
        loss, asked = Distilled(model, head, packed, batches), iter(range(99))
        stop = (lambda: next(asked) >= stop_at) if stop_at is not None else (lambda: False)
        done = train(model, batches, recipe, tmp_path / name, stop=stop, loss=loss)
        return model, loss, done.losses

    whole, maps, told = run("whole", None)
    assert run("broken", 2)[2] == told[:2]
    resumed, others, again = run("broken", None)
    assert again == told
    for one, other in ((whole, resumed), (maps, others)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    fresh = Distilled(small_student().train(), head, packed, batches)
    changed = zip(maps.parameters(), fresh.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in changed), "the maps learn, too"
    assert "maps" not in " ".join(whole.state_dict()), "and stay outside"


def test_distilling_brings_a_student_nearer_to_what_its_teacher_says(
    taught: tuple[list[Sample], list[bytes | None], Head], tmp_path: Path
) -> None:
    samples, packed, head = taught
    batches = Batcher(samples[1:], 2, [(96, 128)], jitter=(1.0, 1.0), seed=1)
    apart = {}
    for way in ("labels", "both"):
        model = small_student().train()
        loss = Distilled(model, head, packed[1:], batches)
        train(model, batches, Recipe(12, 0.01, warmup=1), tmp_path / way, loss=loss if way == "both" else None)
        judged = Distilled(model, head, packed[1:], batches)
        apart[way] = sum(losses(judged, model, batches, step)["soft"] for step in range(20, 24))
    assert apart["both"] < apart["labels"]


def test_features_of_one_level_too_few_are_no_features() -> None:
    features = rounded("t", (8, 8), [np.ones((1, 2, 2), np.float32)] * 3)
    with pytest.raises(ValueError, match="other shapes"):
        unpack(features.pack())


def test_a_head_of_the_students_own_size_works_on_any_pyramid() -> None:
    head = faster_rcnn_head(small_student(), len(CLASSES))
    pyramid = [torch.zeros(1, 16, 24 >> at, 32 >> at) for at in range(4)]
    said = head([pyramid, pyramid], [(96, 128)] * 2, [torch.tensor([[0.0, 0, 9, 9]]), torch.zeros(0, 4)])
    assert said.probabilities.shape == (1, 1 + len(CLASSES))
