"""A06, A08 and A09: pictures, models and bytes that are not what they seem."""

from __future__ import annotations

import ast
import io
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper

from culling.cloud.link.admission import check_frame
from culling.cloud.model.weights import load_weights
from culling.common.errors import CullingError, ModelError, ProtocolError
from culling.common.graph import check, open_graph
from culling.common.wire.codec import encode_jpeg, jpeg_size
from culling.common.wire.manifest import Trust, verify
from culling.common.wire.messages import from_wire, unpack
from culling.common.wire.versions import PROTOCOL_VERSION
from culling.edge.model.vetting import Limits, vet
from support import tiny
from support.cloud import hard_frame

pytestmark = pytest.mark.fault
ROOT = Path(__file__).parent.parent.parent


def picture(width: int = 64, height: int = 48) -> bytes:
    return encode_jpeg(np.full((height, width, 3), 99, np.uint8))


# A06


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """Return `jpeg` with another size in its header (SOF0)."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack("!HH", height, width) + jpeg[at + 9 :]


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack("!H", len(data) + 2) + data + jpeg[2:]


def zipped() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.py", "print('owned')")
    return archive.getvalue()


TIFF_BOMB = b"Exif\0\0II*\0\x08\0\0\0" + b"\xff\xff" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" * 5000

REFUSED: dict[str, bytes] = {
    "the largest header there is": resized(picture(), 65_500, 65_500),
    "a header that is wide only": resized(picture(), 65_500, 700),
    "another size than its message says": resized(picture(), 128, 96),
    "no height at all": resized(picture(), 64, 0),
    "a GIF that ends as a JPEG": b"GIF89a" + picture(),
    "a zip that holds a JPEG": zipped() + picture(),
    "a script": b"#!/bin/sh\nrm -rf /\n" + picture(),
    "a PNG of the largest size": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack("!II", 65_500, 65_500) + bytes(9),
    "only the beginning": picture()[:20],
    "an SVG": b"<svg onload='alert(1)'/>",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a06_what_is_no_honest_picture_is_refused_by_its_header(name: str) -> None:
    frame, jpeg = hard_frame(1, jpeg=REFUSED[name])
    with pytest.raises(ProtocolError) as caught:
        check_frame(frame, jpeg)
    assert caught.value.reason in ("bad-image", "image-too-large", "wrong-size")


PASSED: dict[str, bytes] = {
    "EXIF that says it is another size and turned": with_segment(picture(), 0xE1, TIFF_BOMB[:60_000]),
    "a comment full of code": with_segment(picture(), 0xFE, b"<?php system('id'); ?>" * 100),
    "a thumbnail that is a bomb": with_segment(picture(), 0xE1, b"Exif\0\0" + resized(picture(), 65_500, 65_500)),
    "a zip behind its end": picture() + zipped(),
}


@pytest.mark.parametrize("name", PASSED)
def test_a06_what_hides_in_a_picture_is_bytes_that_nobody_reads(name: str) -> None:
    frame, jpeg = hard_frame(1, jpeg=PASSED[name])
    check_frame(frame, jpeg)
    assert jpeg_size(jpeg) == (64, 48), "its own header holds, whatever else it says"


def test_a06_bombs_are_refused_within_little_memory() -> None:
    """16 GB would be needed to decode the first; the process may not have 100 MB more than it has."""
    bombs = [REFUSED[name].hex() for name in REFUSED if name != "another size than its message says"]
    code = """
import resource, sys
from culling.common.wire.codec import decode_jpeg
from culling.common.errors import ProtocolError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, used + 100_000_000))
for line in sys.stdin:
    try:
        decode_jpeg(bytes.fromhex(line))
    except ProtocolError as error:
        print(error.reason)
