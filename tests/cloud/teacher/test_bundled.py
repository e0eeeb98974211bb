from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import FasterRCNN

from culling.cloud.teacher.bundled import Bundled
from culling.cloud.teacher.cost import torch_gflops
from support.detectors import picture, small_student


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return small_student()


def test_every_frame_gets_its_own_labels_in_order_whatever_the_mix_of_sizes(model: FasterRCNN) -> None:
    shapes = [(96, 128), (128, 96), (96, 128), (200, 300), (96, 128)]
    frames = [picture(*shape, seed) for seed, shape in enumerate(shapes)]
    teacher = Bundled(model, short_side=96, batch=2)
    together, alone = teacher.label(frames), [teacher.label([frame])[0] for frame in frames]
    for one, other in zip(together, alone, strict=True):
        assert len(one) > 0
        np.testing.assert_allclose(one.boxes[:5], other.boxes[:5], atol=1e-2)
        np.testing.assert_array_equal(one.labels[:5], other.labels[:5])


def test_boxes_are_in_pixels_of_the_full_frame(model: FasterRCNN) -> None:
    found = Bundled(model, short_side=64).label([picture(240, 480)])[0]
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [480, 240, 480, 240]).all()
    assert found.boxes[:, 2].max() > 240
    assert found.boxes[:, 3].max() > 120


def test_batches_hold_one_size_and_at_most_as_many_as_told(model: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    model.backbone.register_forward_pre_hook(lambda module, given: shapes.append(tuple(given[0].shape)))
    Bundled(model, short_side=64, batch=2).label([picture(64, 64)] * 5 + [picture(64, 128)])
    assert [(shape[0], *shape[2:]) for shape in shapes] == [(2, 64, 64), (2, 64, 64), (1, 64, 64), (1, 64, 128)]


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [((1080, 1920), (480, 864)), ((240, 320), (352, 480)), ((480, 640), (480, 640)), ((10, 2000), (32, 3008))],
)
def test_the_short_side_is_brought_to_the_one_wanted_but_not_enlarged_beyond_reason(
    model: FasterRCNN, frame: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert Bundled(model, short_side=480).input_size(*frame) == wanted


def test_a_pass_is_counted_on_small_inputs_and_costs_what_it_would_cost_on_its_own(model: FasterRCNN) -> None:
    teacher = Bundled(model, short_side=320)
    for size in ((160, 160), (320, 416)):  # the smaller is enlarged by half, and is counted itself
        image = torch.rand(3, *teacher.input_size(*size))
        counted = torch_gflops(lambda image=image: model([image]))
        assert counted is not None
        assert teacher.gflops(*size) == pytest.approx(counted, rel=1e-3)


def test_no_frames_have_no_labels(model: FasterRCNN) -> None:
    assert Bundled(model).label([]) == []
