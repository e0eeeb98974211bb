"""The script for a lent GPU: its words, its budget, what it carries there, and two of its parts dry, on the CPU."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from culling.cloud.model.refit import refill
from culling.cloud.model.weights import load_bundled
from culling.cloud.weights.index import BUNDLED
from support.deployed import unknown_words
from support.images import ROOT
from support.scripts import loaded

SCRIPT = ROOT / "tests" / "bench" / "gpu.sh"
PARTS = ["machine", "export", "placement", "golden", "speed", "graphs-free", "graphs-fixed", "edge", "teacher", "train"]
PARTS += ["reloads", "swap", "tensorrt", "overhead", "memory", "pair"]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    path = ":".join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": path}
    return subprocess.run([SCRIPT, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def carry() -> ModuleType:
    return loaded(SCRIPT.with_name("gpu_carry.py"))


@pytest.fixture(scope="module")
def yolox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundled student as ONNX."""
    outline = lzma.decompress((BUNDLED / "yolox-nano.outline.xz").read_bytes())
    model = refill(outline, *load_bundled("student", family="yolox"))
    assert model is not None
    path = tmp_path_factory.mktemp("yolox") / "yolox.onnx"
    path.write_bytes(model)
    return path


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shells_can_read_it(shell: str) -> None:
    subprocess.run([shell, "-n", SCRIPT], check=True)