"""
    text = "\n".join(bombs * 20)
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, check=True, text=True)
    reasons = done.stdout.split()
    assert len(reasons) == len(bombs) * 20
    assert set(reasons) == {"bad-image", "image-too-large"}


# A08


def huge() -> bytes:
    """Return a student with an initialiser of 2^40 floats that are not there."""
    model = tiny.proto()
    tensor = model.graph.initializer.add()
    tensor.name, tensor.data_type = "huge", TensorProto.FLOAT
    tensor.dims.extend([1 << 20, 1 << 20])
    tensor.raw_data = b"\0\0\0\0"
    model.graph.node.append(helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=0))
    tiny._add_to_scores(model, "mean")
    return bytes(model.SerializeToString())


def crowded(nodes: int = 1_000_000) -> bytes:
    """Return a student with a million nodes more: parts of one message that come one after another are merged."""
    node = helper.make_node("Identity", ["looked"], ["copy"]).SerializeToString()
    graph = (b"\x0a" + varint(len(node)) + node) * nodes  # field 1 of a graph
    return tiny.student() + b"\x3a" + varint(len(graph)) + graph  # field 7 of a model


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def deep(levels: int = 300) -> bytes:
    """Return a student with loops in loops in loops."""
    model = tiny.proto(turns=1)
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    part = loop.attribute[0].g
    for _ in range(levels):
        node = part.node.add()
        node.op_type = "If"
        attribute = node.attribute.add()
        attribute.name, attribute.type = "then_branch", 5
        part = attribute.g
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny.external("../../secret.bin"),
        lambda: tiny.external("/etc/passwd"),
        lambda: tiny.external("link-to-elsewhere"),
        tiny.foreign,
        crowded,
    ],
    ids=["external above", "external absolute", "external by a link", "foreign operator", "a million nodes"],
)
def test_a08_a_hostile_model_is_refused_by_its_structure(make: Callable[[], bytes]) -> None:
    with pytest.raises(ModelError):
        check(make())


def test_a08_links_beside_a_model_are_not_followed(tmp_path: Path) -> None:
    """It is loaded from the very bytes that were hashed, so nothing beside them can be read."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(64))
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "hard").hardlink_to(secret)
    for location in ("link", "hard", "secret.bin"):
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny.external(location))
        with pytest.raises(ModelError, match="outside of its file"):
            vet(path, [(64, 64)])


@pytest.mark.parametrize("make", [huge, deep], ids=["a huge initialiser", "loops in loops"])
def test_a08_what_structure_does_not_tell_ends_in_a_child(make: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError):
        vet(path, [(64, 64)], Limits(memory=4 << 30, cpu_s=30, wall_s=60.0))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "in KiB: none of it in here"


# A09


class Canary:
    """Pickled, it writes a file when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.write_text, (self.path, "unpickled"))


def test_a09_no_bytes_of_a_peer_or_a_file_are_ever_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Canary(canary))
    torch_file = io.BytesIO()
    with zipfile.ZipFile(torch_file, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    trust = Trust({"k": Ed25519PrivateKey.generate().public_key()}, "gate")
    frame, _ = hard_frame(1)
    for blob in (payload, torch_file.getvalue()):
        file = tmp_path / "weights.safetensors"
        file.write_bytes(blob)
        detections = msgspec.structs.replace(frame.detections, boxes=blob)
        tries: list[Callable[[], object]] = [
            lambda b=blob: unpack([b], "edge"),
            lambda b=blob: unpack([bytes([PROTOCOL_VERSION]) + b], "cloud"),
            lambda b=blob: verify(b, trust, 0.0),
            lambda b=blob: check(b),
            lambda b=blob: open_graph(b, provider="cpu"),
            lambda f=file: load_weights(f),
            lambda d=detections: from_wire(d),
            lambda b=blob: check_frame(*hard_frame(1, jpeg=b)),
            lambda b=blob: jpeg_size(b),
        ]
        for attempt in tries:
            with pytest.raises(CullingError):
                attempt()
    assert not canary.exists()
    pickle.loads(payload)  # noqa: S301 - the canary sings where somebody does
    assert canary.exists()


BANNED = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
ARRAYS = "cloud/teacher/pickled.py"
"""It reads pickles that a person names, and makes arrays of them and nothing else (`teacher/test_pickled.py`)."""
YAML = {"yaml.safe_load", "yaml.safe_dump"}
"""All other loaders of YAML make whatever objects it names."""
CALLS = {"eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler"}


def test_a09_the_code_has_nothing_that_could_unpickle() -> None:
    for path in (path for side in ("common", "edge", "cloud") for path in (ROOT / side).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                named = {alias.name.partition(".")[0] for alias in node.names}
                assert not BANNED & named or where.startswith(f"{ARRAYS}:"), where
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in BANNED, where
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in CALLS, where
                assert called in YAML or not called.startswith("yaml."), where
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if called.endswith(("torch.load", "np.load", "numpy.load")):
                    option, safe = ("weights_only", "True") if "torch" in called else ("allow_pickle", "False")
                    assert given.get(option) == safe, where
