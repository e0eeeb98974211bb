from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from numpy.typing import NDArray

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.model.dataset import Batcher, Sample
from culling.cloud.model.pretrain import probabilities
from culling.cloud.model.weights import load_weights
from culling.common.cli import main
from culling.common.errors import InputError, ModelError, SettingsError, StorageError
from culling.common.frame import Detections
from culling.common.process.lock import only_one

SIZE = 64


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with four labelled photographs of one bright block each."""
    rng, labels = np.random.default_rng(0), []
    for number in range(4):
        picture = rng.integers(90, 130, (SIZE, SIZE, 3)).astype(np.uint8)
        picture[10:40, 12 + number : 36 + number] = (250, 30, 30)
        (tmp_path / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(picture))
        box = np.array([[12 + number, 10, 36 + number, 40]], np.float32)
        found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64))
        labels.append(Label(f"{number}.jpg", 0, SIZE, SIZE, found, ""))
    write_labels(tmp_path / "labels.jsonl", labels)
    return tmp_path


def command(data: Path, out: Path, *more: str) -> list[str]:
    where = ["--labels", str(data / "labels.jsonl"), "--images", str(data), "--out", str(out)]
    return ["pretrain", "student", *where, "--canvas", "64x64", "--batch", "1", "--frozen", "4", "--lr", "0.001", *more]


def test_pretraining_leaves_weights_a_curve_and_no_checkpoint(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = data / "student.safetensors"
    assert main(command(data, out, "--steps", "3", "--fpn-width", "16", "--head-width", "24")) == 0
    model, classes = load_weights(out)
    assert (model.backbone.out_channels, model.roi_heads.box_head.fc6.out_features) == (16, 24)
    assert classes[0] == "person"
    assert not model.training
    assert out.with_suffix(".csv").read_text().startswith("step,rpn_score,rpn_box,roi_class,roi_box\n1,")
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert not out.with_suffix(".checkpoint").exists()
    assert "step 3/3, loss" in capfd.readouterr().err


def test_a_run_with_every_part_of_the_recipe_writes_the_average(data: Path) -> None:
    plain, averaged = data / "plain.safetensors", data / "averaged.safetensors"
    shares = {
        "mosaic": 0.5,
        "fill": 0.5,
        "stretch": 0.3,
        "paste": 1,
        "colour": 1,
        "noise": 1,
        "tilt": 1,
        "balance": 0.5,
    }
    changes = [word for name, share in shares.items() for word in (f"--{name}", str(share))]
    recipe = ["--steps", "3", "--cooldown", "1", "--processes", "1", *changes]
    assert main(command(data, plain, *recipe)) == 0
    assert main(command(data, averaged, *recipe, "--average", "0.9")) == 0
    one, other = (load_weights(path)[0].state_dict() for path in (plain, averaged))
    assert not torch.equal(one["rpn.head.conv.0.0.weight"], other["rpn.head.conv.0.0.weight"])
    assert torch.equal(one["backbone.body.conv1.weight"], other["backbone.body.conv1.weight"])


def test_a_run_killed_by_kill_9_ends_in_the_very_weights_of_an_unbroken_one(data: Path) -> None:
    whole, broken = data / "whole.safetensors", data / "broken.safetensors"
    steps = ["--steps", "4", "--checkpoint-every", "1", "--fpn-width", "16", "--head-width", "24"]
    assert main(command(data, whole, *steps)) == 0
    run = [
        sys.executable,
        "-m",
        "culling.common.cli",
        *command(data, broken, *steps),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(run, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    checkpoint = broken.with_suffix(".checkpoint")
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was not done yet"
    assert main(command(data, broken, *steps)) == 0
    one, other = (load_weights(path)[0].state_dict() for path in (whole, broken))
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor.numpy(), other[name].numpy(), atol=2e-3, err_msg=name)


def test_a_second_run_into_the_same_file_is_refused(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = data / "student.safetensors"
    with only_one(out.with_suffix(".lock"), "test"):
        assert main(command(data, out, "--steps", "1")) == StorageError.exit_code
    said = capfd.readouterr().err
    assert f"another pre-training of student.safetensors runs on {data} (process {os.getpid()})" in said
    assert not out.exists()


def test_started_as_a_module_it_refuses_in_one_line_too(data: Path) -> None:
    arguments = command(data, data / "s.safetensors", "--canvas", "60x64")[1:]
    run = [sys.executable, "-m", "culling.cloud.model.pretrain", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (InputError.exit_code, 1)
    assert "multiples of 32" in done.stderr


def test_images_are_drawn_as_often_as_they_weigh() -> None:
    some, none = (np.full(count, 0.5, np.float32) for count in (1, 0))

    def sample(source: str, scores: NDArray[np.float32]) -> Sample:
        found = Detections(np.ones((len(scores), 4), np.float32), scores, np.zeros(len(scores), np.int64))
        return Sample(b"", 8, 8, found, source)

    samples = [sample("photos/a.jpg", some), sample("street/b.jpg", some), sample("street/c.jpg", none)]
    drawn = probabilities(Batcher(samples, 1, [(64, 64)]), {"": 0.5, "street/": 2.0}, empty=0.1)
    np.testing.assert_allclose(drawn, np.array([0.5, 2.0, 0.2]) / 2.7)


def test_a_missing_image_is_named_with_its_label_line(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (data / "2.jpg").unlink()
    out = data / "student.safetensors"
    assert main(command(data, out, "--steps", "1")) == InputError.exit_code
    assert "labels.jsonl:3: image 2.jpg" in capfd.readouterr().err
    assert not list(data.glob("student*"))


def test_an_init_of_another_architecture_is_named(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = data / "student.safetensors"
    assert main(command(data, out, "--steps", "1")) == 0
    teacher = ["teacher" if word == "student" else word for word in command(data, data / "t.safetensors")]
    assert main([*teacher, "--init", str(out)]) == ModelError.exit_code
    assert "student.safetensors: weights of another architecture" in capfd.readouterr().err


def test_a_truncated_init_is_named(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (data / "init.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert main(command(data, data / "s.safetensors", "--init", str(data / "init.safetensors"))) == ModelError.exit_code
    assert "init.safetensors: not readable as safetensors" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "complaint", "code"),
    [
        (("--canvas", "60x64"), "multiples of 32", InputError.exit_code),
        (("--canvas", "small"), "expected WIDTHxHEIGHT", SettingsError.exit_code),
        (("--until", "gate=2"), "the number 0..1", SettingsError.exit_code),
        (("--depth", "34"), "expected 18, 50 or 101", SettingsError.exit_code),
        (("--weight", "street/=-1"), "the number 0 or more", SettingsError.exit_code),
        (("--weight", "street/=nan"), "the number 0 or more", SettingsError.exit_code),
        (("--weight", "=0"), "every image has weight 0", InputError.exit_code),
        (("--jitter", "2", "1"), "0 < LOW <= HIGH", InputError.exit_code),
        (("--jitter", "0", "1"), "0 < LOW <= HIGH", InputError.exit_code),
        (("--out", "model.checkpoint"), "ends in .safetensors", InputError.exit_code),
        (("--out", "/"), "is a folder", InputError.exit_code),
        (("--out", "/nowhere/at/all.safetensors"), "no such folder", InputError.exit_code),
    ],
)
def test_wrong_flags_get_one_line(
    data: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], complaint: str, code: int
) -> None:
    assert main(command(data, data / "s.safetensors", *flags)) == code
    error = capfd.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
