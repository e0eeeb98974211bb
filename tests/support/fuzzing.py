"""What is fuzzed: each decoder as a function of bytes, with sound inputs to start from.

    python -m support.fuzzing NAME INPUTS      throws INPUTS inputs at one decoder, guided by coverage where atheris is

An input either decodes or raises an error of ours. It may cost 50 ms of CPU and, all together, 64 MiB of memory.
"""

from __future__ import annotations

import atexit
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

LIMIT_S = 0.05
LIMIT_KIB = 64 * 1024
CORPUS_MAX = 4096


@dataclass(frozen=True)
class Target:
    """`run` takes one input; `seeds` makes sound ones; `share` of all inputs of a full run go to it."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    share: float


def _edge_messages() -> list[bytes]:
    from culling.common.wire.messages import Escalate, Heartbeat, LivePicture, ModelRequest, SwapReport, pack
    from support.cloud import camera_state, hard_frame, hello

    frame, jpeg = hard_frame(1)
    swap = SwapReport("gate", "gate-2", "gate-1", "live", "passed", 12.5, 1e9)
    rest = (hello(), Heartbeat("boot-1", [camera_state()]), ModelRequest("gate", "gate-2", 0, 4096), swap)
    rest += (ModelRequest("gate", "gate-2", 0, 4096, ("1" * 64, "2" * 64)),)  # type: ignore[assignment]
    live = LivePicture("gate", 1e9, "gate-2", 64, 48, frame.detections)
    escalate = Escalate("gate", "boot-1", 1, 1e9, 2.0, "gate-2", 64, 48)
    pictures = [pack(one, jpeg)[0] for one in (frame, live, escalate)]
    return [*pictures, *(pack(message)[0] for message in rest), *_of_later("edge")]


def _cloud_messages() -> list[bytes]:
    from culling.common.wire.messages import Ack, Look, ModelChunk, ModelOffer, Nack, Refused, Verdict, Welcome, pack
    from support.cloud import hard_frame

    chunk, found = pack(ModelChunk("gate", "gate-2", 0, 10), b"0123456789")[0], hard_frame(1)[0].detections
    rest = (Welcome("culling", 8), Ack("b", 1, 8), Nack("b", 1, "busy", True), Refused("why"), ModelOffer("gate", b"m"))
    rest += (Look("gate", 5.0), Verdict("gate", "b", 1, found, "big"))  # type: ignore[assignment]
    delta = pack(ModelChunk("gate", "gate-2", 0, 10, "1" * 64), b"0123456789")[0]
    return [chunk, delta, *(pack(message)[0] for message in rest), *_of_later("cloud")]


def _of_later(sender: Literal["edge", "cloud"]) -> list[bytes]:
    """Headers with fields that nobody knows."""
    from support.recorded import said

    return [parts[0] for parts in said("future", sender)]


def _unpack_edge(data: bytes) -> object:
    from culling.common.wire.messages import HardFrame, from_wire, unpack

    carries = any(name in data for name in (b"HardFrame", b"LivePicture", b"Escalate"))
    message, _ = unpack([data, b"payload"] if carries else [data], "edge")
    return from_wire(message.detections, 6) if isinstance(message, HardFrame) else message


def _unpack_cloud(data: bytes) -> object:
    from culling.common.wire.messages import unpack

    return unpack([data, b"payload"] if b"ModelChunk" in data else [data], "cloud")


@cache
def _signing_key() -> object:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes(32))


def _manifests() -> list[bytes]:
    import msgspec

    from support import tiny

    shipped = tiny.ship(tiny.student(), _signing_key(), now=1e9)  # type: ignore[arg-type]
    return [shipped.signed, msgspec.msgpack.encode(shipped.manifest)]


def _verify(data: bytes) -> object:
    """Both what anybody may send, and what stands under a good signature."""
    from culling.common.errors import ManifestError
    from culling.common.wire import manifest

    key = _signing_key()
    trust = manifest.Trust({manifest.key_id(key.public_key()): key.public_key()}, "gate")  # type: ignore[attr-defined]
    try:
        return manifest.verify(data, trust, 1e9)
    except ManifestError:
        return manifest._parse(data, manifest.Manifest)


def _settings() -> list[bytes]:
    import tomli_w

    from support.site import Site

    with tempfile.TemporaryDirectory() as folder:
        return [tomli_w.dumps(Site(Path(folder)).settings).encode()]


@cache
def _scratch() -> Path:
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder)
    return Path(folder) / "input"


def _load_settings(data: bytes) -> object:
    from culling.edge.settings import load_settings

    _scratch().write_bytes(data)
    _scratch().chmod(0o600)
    return load_settings(_scratch(), {})


def _labels() -> list[bytes]:
    return [
        b'{"source": "a.mp4", "frame": 1, "width": 64, "height": 48, "detections": [["person", 0.9, 1, 2, 30, 40]]}\n'
        b'{"source": "a.mp4", "frame": 2, "width": 64, "height": 48, "detections": []}\n'
    ]


def _read_labels(data: bytes) -> object:
    from culling.cloud.annotations.lines import read_labels

    _scratch().write_bytes(data)
    return read_labels(_scratch())


def _foreign_labels() -> list[bytes]:
    from culling.cloud.annotations.convert import KINDS
    from culling.cloud.annotations.looks import Format
    from culling.cloud.annotations.picture import Box, Picture

    told = [Picture("a.jpg", 0, 64, 48, (Box("person", 0.9, 1, 2, 30, 40), Box("car", 1.0, 3, 4, 9, 9)), "")]
    kinds: tuple[Format, ...] = ("coco", "cvat")
    found = []
    for kind in kinds:
        KINDS[kind].write(_scratch(), told, ("person", "car"))
        found.append(_scratch().read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        KINDS["voc"].write(Path(folder), told, ())
        KINDS["yolo"].write(Path(folder), told, ("person", "car"))
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return [*found, *(path.read_bytes() for path in files)]


def _read_foreign_labels(data: bytes) -> object:
    """Read a file as what it begins like: XML, YAML of YOLO, JSON; anything else as YOLO's lines."""
    from culling.cloud.annotations import coco, cvat, voc, yolo
    from culling.cloud.annotations.folder import Sizes

    if data.startswith(b"names:"):
        folder = _scratch().with_name("yolo")
        (folder / "labels").mkdir(parents=True, exist_ok=True)
        (folder / "data.yaml").write_bytes(data)
        (folder / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        return yolo.read(folder, Sizes(size=(64, 48)))
    _scratch().write_bytes(data)
    if data.startswith((b"<?xml", b"<annotations")):
        return cvat.read(_scratch())
    if data.startswith(b"<"):
        return voc.read(_scratch())
    if data.startswith(b"{"):
        return coco.read(_scratch())
    return list(yolo._boxes(_scratch(), ("person", "car"), 64, 48))


def _jpegs() -> list[bytes]:
    import numpy as np

    from culling.common.wire.codec import encode_jpeg

    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    return [encode_jpeg(noise), encode_jpeg(np.zeros((16, 16, 3), np.uint8))]


def _jpeg_size(data: bytes) -> object:
    from culling.common.wire.codec import decode_jpeg

    return decode_jpeg(data, max_pixels=100_000)


def _models() -> list[bytes]:
    from support import tiny

    return [tiny.student(), tiny.student(turns=1)]


def _check(data: bytes) -> object:
    from culling.common.graph import check

    return check(data)


def _deltas() -> list[bytes]:
    from culling.common.wire.delta import make
    from support import tiny

    return [make(tiny.student(), tiny.student(tag="new")), make(bytes(4000), bytes(range(256)) * 16)]


def _apply(data: bytes) -> object:
    import io

    from culling.common.wire.delta import apply

    return apply(io.BytesIO(data), io.BytesIO(bytes(4096)), io.BytesIO())


TARGETS: dict[str, Target] = {
    "messages from an edge": Target(_unpack_edge, _edge_messages, 0.35),
    "messages from the cloud": Target(_unpack_cloud, _cloud_messages, 0.25),
    "manifest": Target(_verify, _manifests, 0.14),
    "delta": Target(_apply, _deltas, 0.02),
    "settings": Target(_load_settings, _settings, 0.01),
    "labels": Target(_read_labels, _labels, 0.03),
    "labels of other tools": Target(_read_foreign_labels, _foreign_labels, 0.05),
    "jpeg": Target(_jpeg_size, _jpegs, 0.1),
    "onnx": Target(_check, _models, 0.05),
}


def attempt(target: Target, data: bytes) -> None:
    """Run one input: it decodes, or raises an error of ours, within its time."""
    from culling.common.errors import CullingError

    taken = []
    for _ in range(3):  # what else the machine does only ever adds to a time
        began = time.thread_time()
        with suppress(CullingError):
            target.run(data)
        taken.append(time.thread_time() - began)
        if taken[-1] <= LIMIT_S:
            return
    raise AssertionError(f"{min(taken):.3f} s for {data!r}")


def spoiled(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return a sound input with a few things wrong, or bytes that mean nothing."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(200))
    data = bytearray(chance.choice(seeds))
    for _ in range(1 + int(chance.expovariate(0.7))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([data[at] ^ 1 << chance.randrange(8)]) if at < len(data) else b""
            case 2:
                del data[at : at + chance.randrange(1, 16)]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 8))
            case 4:
                other = chance.choice(seeds)
                start = chance.randrange(len(other))
                data[at : at + 8] = other[start : start + chance.randrange(32)]
            case _:
                del data[at:]
        if not data:
            break
    return bytes(data[: CORPUS_MAX * 16])


def resources() -> tuple[int, int]:
    """Return open files, and the most memory ever used, in KiB."""
    return len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def throw(name: str, inputs: int, seed: int = 0) -> None:
    """Throw spoiled inputs at a target."""
    target = TARGETS[name]
    seeds, chance = target.seeds(), random.Random(seed)
    for sound in seeds:
        attempt(target, sound)
    for _ in range(500):
        attempt(target, spoiled(chance, seeds))
    files, memory = resources()
    for _ in range(inputs):
        attempt(target, spoiled(chance, seeds))
    assert resources()[0] <= files, "files were left open"
    assert resources()[1] - memory <= LIMIT_KIB, "memory grew"


def guide(name: str, inputs: int) -> None:
    """As `throw`, guided by the coverage of our code; ends the process, with 0 when nothing was found."""
    import atheris

    with atheris.instrument_imports(include=["culling"]):
        import culling.cloud.annotations.lines
        import culling.common.graph
        import culling.common.wire.codec
        import culling.common.wire.delta
        import culling.common.wire.manifest
        import culling.common.wire.messages
        import culling.edge.settings  # noqa: F401
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, sound in enumerate(target.seeds()):
            (Path(corpus) / str(number)).write_bytes(sound)
        limits = [f"-runs={inputs}", "-rss_limit_mb=2048", "-timeout=20", f"-max_len={CORPUS_MAX}", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", corpus], lambda data: attempt(target, data))
        atheris.Fuzz()


if __name__ == "__main__":
    guide(sys.argv[1], int(sys.argv[2]))
