from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import FasterRCNN

from culling.cloud.model.distil.features import LEVELS, unpack
from culling.cloud.model.distil.tutor import NONE, Head, faster_rcnn_head, to_pyramid
from culling.cloud.teacher.bundled import Bundled
from culling.cloud.weights.classes import CLASSES
from support.detectors import picture, small_student


@pytest.fixture(scope="module")
def teacher() -> Bundled:
    return Bundled(small_student(), short_side=96, batch=2, identity="b" * 64)


def saying(*rows: list[float]) -> Head:
    """A head of three names that says the same of every box, and moves it by the number of the name."""

    def judge(pyramids: object, sizes: object, boxes: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.tensor(rows)
        return found, torch.arange(4.0)[None, :, None].expand(len(rows), 4, 4)

    return Head(judge, (0, 1, 2), 3)  # type: ignore[arg-type]


def apart(found: torch.Tensor, own: torch.Tensor) -> float:
    """Return how far one is from the other, of what the other varies: features of 8 bits leave some hundredths, and the
    farthest of many values depends on how a CPU adds up.
    """
    return float((found - own).pow(2).mean().sqrt() / own.std())


def test_every_frame_gets_its_own_features_whatever_the_mix_of_sizes(teacher: Bundled) -> None:
    shapes = [(96, 128), (128, 96), (96, 128), (96, 128)]
    frames = [picture(*shape, seed) for seed, shape in enumerate(shapes)]
    with teacher.tutor.watched() as seen:
        together = teacher.label(frames)
    for at, frame in enumerate(frames):
        with teacher.tutor.watched() as alone:
            [found] = teacher.label([frame])
        assert seen[at].size == alone[0].size == teacher.input_size(*frame.shape[:2])
        assert len(found) == len(together[at])
        for one, other in zip(seen[at].levels, alone[0].levels, strict=True):
            assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    assert not teacher.model.backbone._forward_hooks


def test_a_teacher_that_is_not_watched_keeps_nothing(teacher: Bundled) -> None:
    with teacher.tutor.watched() as seen:
        pass
    teacher.label([picture(96, 128)])
    assert not seen


def test_the_head_says_of_the_features_what_the_detector_says_of_the_picture(teacher: Bundled) -> None:
    model, image = teacher.model, picture(96, 128, 3)
    assert isinstance(model, FasterRCNN)
    boxes = torch.tensor([[8.0, 8, 60, 70], [40, 20, 120, 90], [0, 0, 30, 30]])
    with teacher.tutor.watched() as seen:
        teacher.label([image])
    features = unpack(seen[0].pack())
    said = teacher.tutor.head([to_pyramid(features, torch.device("cpu"))], [features.size], [boxes])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.transform.image_mean, model.transform.image_std))
    with torch.no_grad():
        levels = model.backbone(((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None])
        own = dict(zip("0123", list(levels.values())[:LEVELS], strict=True))
        pooled = model.roi_heads.box_head(model.roi_heads.box_roi_pool(own, [boxes], [(96, 128)]))
        logits, offsets = model.roi_heads.box_predictor(pooled)
    assert said.known.all()
    assert apart(said.probabilities, logits.softmax(1)) < 0.1
    assert apart(said.offsets[:, 1:], offsets.unflatten(1, (-1, 4))[:, 1:]) < 0.1


def test_names_of_one_class_add_up_and_those_of_none_are_background() -> None:
    head = saying([0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.2, 0.0]).meaning([1, 1, NONE], 2)
    said = head([], [], [])
    assert torch.allclose(said.probabilities, torch.tensor([[0.5, 0.0, 0.5], [0.7, 0.0, 0.3]]))
    assert said.known.tolist() == [True, False, True], "the teacher has no name for the first class"
    assert said.offsets[:, 2, 0].tolist() == [2, 2], "those of the likelier name"
    again = head.meaning([NONE, 3], 4)([], [], [])
    assert again.known.tolist() == [True, False, False, False, True]


def test_a_head_keeps_none_of_the_teachers_trunk() -> None:
    head = faster_rcnn_head(small_student(), len(CLASSES))
    held = [cell.cell_contents for cell in head.judge.__closure__ or ()]
    assert [type(one).__name__ for one in held] == ["RoIHeads"]
