"""What an edge finds, as its outputs tell it: the record, and `follow`, which reads records wherever they are written.

    for record in follow("/var/lib/culling-edge/detections.jsonl"):     a file of an output of kind jsonl
    for record in follow("tcp://127.0.0.1:5580"):                       an output of kind zmq
    for record in follow("-"):                                          stdin, behind an output of kind stdout

`python -m culling.common.detections` prints the JSON Schema of a record.

This file needs msgspec, and pyzmq to follow an endpoint, and nothing else of Culling: a program may take a copy of it
along. Its types are version 1 of the record; a later version may add fields, which are ignored here.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
from msgspec import Meta

VERSION: Literal[1] = 1
POLL_S = 0.2
"""How often a file that gave nothing is looked at again."""
MAX_RECORD = 1 << 20
"""A longer line or message is no record: 300 boxes take some 40 kB."""
HWM = 10_000
"""Records of an endpoint that may wait in a reader's memory."""

Count = Annotated[int, Meta(ge=0)]
Counts = dict[str, Count]


class Detection(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One box: its class, its score in [0, 1], and `(left, top, right, bottom)` in pixels of the frame.

    `track` is the number of the object that it belongs to, None where objects are not tracked; `zones` are the zones in
    which the middle of its lower edge lies.
    """

    label: str
    score: Annotated[float, Meta(ge=0, le=1)]
    box: tuple[float, float, float, float]
    track: int | None = None
    zones: tuple[str, ...] = ()


class ZoneCounts(msgspec.Struct, frozen=True):
    """Objects of a zone by class: those `present` now, and how many `entered` and `left` since the agent started."""

    present: Counts
    entered: Counts
    left: Counts


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was found in one frame of a camera.

    `model` and its `counter` name the student; `seq` is the frame's number since the agent's start, and rises; `pts` is
    seconds of stream time, `at` the wall time of capture in seconds since the epoch, `width` and `height` the
    frame's in pixels. `decision` and `reason` say whether the frame leaves for training, `loss` is its confidence loss.
    `zones` has an entry for each zone of the camera. `by` says whose the `detections` are: the student's, or those of
    the `teacher` of that name, which was asked because the student was unsure.
    """

    v: Literal[1] = VERSION
    camera: str
    model: str
    counter: Count
    seq: Count
    pts: float
    at: float
    width: Count
    height: Count
    decision: Literal["forward", "hold", "skip"]
    reason: str
    loss: float
    detections: tuple[Detection, ...]
    zones: dict[str, ZoneCounts] = {}
    by: Literal["student", "teacher"] = "student"
    teacher: str = ""

    def counts(self) -> dict[str, int]:
        """Return how many detections there are of each class that was found."""
        return dict(Counter(one.label for one in self.detections))


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook's request: records of any cameras, oldest first; sent again, it has the same `id`."""

    v: Literal[1] = VERSION
    id: str
    records: tuple[Record, ...]


class UnknownVersionError(ValueError):
    """A record is of a version that this file does not know: take a newer one."""


def decode(data: bytes) -> Record:
    """Return the record that `data` holds as JSON. Raises UnknownVersionError, or msgspec.DecodeError otherwise."""
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError:
        version = msgspec.json.decode(data, type=_Version).v
        if isinstance(version, int) and version > VERSION:
            raise UnknownVersionError(f"a record of version {version}: this reader knows version {VERSION}") from None
        raise


def follow(
    source: str | os.PathLike[str],
    *,
    cameras: Collection[str] = (),
    start: Literal["beginning", "end"] = "beginning",
    timeout_s: float | None = None,
    server_key: str | None = None,
    secret_key: str | None = None,
    on_bad: Callable[[bytes], None] = lambda line: None,
) -> Iterator[Record]:
    """Yield each record of `source` as it comes: a file, through its rotations; a `tcp://` endpoint; or "-", stdin.

    `cameras` are those whose records are wanted, none means all. A file is read from the `start` of what is kept of it,
    or from its end. Without a record for `timeout_s` it ends; 0 means: with what there is now; None: never, but for
    stdin. `server_key` and `secret_key` are CURVE keys for an endpoint that asks for them. What is no record, such as
    half a line after a power cut, goes to `on_bad`. Raises UnknownVersionError.
    """
    text = os.fspath(source)
    if text == "-":
        found: Iterator[bytes] = iter(sys.stdin.buffer)
    elif "://" in text:
        found = _messages(text, cameras, timeout_s, server_key, secret_key)
    else:
        found = _lines(Path(text), start == "beginning", timeout_s)
    for data in found:
        try:
            record = decode(data)
        except msgspec.DecodeError:
            on_bad(data)
            continue
        if not cameras or record.camera in cameras:
            yield record


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a record; that of a webhook's request is in its `$defs`, as `Batch`."""
    [record, _], parts = msgspec.json.schema_components([Record, Batch], ref_template="#/$defs/{name}")
    for part in parts.values():
        part["description"] = " ".join(part["description"].split())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **record, "$defs": parts}


