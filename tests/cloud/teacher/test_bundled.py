from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.export import run_torch
from culling.cloud.settings import TeacherPart
from culling.cloud.teacher.bundled import Bundled, YoloxNano, open_yolox_nano
from culling.cloud.teacher.cost import torch_gflops
from culling.cloud.teacher.ensemble import with_views
from culling.cloud.teacher.interface import Picture
from culling.cloud.weights.classes import CLASSES
from culling.common.errors import SettingsError
from culling.common.scaler import resize
from culling.common.video import BUNDLED_CLIP, read_frames
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


@pytest.fixture(scope="module")
def nano() -> YoloxNano:
    return open_yolox_nano(TeacherPart(kind="yolox-nano", batch=2), CLASSES)


@pytest.fixture(scope="module")
def frame() -> Picture:
    [(_, frame)] = read_frames(BUNDLED_CLIP, {400})
    return frame


def test_the_nano_finds_at_least_what_the_student_of_its_weights_finds(nano: YoloxNano, frame: Picture) -> None:
    square = resize(frame, 416, 416)
    [found] = nano.label([square])
    [student] = run_torch(nano.model, square[None])
    sure = student.above(0.1)
    assert len(sure) > 5
    for box, score, label in zip(sure.boxes, sure.scores, sure.labels, strict=True):
        same = np.abs(found.boxes - box).max(1) < 0.05
        assert (found.labels[same] == label).any()
        assert np.abs(found.scores[same] - score).min() < 1e-4


def test_the_nano_sees_people_where_they_are_in_frames_of_any_shape(nano: YoloxNano, frame: Picture) -> None:
    tall = np.full((frame.shape[1], frame.shape[1], 3), 114, np.uint8)  # grey is what it has beside a picture anyway
    tall[: len(frame)] = frame
    found = nano.label([frame, picture(200, 300), tall])
    sure, same = found[0].above(0.5), found[2].above(0.5)
    assert len(sure) >= 3
    assert {CLASSES[label] for label in sure.labels} >= {"person"}
    np.testing.assert_allclose(sure.boxes, same.boxes, atol=2)
    assert (nano.names, nano.batch, nano.label([])) == (CLASSES, 2, [])


def test_the_nano_costs_one_gflop_whatever_the_frame_and_five_in_tiles(nano: YoloxNano) -> None:
    assert nano.gflops(576, 768) == nano.gflops(96, 128) == pytest.approx(1.01, abs=0.01)
    assert with_views(nano, ("whole", "tiles 2x2")).gflops(576, 768) == pytest.approx(5.06, abs=0.05)
    assert with_views(nano, ("scale 1.5",)).gflops(576, 768) == pytest.approx(1.01 * (640 / 416) ** 2, abs=0.05)


def test_the_nano_has_no_other_file_than_its_own(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r'teacher\.file: yolox-nano has its own weights; .* kind = "onnx"'):
        open_yolox_nano(TeacherPart(kind="yolox-nano", file=tmp_path / "other.onnx"), CLASSES)
