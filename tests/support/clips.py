"""Small synthetic videos with boxes that move, made through PyAV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import simplejpeg
from av.stream import Disposition
from numpy.typing import NDArray

NUMBER_BITS = 8
"""Bits of its own number that `picture` draws along the bottom of each frame."""


def make_clip(
    path: Path,
    frames: int = 20,
    width: int = 160,
    height: int = 128,
    fps: int | Fraction = 10,
    codec: str = "libx264",
    times_ms: Sequence[int] | None = None,
    rotation: int = 0,
    gop: int = 10,
) -> Path:
    """Write a clip and return `path`.

    `times_ms` gives every frame its own time (variable frame rate), one for each of `frames`. `rotation` is the
    display matrix: how far a player turns the pictures, in degrees counter-clockwise. Odd sizes are written as 4:4:4.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = _pixel_format(codec, width, height)
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000) if times_ms else Fraction(1, fps)
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
            stream.codec_context.thread_count = 2  # else a picture has as many slices as the machine has cores
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame.pts = times_ms[number] if times_ms else number
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        if frames:
            container.mux(stream.encode(None))
        else:
            container.start_encoding()
    return path


def picture(number: int, width: int = 160, height: int = 128) -> NDArray[np.uint8]:
    """Return frame `number` `(height, width, 3)`: a red top left corner, a box that moves, and its number in bits."""
    rgb = np.full((height, width, 3), 90, np.uint8)
    rgb[: height // 4, : width // 4] = (220, 30, 30)
    left = (5 * number) % max(1, width - width // 5)
    rgb[height // 2 : 3 * height // 4, left : left + width // 5] = (240, 200, 40)
    bit_width, top = width // NUMBER_BITS, height - height // 6
    for bit in range(NUMBER_BITS):
        rgb[top:, bit * bit_width : (bit + 1) * bit_width] = 235 if number >> bit & 1 else 16
    return rgb


def jpegs(count: int = 256) -> Iterator[bytes]:
    """Yield pictures as JPEG, as an MJPEG camera sends them."""
    for number in range(count):
        yield simplejpeg.encode_jpeg(picture(number), quality=90)


def number_of(rgb: NDArray[np.uint8]) -> int:
    """Return the number that `picture` drew, modulo 256."""
    height, width = rgb.shape[:2]
    bit_width, row = width // NUMBER_BITS, height - height // 12
    return sum((int(rgb[row, bit * bit_width + bit_width // 2].mean()) > 125) << bit for bit in range(NUMBER_BITS))


def _pixel_format(codec: str, width: int, height: int) -> str:
    subsampling = "444p" if width % 2 or height % 2 else "420p"
    return f"yuvj{subsampling}" if codec == "mjpeg" else f"yuv{subsampling}"


def make_playlist(clip: Path, path: Path) -> Path:
    """Write a clip's video as a complete HLS playlist with its segments beside it; return `path`."""
    with av.open(str(clip)) as source, av.open(str(path), "w", format="hls") as sink:
        copy = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                sink.mux(packet)
    return path


def make_hole(clip: Path, path: Path, size: int = 1024) -> Path:
    """Write `clip` again with `size` bytes in its middle lost to zeros, as a bad sector loses them; return `path`."""
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + size] = bytes(size)
    path.write_bytes(data)
    return path


def cut(clip: Path, path: Path, first: int, start: int = 0) -> Path:
    """Copy the packets of `clip` from number `start` on, undecoded, so that playing begins at `first`; return `path`.

    As `ffmpeg -ss … -c copy` does it: an MP4 hides what comes before `first` by an edit list. A `start` behind a key
    frame leaves the rest of its group without it, as joining a stream in the middle does.
    """
    with av.open(str(clip)) as source, av.open(str(path), "w") as sink:
        stream = source.streams.video[0]
        copy = sink.add_stream_from_template(stream)
        frame = int(1 / (stream.average_rate * stream.time_base))
        for number, packet in enumerate(source.demux(stream)):
            if packet.dts is not None and number >= start:
                packet.stream = copy
                packet.pts -= first * frame
                packet.dts -= first * frame
                sink.mux(packet)
    return path


def make_dual(small: Path, large: Path, path: Path) -> Path:
    """Write two clips' videos as the tracks of one file, in that order, the second to be played; return `path`."""
    with av.open(str(small)) as one, av.open(str(large)) as other, av.open(str(path), "w") as sink:
        tracks = [(source, sink.add_stream_from_template(source.streams.video[0])) for source in (one, other)]
        tracks[1][1].disposition = Disposition.default
        for source, track in tracks:
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = track
                    sink.mux(packet)
    return path
