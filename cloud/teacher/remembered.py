"""What a detector finds, remembered picture by picture: whoever was killed, or asks again, waits only for what is new.

Studies and queries mostly wait for a teacher, so each of its answers is written down as it comes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from culling.common.errors import StorageError
from culling.common.frame import Detections
from culling.common.progress import shown

Look = Callable[[Sequence[NDArray[np.uint8]]], list[Detections]]


class _Line(msgspec.Struct):
    picture: str
    seconds: float
    boxes: list[tuple[float, float, float, float]]
    scores: list[float]
    labels: list[int]


@dataclass(frozen=True)
class Seen:
    """What was found in one picture, and the seconds that it took: its share of a block."""

    found: Detections
    seconds: float


class Remembered:
    """What `look` finds in pictures, kept in `file`; they are looked at, and written down, `block` at a time.

    Raises StorageError when the file cannot be read or written, or is damaged before its last line.
    """

    def __init__(self, look: Look, file: Path, title: str, block: int) -> None:
        self._look = look
        self._file = file
        self._title = title
        self._block = block
        self._known = dict(_read(file))

    def label(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return what is found in each frame `(H, W, 3)`, boxes in its pixels."""
        return [seen.found for seen in self.see(frames, len(frames))]

    def see(self, frames: Iterable[NDArray[np.uint8]], total: int) -> list[Seen]:
        """Return what is found in each of `total` frames, and how long that took the first time."""
        results: list[Seen] = []
        with shown(self._title, "frame", total) as show:
            waiting = iter(frames)
            while block := list(islice(waiting, self._block)):
                names = [hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).hexdigest() for frame in block]
                if new := {name: frame for name, frame in zip(names, block, strict=True) if name not in self._known}:
                    self._learn(new)
                    show(len(results) + len(block), "")
                results += [self._known[name] for name in names]
        return results

    def _learn(self, new: dict[str, NDArray[np.uint8]]) -> None:
        started = time.perf_counter()
        found = self._look(list(new.values()))
        seconds = (time.perf_counter() - started) / len(new)
        seen = {name: Seen(each, seconds) for name, each in zip(new, found, strict=True)}
        try:
            with self._file.open("ab") as file:
                file.write(b"".join(_line(name, each) for name, each in seen.items()))
        except OSError as error:
            raise StorageError(f"cannot write {self._file}: {error.strerror}") from None
        self._known |= seen


def _line(name: str, seen: Seen) -> bytes:
    found = seen.found
    line = _Line(name, round(seen.seconds, 6), found.boxes.tolist(), found.scores.tolist(), found.labels.tolist())
    return msgspec.json.encode(line) + b"\n"


def _read(path: Path) -> Iterator[tuple[str, Seen]]:
    """Yield every complete line; the rest of a line that a kill has torn is cut off."""
    try:
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            data = data[: data.rfind(b"\n") + 1]
            path.write_bytes(data)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    for number, text in enumerate(data.splitlines(), 1):
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.DecodeError:
            raise StorageError(f"{path}:{number}: damaged; remove the file to compute it again") from None
        boxes = np.array(line.boxes, np.float32).reshape(-1, 4)
        found = Detections(boxes, np.array(line.scores, np.float32), np.array(line.labels, np.int64))
        yield line.picture, Seen(found, line.seconds)
