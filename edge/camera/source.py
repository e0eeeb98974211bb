"""An open camera: an RTSP or HTTP stream, a V4L2 device or a file, as pictures from FFmpeg.

A reset and garbage raise nothing: so the end of a live stream counts as a disconnect, and every picture is checked for
damage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import av

from culling.common.clock import Clock
from culling.common.errors import CameraError
from culling.common.video import FAILURES, Track, count_frames, why
from culling.edge.camera.opening import camera_error, hints, open_camera
from culling.edge.camera.settings import CameraSettings

__all__ = ["CameraSettings", "Source"]

_SEGMENTED = ("hls", "dash")

PICTURELESS_S = 30.0
"""A live source is reopened after so long without a usable picture; key frames may be 20 s apart."""


class Source:
    """An open source. Opening raises `CameraError`, after at most twice `open_timeout_s`: connecting, then probing.

    Two waits cannot be bounded: the system's name look-up, and a V4L2 driver that delivers nothing.
    """

    def __init__(self, settings: CameraSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._container: Any = open_camera(settings, clock)
        try:
            self._track = Track(self._container, settings.live)
        except CameraError as error:
            self.close()
            raise self._error(str(error)) from None
        if self.bursts:  # else FFmpeg fetches every rendition there is
            self._track.alone()

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
        return self._container.format.name in _SEGMENTED

    @property
    def still(self) -> bool:
        """Whether this is one picture over HTTP, which a camera renews: it is fetched again and again."""
        name = self._container.format.name
        return self._settings.remote and self._settings.live and (name == "image2" or name.endswith("_pipe"))

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
            raise self._error(why(error) + hints(settings, error)) from None

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
        return camera_error(self._settings, what)