def rotated(path: Path) -> dict[int, Path]:
    """Return the older parts of a file that is rotated, by number, which rises; some may be gzipped."""
    found = _parts(path)
    while (again := _parts(path)) != found:  # one that is gzipped during a look may be seen under neither name
        found = again
    return found


def _parts(path: Path) -> dict[int, Path]:
    name = re.compile(rf"{re.escape(path.name)}\.(\d{{6,}})(\.gz)?")
    found: dict[int, Path] = {}
    for other in sorted(path.parent.glob(f"{path.name}.*"), reverse=True):  # the plain one wins while both are there
        if match := name.fullmatch(other.name):
            found[int(match[1])] = other
    return found


class _Version(msgspec.Struct):
    v: Any = None


_DECODER = msgspec.json.Decoder(Record)


def _lines(path: Path, from_start: bool, timeout_s: float | None) -> Iterator[bytes]:
    """Yield the lines of a file and, after each rotation, those of the next one."""
    following = 1 if from_start else max(rotated(path), default=0) + 1
    idle, skip = _Idle(timeout_s), not from_start
    while True:
        older = {number: part for number, part in rotated(path).items() if number >= following}
        for number in sorted(older):
            yield from _whole(older[number])
            following, skip = number + 1, False
        file = _open_newest(path, following)
        if file is None:
            if not idle.wait():
                return
            continue
        with file:
            if skip:
                file.seek(0, os.SEEK_END)
            skip = False
            yield from _tail(path, file, idle)
            if idle.over:
                return
        following += 1  # the part that was just read has this number now


def _open_newest(path: Path, following: int) -> BinaryIO | None:
    """Open the file that is being written, the part `following` to be; None if there is none, or if it was rotated
    meanwhile.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    if any(number >= following for number in rotated(path)) or _moved(path, file):
        file.close()
        return None
    return file


def _moved(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return True


def _tail(path: Path, file: BinaryIO, idle: _Idle) -> Iterator[bytes]:
    """Yield lines until the file is another one and this one is read to its end, or nothing came for too long."""
    half = b""
    while True:
        moved = _moved(path, file)  # before reading: after a rotation nothing more is written to it
        while line := file.readline(MAX_RECORD):
            half += line
            if half.endswith(b"\n") or len(half) >= MAX_RECORD:
                yield half
                half = b""
                idle.reset()
        if moved:
            break
        if os.fstat(file.fileno()).st_size < file.tell():  # emptied by something else
            file.seek(0)
        if not idle.wait():
            break
    if half:
        yield half


def _whole(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except FileNotFoundError:  # gzipped or deleted meanwhile
        other = path.with_name(f"{path.name}.gz")
        if path.suffix != ".gz" and other.exists():
            yield from _whole(other)


class _Idle:
    """How long nothing has come; `over` once that is too long."""

    def __init__(self, timeout_s: float | None) -> None:
        self.over = False
        self._timeout_s = timeout_s
        self._since = time.monotonic()

    def reset(self) -> None:
        self._since = time.monotonic()

    def wait(self) -> bool:
        """Return False once nothing has come for too long; otherwise let a moment pass."""
        if self._timeout_s is not None and time.monotonic() - self._since >= self._timeout_s:
            self.over = True
            return False
        time.sleep(POLL_S)
        return True


def _messages(
    endpoint: str, cameras: Collection[str], timeout_s: float | None, server_key: str | None, secret_key: str | None
) -> Iterator[bytes]:
    import zmq

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.linger, socket.rcvhwm = 0, HWM
        socket.maxmsgsize = 2 * MAX_RECORD
        if server_key is not None and secret_key is not None:
            socket.curve_serverkey, socket.curve_secretkey = server_key.encode(), secret_key.encode()
            socket.curve_publickey = zmq.curve_public(secret_key.encode())
        for topic in cameras or ("",):
            socket.subscribe(topic)
        socket.connect(endpoint)
        while socket.poll(None if timeout_s is None else int(1000 * timeout_s)):
            yield socket.recv_multipart()[-1]
    finally:
        socket.close()
        context.term()


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode())
