"""A day as footage: an H.264 clip and its labels, in parts, so that what was killed goes on after its last part.

Any study reads `day.mp4` with `labels.jsonl`. The clip's frame rate is one frame in `every` seconds, so that a frame's
time in the clip is its time of day.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import msgspec

from culling.cloud.annotations.lines import Label, write_labels
from culling.cloud.study.day.compose import Composed, Composer
from culling.common.atomic import write_atomic
from culling.common.errors import SettingsError, StorageError
from culling.common.progress import shown

PART = 240
"""Frames in a part: a kill costs no more than these."""

QUALITY = "21"
"""libx264's constant rate factor: about that of a camera's own stream."""

PART_NAME = "part-"
VIDEO = "day.mp4"
LABELS = "labels.jsonl"


class DayRecord(msgspec.Struct, frozen=True):
    """What decides a day: hashes of clip and labels, seed, and which of its frames are written."""

    clip: str
    clip_sha256: str
    labels_sha256: str
    seed: int
    frames: int
    every: int
    edition: int = 3
    """Rises when the composition changes: parts of two editions are never joined."""


def claim(record: DayRecord, out: Path) -> None:
    """Write `day.json` to the folder `out`, which is for this day alone once a part of it is composed.

    A record of no frames, for the sheet and the check alone, fits any film of its day. Raises SettingsError where `out`
    holds another day, StorageError where it cannot be written.
    """
    file = out / "day.json"
    if not ((out / VIDEO).exists() or any(out.glob(f"{PART_NAME}*.jsonl"))):
        write_atomic(file, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        return
    try:
        there = msgspec.json.decode(file.read_bytes(), type=DayRecord)
    except OSError as error:
        raise StorageError(f"{file}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError:
        there = None
    if there and not record.frames:
        record = msgspec.structs.replace(record, frames=there.frames, every=there.every)
    if there != record:
        raise SettingsError(f"--out {out}: holds another day ({file}); name a new folder, or remove that one")


def write_film(composer: Composer, record: DayRecord, out: Path) -> None:
    """Write `day.mp4` and `labels.jsonl` to the folder `out`, or what is left of them.

    Raises StorageError where that cannot be written.
    """
    numbers = range(0, record.frames, record.every)
    if not numbers:
        return
    if (out / VIDEO).exists() and (out / LABELS).exists():
        _remove(sorted(out.glob(f"{PART_NAME}*")))  # of a run that was killed while it removed them
        return
    parts = [(out / f"{PART_NAME}{start:06}", numbers[start : start + PART]) for start in range(0, len(numbers), PART)]
    with shown("composing", "frame", len(numbers)) as show:
        for place, (path, own) in enumerate(parts):
            if not path.with_suffix(".jsonl").exists():
                _write_part(composer, path, own, place * PART, record.every)
            show(place * PART + len(own), "")
    _join([path for path, _ in parts], out)


def _write_part(composer: Composer, path: Path, numbers: Sequence[int], first: int, every: int) -> None:
    """Write a part's clip, and then its labels, which say that it is complete."""
    made = [composer.frame(number) for number in numbers]
    unfinished = path.with_suffix(".tmp.mp4")
    try:
        encode(made, unfinished, every)
        unfinished.replace(path.with_suffix(".mp4"))
        rows = [_label(one, first + place) for place, one in enumerate(made)]
        write_labels(path.with_suffix(".tmp.jsonl"), rows, composer.cast.classes)
        path.with_suffix(".tmp.jsonl").replace(path.with_suffix(".jsonl"))
    except (OSError, av.FFmpegError) as error:
        raise StorageError(f"cannot write {path}: {error}") from None


def _label(one: Composed, number: int) -> Label:
    height, width = one.picture.shape[:2]
    return Label(VIDEO, number, width, height, one.labels, "")


def encode(frames: Sequence[Composed], path: Path, every: int) -> None:
    """Write frames of one size as an H.264 clip of one frame in `every` seconds. Raises what PyAV raises."""
    height, width = frames[0].picture.shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1, every))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        stream.codec_context.time_base = Fraction(every, 1)
        stream.codec_context.gop_size = 30
        stream.options = {"preset": "veryfast", "crf": QUALITY, "bf": "0"}
        for number, one in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(one.picture, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(every, 1)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _join(parts: Sequence[Path], out: Path) -> None:
    """Make one clip and one label file of all parts, and remove these."""
    unfinished = out / "day.tmp.mp4"
    try:
        _join_clips([part.with_suffix(".mp4") for part in parts], unfinished)
        write_atomic(out / LABELS, b"".join(part.with_suffix(".jsonl").read_bytes() for part in parts))
        unfinished.replace(out / VIDEO)
    except (OSError, av.FFmpegError) as error:
        raise StorageError(f"cannot write {out / VIDEO}: {error}") from None
    _remove([part.with_suffix(suffix) for part in parts for suffix in (".mp4", ".jsonl")])


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        with suppress(FileNotFoundError):
            file.unlink()


def _join_clips(clips: Sequence[Path], path: Path) -> None:
    with av.open(str(path), "w") as sink:
        copy, at = None, 0
        for clip in clips:
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                copy = copy or sink.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is not None and packet.pts is not None:
                        packet.stream, packet.pts, packet.dts = copy, packet.pts + at, packet.dts + at
                        sink.mux(packet)
                at += stream.duration or 0
