from __future__ import annotations

import pytest

from culling.cloud.bill.sizes import teacher_size
from culling.cloud.model.teacher import Teacher
from support.detectors import small_student


@pytest.mark.parametrize("frame", [(480, 640), (1080, 1920), (96, 128), (720, 1280)])
def test_a_label_is_priced_at_the_size_that_the_teacher_sees(frame: tuple[int, int]) -> None:
    assert teacher_size(*frame, 480) == Teacher(small_student(), short_side=480).input_size(*frame)


def test_small_frames_are_hardly_enlarged() -> None:
    assert teacher_size(96, 128, 480) == (128, 192)