def test_help_is_the_head_of_the_script() -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in ("--out", "--minutes", "--parts", "--model", "--wheels", "--data", "--pack", "--dry", "--gather"):
        assert f"  {option} " in done.stdout
    assert done.stdout.splitlines()[-1].endswith("makes the environment.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--minutes", "13"], "a number up to 12"),
        (["--minutes", "soon"], "a number up to 12"),
        (["--parts", "placement,nothing"], "expected some of machine"),
        (["--model", "/nowhere.onnx"], "no such file"),
        (["--swaps", "3"], "unknown"),
        (["--out"], "needs a value"),
    ],
)
def test_wrong_words_end_it_before_anything_runs(words: list[str], told: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_part_for_which_no_time_is_left_is_skipped_with_a_line(tmp_path: Path) -> None:
    done = run("--minutes", "0", "--out", tmp_path)
    assert done.returncode == 0
    lines = (tmp_path / "summary.txt").read_text().splitlines()
    assert [line.split()[:3] for line in lines] == [[part, "skipped", "0"] for part in PARTS]
    assert "it needs more than 60 s" in lines[PARTS.index("swap")]


def test_a_part_that_fails_ends_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.touch()
    done = run("--dry", "--parts", "placement,golden", "--model", broken, "--out", tmp_path)
    assert done.returncode == 1
    lines = [line.split()[:2] for line in (tmp_path / "summary.txt").read_text().splitlines()]
    assert lines[0][0] == "DRY:"
    assert lines[1:] == [["placement", "failed"], ["golden", "failed"]]
    assert "the model is not ONNX" in (tmp_path / "placement.txt").read_text()


def test_placement_and_golden_frames_dry(yolox: Path, tmp_path: Path) -> None:
    done = run("--dry", "--parts", "placement,golden", "--model", yolox, "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[1] for line in (tmp_path / "summary.txt").read_text().splitlines()[1:]] == ["ok", "ok"]
    placed = json.loads((tmp_path / "placement.json").read_bytes())
    assert placed["dry"]
    assert placed["yolox"]["executed"]["CPUExecutionProvider"]["nodes"] > 100
    golden = json.loads((tmp_path / "golden.json").read_bytes())["yolox"]
    assert golden["as shipped"]["agreed"] == golden["as shipped"]["frames"] == 2
    assert golden["as shipped"]["boxes"] > 0
    assert "fp16" in golden
    for part in ("placement", "golden"):
        assert "DRY" in (tmp_path / f"{part}.txt").read_text()


def test_a_gpu_that_is_not_there_fails_placement(yolox: Path, tmp_path: Path) -> None:
    done = run("--parts", "placement", "--model", yolox, "--out", tmp_path, "--minutes", "1")
    if "ok" in (tmp_path / "summary.txt").read_text():
        pytest.skip("there is a GPU here")
    assert done.returncode == 1
    assert "DOES NOT HOLD" in (tmp_path / "placement.txt").read_text()


def test_its_commands_are_there() -> None:
    for words in (
        ["export", "--weights", "--out"],
        ["bench", "edge", "--cameras"],
        ["bench", "memory", "edge", "--fps"],
    ):
        assert unknown_words(words) == []


# What travels


def test_wheels_are_those_of_the_cloud_with_a_gpu_but_for_what_is_there(carry: ModuleType) -> None:
    wanted = [carry.name_of(one) for one in carry.requirements(["numpy"])]
    assert {"onnxruntime-gpu", "av", "msgspec", "pyzmq", "safetensors"} <= set(wanted)
    assert not {"torch", "torchvision", "onnxruntime", "numpy", "culling"} & set(wanted)
    assert not any("[" in one for one in carry.requirements())


def test_what_was_cut_is_joined(carry: ModuleType, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    (packed / "wheels").mkdir(parents=True)
    (packed / "wheels" / "one.whl").write_bytes(os.urandom(30_000))
    count = carry.cut(packed, tmp_path / "pieces", 16_384)
    assert count > 1
    carry.join(tmp_path / "pieces", tmp_path / "joined")
    assert (tmp_path / "joined/wheels/one.whl").read_bytes() == (packed / "wheels/one.whl").read_bytes()


@pytest.mark.parametrize("missing", ["00", "01", "last"])
def test_a_missing_piece_is_named(carry: ModuleType, tmp_path: Path, missing: str) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "file").write_bytes(os.urandom(40_000))
    count = carry.cut(tmp_path / "packed", tmp_path / "pieces", 16_384)
    place = tmp_path / "pieces" / (f"{count - 1:02}" if missing == "last" else missing)
    (place / "piece").unlink()
    with pytest.raises(SystemExit, match="missing"):
        carry.join(tmp_path / "pieces", tmp_path / "joined")


def test_a_damaged_piece_is_named(carry: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "file").write_bytes(os.urandom(4000))
    carry.cut(tmp_path / "packed", tmp_path / "pieces", 65_536)
    with (tmp_path / "pieces" / "00" / "piece").open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(SystemExit, match="damaged"):
        carry.join(tmp_path / "pieces", tmp_path / "joined")


def test_the_machines_packages_lie_behind_ours_and_its_onnxruntime_is_hidden(carry: ModuleType, tmp_path: Path) -> None:
    parent, site = tmp_path / "parent", tmp_path / "site"
    for name in ("onnxruntime", "onnxruntime-1.30.0.dist-info", "torch", "torch-2.11.0.dist-info", "nvidia/cudnn",
                 "numpy", "numpy-2.5.2.dist-info"):  # fmt: skip
        (parent / name).mkdir(parents=True)
    for name in ("onnxruntime", "onnxruntime_gpu-1.31.1.dist-info", "numpy", "numpy-2.4.6.dist-info"):
        (site / name).mkdir(parents=True)
    carry.link(parent, site)
    assert {entry.name for entry in site.iterdir() if entry.is_symlink()} == {"torch", "torch-2.11.0.dist-info"}
    assert (site / "nvidia" / "cudnn").is_symlink()


def test_an_environment_of_nothing_but_pieces_runs_the_checkout(carry: ModuleType, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    (packed / "wheels").mkdir(parents=True)
    told = packed / "metadata" / "culling-9.9.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: culling\nVersion: 9.9\n")
    carry.cut(packed, tmp_path / "pieces", 1 << 20)
    python = carry.ready(tmp_path / "pieces", tmp_path / "work")
    code = "import culling.common, numpy, sys; print(culling.common.__version__, numpy.__name__, sys.prefix)"
    outside = {"cwd": tmp_path, "env": {"PATH": "/usr/bin:/bin"}}  # a checkout that is installed has metadata too
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, **outside)
    assert done.stdout.split() == ["9.9", "numpy", str(tmp_path / "work" / "env")]
