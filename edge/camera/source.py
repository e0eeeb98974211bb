"""An open camera: an RTSP or HTTP stream, a V4L2 device or a file, as pictures from FFmpeg.

Only `timeout=(open, read)` ends a mute server and a slow drip alike: FFmpeg ignores `stimeout` by now, and its
`timeout` option misses drips. A reset and garbage raise nothing: so the end of a live stream counts as a disconnect,
and every picture is checked for damage. FFmpeg's messages repeat URLs with their passwords, so each one is redacted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import av
from pydantic import AfterValidator, Field, model_validator

from culling.common.clock import Clock
from culling.common.config import Section
from culling.common.errors import CameraError
from culling.common.logs import redact
from culling.common.video import FAILURES, Track, address, count_frames, why

PICTURELESS_S = 30.0
"""A live source is reopened after so long without a usable picture; key frames may be 20 s apart."""

_RTSP = {"rtsp_transport": "tcp", "allowed_media_types": "video", "analyzeduration": "1000000"}
_LIVE = re.compile(r"(rtsps?|rtmps?|srt|udp|rtp)://|/dev/video\d+$")
_REMOTE = re.compile(r"https?://")
_REMOTE_FILE = re.compile(r"https?://[^?#]+\.(mp4|mov|avi|mkv|webm)([?#].*)?$", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _known_scheme(url: str) -> str:
    if _SCHEME.match(url) and not (_LIVE.match(url) or _REMOTE.match(url)):
        raise ValueError("expected rtsp://, http(s)://, rtmp://, srt://, udp://, rtp://, a file or /dev/videoN")
    return url


def _no_way_up(name: str) -> str:
    if ".." in name:
        raise ValueError("two dots in a row are not allowed in a name")
    return name


class CameraSettings(Section):
    """`[[camera]]`: where frames come from. `first` and `last` bound what is played of a file, as fractions of it.

    A live source is reopened whenever it ends: RTSP, a device, or HTTP that does not name a video file (HLS, MJPEG); a
    complete HLS playlist therefore starts over. Anything else is a file, which ends.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"), AfterValidator(_no_way_up)]
    url: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_known_scheme)]
    pace: Literal["real", "max"] = Field("real", description="a file's own pace, or as fast as the student can take it")
    loop: bool = Field(False, description="play a file again when it ends")
    first: float = Field(0.0, ge=0, le=1, description="where in a file playing begins, as a fraction of its frames")
    last: float = Field(1.0, ge=0, le=1, description="where in a file playing ends, as a fraction of its frames")
    max_fps: float = Field(0.0, ge=0, description="most frames a second to look at; 0: all")
    open_timeout_s: float = Field(5.0, gt=0, le=60)
    read_timeout_s: float = Field(5.0, gt=0, le=60)

    @model_validator(mode="after")
    def _ordered(self) -> CameraSettings:
        if self.first >= self.last:
            raise ValueError(f"first = {self.first} must be below last = {self.last}")
        return self

    @property
    def live(self) -> bool:
        """Whether the source is a camera rather than a file that begins and ends."""
        return bool(_LIVE.match(self.url) or (_REMOTE.match(self.url) and not _REMOTE_FILE.match(self.url)))


class Source:
    """An open source. Opening raises `CameraError`, after at most twice `open_timeout_s`: connecting, then probing.

    Two waits cannot be bounded: the system's name look-up, and a V4L2 driver that delivers nothing.
    """

    def __init__(self, settings: CameraSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._container: Any = self._open()
        try:
            self._track = Track(self._container, settings.live)
        except CameraError as error:
            self.close()
            raise self._error(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection or file."""
        self._container.close()

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next as the stream declares them, 0.04 if it does not."""
        return self._track.frame_s

    @property
    def bursts(self) -> bool:
        """Whether pictures come a segment at a time, so that they must be paced by their own time."""
        return bool(self._container.format.name == "hls")

    def read(self, lose: Callable[[str], None]) -> Iterator[list[av.VideoFrame]]:
        """Yield the pictures of each packet: mostly one, none while the decoder waits for more.

        `lose` is called with the reason for each missing picture: `undecodable`, `damaged`, or `after-damage` if it
        depends on one of those. Raises `CameraError` when the source fails, goes silent, or shows nothing.
        """
        live = self._settings.live
        first, last = (0, math.inf) if live else self._bounds()
        shown = self._clock.monotonic()
        for packet in self._packets():
            now, pictures, end = self._clock.monotonic(), [], False
            for frame in self._track.decode(packet, now if live else None):
                end = frame.number + 1 >= last
                if not first <= frame.number < last:
                    continue
                if frame.picture is None:
                    lose(frame.lost or "undecodable")
                else:
                    pictures.append(frame.picture)
            yield pictures
            if end:
                return
            shown = now if pictures else shown
            if live and now - shown > PICTURELESS_S:
                raise self._error(f"no usable picture for {PICTURELESS_S:g} s")

    def _open(self) -> Any:
        settings, began = self._settings, self._clock.monotonic()
        try:
            return av.open(
                address(settings.url),
                format="v4l2" if settings.url.startswith("/dev/video") else None,
                options=_RTSP if settings.url.startswith("rtsp") else {},
                timeout=(settings.open_timeout_s, settings.read_timeout_s),
                metadata_errors="replace",
            )
        except FAILURES as error:
            # FFmpeg reports a timeout sometimes as such, sometimes as invalid data.
            late = self._clock.monotonic() - began >= settings.open_timeout_s
            what = f"no answer within {settings.open_timeout_s:g} s" if late else why(error)
            raise self._error(what) from None

    def _packets(self) -> Iterator[Any]:
        """Yield the video's packets. Other streams are read too, or they could hide that the video has stopped."""
        settings, video, heard = self._settings, self._track.stream.index, self._clock.monotonic()
        try:
            for packet in self._container.demux():
                now = self._clock.monotonic()
                if packet.stream.index == video:  # not packet.stream_index: a flushing packet has none
                    heard = now
                    yield packet
                elif settings.live and now - heard > settings.read_timeout_s:
                    raise self._error(f"no video for {settings.read_timeout_s:g} s")
        except av.error.ExitError:
            raise self._error(f"no data for {settings.read_timeout_s:g} s") from None
        except FAILURES as error:
            raise self._error(why(error)) from None

    def _bounds(self) -> tuple[int, float]:
        """Return the numbers of the first frame to play and of the first one after the last."""
        settings = self._settings
        if (settings.first, settings.last) == (0.0, 1.0):
            return 0, math.inf
        try:
            total = count_frames(settings.url, (settings.open_timeout_s, settings.read_timeout_s))
        except CameraError as error:
            raise CameraError(f"camera {settings.name}: {error}") from None
        return round(settings.first * total), round(settings.last * total)

    def _error(self, what: str) -> CameraError:
        return CameraError(redact(f"camera {self._settings.name}: {self._settings.url}: {what}"))
