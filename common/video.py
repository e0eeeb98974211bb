"""The one reader of videos: which track is played, which frames count, what becomes of damaged ones, on both sides.

Frames are numbered, as labels count them, from 0 in the order in which they are decoded. A frame that a file holds but
does not play (an edit list hides it, its key frame is missing) has no number; one that is damaged has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import structlog
from av.stream import Discard
from numpy.typing import NDArray

from culling.common.errors import CameraError
from culling.common.logs import redact
from culling.common.scaler import upright

log = structlog.get_logger(__name__)

BUNDLED_CLIP = Path(__file__).parent / "clip" / "campus.mp4"

FED = 0.6
"""The fraction of a clip that students learn from; what follows is held back for measuring."""

MAX_PIXELS = 40_000_000
"""The decoder refuses larger pictures before it allocates them: 8K is 33 million pixels."""

DAMAGED_S = 10.0
"""Damage counts as over at the next key frame, or after so long if a video has none (intra refresh)."""

NO_TIME = -(2**63)
"""What stands for the time of a packet that has none: it is before every picture."""

FAILURES = (av.FFmpegError, OSError, RuntimeError, ValueError)
"""What PyAV raises for an address that cannot be opened, or stops to be read."""

Timeout = tuple[float, float]
"""Seconds that opening, and that each read, may take."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_counted: dict[tuple[str, int, int], int] = {}


@dataclass(frozen=True)
class Numbered:
    """One frame of a video; without `picture` it is lost.

    `lost` is `undecodable`, `damaged`, or `after-damage` when it is built on such a one.
    """

    number: int
    picture: av.VideoFrame | None
    lost: str | None = None


class Track:
    """The video that is played of an open container: FFmpeg's best one, as a player would choose.

    `live` decodes without delay. Raises `CameraError` if there is none.
    """

    def __init__(self, container: Any, live: bool = False) -> None:
        self._streams = container.streams
        self.stream: Any = container.streams.best("video")
        if self.stream is None:
            raise CameraError("it holds no video")
        self.stream.thread_type = "SLICE" if live else "AUTO"  # frame threads would delay a live picture
        self.stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self._next = 0
        self._holes: list[int] = []
        self._damaged_until: float | None = None

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next as the video announces them, 0.04 where it does not."""
        rate = float(self.stream.average_rate or 0)
        return 1 / rate if 0.1 <= rate <= 1000 else 0.04

    def alone(self) -> None:
        """Have no other track fetched."""
        for stream in self._streams:
            if stream.index != self.stream.index:
                stream.discard = Discard.all

    def decode(self, packet: Any, now: float | None = None) -> Iterator[Numbered]:
        """Yield the frames that a packet completes: mostly one, none while the decoder waits for more.

        `now`, in seconds, is when the packet came; a file's frames come when its frame rate says.
        """
        if packet.is_corrupt:  # its picture may come later, behind sound ones
            self._holes.append(NO_TIME if packet.pts is None else packet.pts)
        for picture in _pictures(packet):
            lost = self._lost(picture, self._next * self.frame_s if now is None else now)
            yield Numbered(self._next, None if lost else picture, lost)
            self._next += 1

    def _lost(self, picture: av.VideoFrame | None, now: float) -> str | None:
        """Return why a picture is not to be used: damage stays in every picture that is built on a damaged one."""
        if picture is None or picture.is_corrupt or self._holed(picture):
            self._damaged_until = now + DAMAGED_S
            return "undecodable" if picture is None else "damaged"
        if self._damaged_until is not None and not picture.key_frame and now < self._damaged_until:
            return "after-damage"
        self._damaged_until = None
        return None

    def _holed(self, picture: av.VideoFrame) -> bool:
        """Return whether bytes of a picture, or of one before it that is missing, were lost before they were decoded.

        Nothing is wrong with such a picture in the decoder's eyes; a key frame behind the hole is whole.
        """
        passed = [hole for hole in self._holes if picture.pts is None or picture.pts >= hole]
        self._holes = [hole for hole in self._holes if hole not in passed]
        return any(not picture.key_frame or picture.pts == hole for hole in passed)


def play(video: Path | str, timeout: Timeout | None = None) -> Iterator[Numbered]:
    """Yield every frame of a file or URL, the lost ones too. Raises `CameraError` if it is no video."""
    with _opened(video, timeout) as (container, track):
        for packet in container.demux(track.stream):
            yield from track.decode(packet)


def count_frames(video: Path | str, timeout: Timeout | None = None) -> int:
    """Return how many frames a file or URL plays, the lost ones among them.

    They are decoded to be counted, a file's once for as long as it stays the same: neither its header nor its packets
    tell how many are played. Raises `CameraError` if it is no video.
    """
    version = _version(video)
    if version is None or version not in _counted:
        total = sum(1 for _ in play(video, timeout))
        if version is None:
            return total
        _counted[version] = total
    return _counted[version]


def frame_rate(video: Path) -> float:
    """Return the frames per second that the file announces, 25 where it does not.

    Raises `CameraError` if it is no video.
    """
    with _opened(video) as (_, track):
        return 1 / track.frame_s


def announced_frames(video: Path) -> int | None:
    """Return how many frames the header of a file says that it holds, which may be more than it plays; None where it
    says nothing. Raises `CameraError` if it is no video.
    """
    with _opened(video) as (_, track):
        return int(track.stream.frames) or None


def read_frames(
    video: Path, wanted: Collection[int], lose: Callable[[int], object] = lambda number: None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield number and picture, `(H, W, 3)` RGB, of the frames in `wanted`, in order.

    Lost ones are left out: `lose` is told their numbers, and it is logged that the file is damaged.
    Raises `CameraError` if the file is no video.
    """
    left, lost = set(wanted), Counter[str]()
    for frame in play(video):
        if frame.lost is not None:
            lost[frame.lost] += 1
        if frame.number in left:
            left.remove(frame.number)
            if frame.picture is None:
                lose(frame.number)
            else:
                yield frame.number, _rgb(video, frame.picture)
        if not left:
            break
    if lost:
        log.warning("video_damaged", file=str(video), frames_lost=dict(lost))


def address(url: str) -> str:
    """Return what FFmpeg is to open: it takes what stands before a colon in a path for a scheme."""
    return url if _SCHEME.match(url) else f"file:{url}"


def why(error: Exception) -> str:
    """Return in a few words what FFmpeg complained of."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def _opened(video: Path | str, timeout: Timeout | None = None) -> Iterator[tuple[Any, Track]]:
    name = f"file:{video}" if isinstance(video, Path) else address(video)
    try:
        with av.open(name, timeout=timeout, metadata_errors="replace") as container:
            yield container, Track(container)
    except (CameraError, *FAILURES) as error:
        raise CameraError(redact(f"{video}: cannot be read as a video: {why(error)}")) from None


def _pictures(packet: Any) -> list[av.VideoFrame | None]:
    try:
        return list(packet.decode())
    except (av.FFmpegError, ValueError):
        return [None]


def _rgb(video: Path, picture: av.VideoFrame) -> NDArray[np.uint8]:
    try:
        return upright(picture)
    except FAILURES as error:
        raise CameraError(f"{video}: cannot be read as a video: {why(error)}") from None


def _version(video: Path | str) -> tuple[str, int, int] | None:
    """Return what changes when the file does; None where it is no file of this machine."""
    try:
        state = Path(video).stat()
    except (OSError, ValueError):
        return None
    return str(video), state.st_size, state.st_mtime_ns
