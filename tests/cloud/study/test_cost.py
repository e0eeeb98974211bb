from __future__ import annotations

import numpy as np
import pytest
import torch

from culling.cloud.model.losses import Target
from culling.cloud.study.cost import Bill, Cost, PerImage, culled_bill, forward_gflops, full_bill, training_gflops
from support.detectors import picture, small_student

EACH = PerImage(student=Cost(0.01, 10.0), teacher=Cost(0.5, 100.0), training=Cost(0.1, 30.0))


def test_full_training_pays_the_teacher_and_every_epoch_for_every_frame() -> None:
    bill = full_bill(1000, 20, EACH)
    assert bill.total == Cost(1000 * 0.5 + 1000 * 20 * 0.1, 1000 * 100.0 + 1000 * 20 * 30.0)
    assert bill.student == Cost()


def test_the_ratios_of_a_culled_set_are_those_worked_out_by_hand() -> None:
    full = full_bill(1000, 20, EACH)  # 2500 s, 700 TFLOPs
    culled = culled_bill(1000, 40, 10, 20, EACH, resolution=Cost(5.0, 1000.0))
    # student 10 s, teacher 20 s, optResolution 5 s, training 20 s
    assert full.total.over(culled.total).seconds == pytest.approx(2500 / 55)
    assert full.total.over(culled.incremental).seconds == pytest.approx(2500 / 45)
    # student 10,000, teacher 4,000, optResolution 1,000, training 6,000 GFLOPs
    assert full.total.over(culled.total).gflops == pytest.approx(700_000 / 21_000)
    assert full.total.over(culled.incremental).gflops == pytest.approx(700_000 / 11_000)


def test_the_papers_own_hours_give_the_papers_own_ratio() -> None:
    full = Bill(teacher=Cost(8.0), training=Cost(96.0))
    culled = Bill(student=Cost(1.54), teacher=Cost(0.33), training=Cost(0.28))
    assert full.total.over(culled.total).seconds == pytest.approx(48, abs=1)
    assert full.total.over(culled.incremental).seconds == pytest.approx(170, abs=1)


def test_no_more_frames_are_labelled_than_there_are() -> None:
    assert culled_bill(30, 40, 10, 1, EACH, Cost()).teacher == EACH.teacher * 30


def test_nothing_is_infinitely_cheaper() -> None:
    assert Cost(1.0, 1.0).over(Cost()) == Cost(float("inf"), float("inf"))


def test_computing_is_counted_by_what_the_input_holds() -> None:
    model = small_student()
    one, four = (forward_gflops(model, picture(side, side)) for side in (64, 128))
    assert 0 < one < four < 5 * one


def test_a_training_step_computes_more_than_looking_and_batches_do_not_matter() -> None:
    model = small_student()
    target = Target(torch.tensor([[4.0, 4, 40, 40]]), torch.tensor([1]), torch.ones(1), torch.zeros(0, 4))
    image = torch.from_numpy(picture(64, 64)).permute(2, 0, 1)[None] / 255
    one = training_gflops(model, image, [target])
    assert one > 1.5 * forward_gflops(model, picture(64, 64))
    assert training_gflops(model, image.repeat(2, 1, 1, 1), [target] * 2) == pytest.approx(one, rel=0.1)
    assert np.isfinite(one)
