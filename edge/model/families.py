"""The two families of students that come with Culling, to be timed where a camera's frames are: any numbers will do.

An edge has neither torch nor weights of both, but a graph takes as long whatever its weights are. So the bundled
outlines, graphs without their weights, are filled with random numbers of the size that a fresh model has.
"""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import culling.common
from culling.common.errors import ModelError
from culling.common.graph import Graph, Provider, open_graph

OUTLINES = {"faster-rcnn-resnet18": "student.outline.xz", "yolox": "yolox-nano.outline.xz"}
"""By the name of the family, which `[student] family` of the cloud's settings takes."""

FOLDER = Path(culling.common.__file__).parents[1] / "cloud" / "weights"
"""One wheel brings all files, whatever extra it is installed with."""


def open_family(name: str, provider: Provider, threads: int) -> Graph:
    """Return a graph that takes as long as the bundled student of a family, and finds nothing of use.

    Raises ModelError where it does not run here.
    """
    path = FOLDER / OUTLINES[name]
    try:
        model = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise ModelError(f"{path}: cannot be read: {error}: install Culling again") from None
    return open_graph(_filled(model), provider=provider, threads=threads)


def _filled(outline: bytes) -> bytes:
    proto, rng = onnx.load_model_from_string(outline), np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        if tensor.dims and not tensor.raw_data and tensor.data_type == onnx.TensorProto.FLOAT and not tensor.float_data:
            shape = tuple(tensor.dims)
            spread = math.sqrt(1 / max(1, math.prod(shape[1:])))
            numbers = rng.normal(0.0, spread, shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    return bytes(proto.SerializeToString())
