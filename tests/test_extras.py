"""What `pip install culling[…]` brings: one onnxruntime per extra, and what a machine with a driver alone lacks."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def brought(extra: str) -> list[Requirement]:
    """Return everything that an extra requires, through those of ours that it names."""
    found: list[Requirement] = []
    for text in EXTRAS[extra]:
        requirement = Requirement(text)
        ours = [one for name in requirement.extras for one in brought(name)] if requirement.name == "culling" else []
        found += ours or [requirement]
    return found


@pytest.mark.parametrize(
    ("extra", "runtime"),
    [
        ("edge", "onnxruntime"),
        ("cloud", "onnxruntime"),
        ("dev", "onnxruntime"),
        ("edge-gpu", "onnxruntime-gpu"),
        ("cloud-gpu", "onnxruntime-gpu"),
    ],
)
def test_an_extra_brings_exactly_one_runtime(extra: str, runtime: str) -> None:
    [found] = [one for one in brought(extra) if one.name.startswith("onnxruntime")]

    assert found.name == runtime
    assert not found.specifier.contains("1.24.4"), "its CUDA provider has no RoiAlign for our opset"
    assert found.specifier.contains("1.25.0")
    assert found.extras == ({"cuda", "cudnn"} if runtime == "onnxruntime-gpu" else set())


@pytest.mark.parametrize("extra", ["edge", "edge-gpu"])
def test_an_edge_needs_no_torch(extra: str) -> None:
    assert not {"torch", "torchvision"} & {one.name for one in brought(extra)}


def test_both_sides_bring_the_same_with_a_gpu_as_without_but_for_the_runtime() -> None:
    for side in ("edge", "cloud"):
        plain, gpu = ({one.name for one in brought(extra)} for extra in (side, f"{side}-gpu"))
        assert plain ^ gpu == {"onnxruntime", "onnxruntime-gpu"}


def test_the_exact_versions_are_within_the_bounds() -> None:
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    exact = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    for extra in ("dev", "edge-gpu"):
        for one in brought(extra):
            assert one.specifier.contains(exact[canonicalize_name(one.name)]), one
