"""`[[camera]]`: what a camera is called, where its frames come from, and how they are fetched."""

from __future__ import annotations

import os
import re
import stat
from typing import Annotated, Literal

from av.format import ContainerFormat
from pydantic import AfterValidator, Field, model_validator

from culling.common.config import NAME, FileOrUrl, Section
from culling.common.wire import ignored
from culling.edge.regions import IgnoreSettings, Polygon, ZoneSettings, covers_all, places

_STREAM = re.compile(r"(rtsps?|rtmps?|srt|udp|rtp)://")
_RTSP = re.compile(r"rtsps?://")
_REMOTE = re.compile(r"https?://")
_REMOTE_FILE = re.compile(r"https?://[^?#]+\.(mp4|mov|avi|mkv|webm)([?#].*)?$", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _known_scheme(url: str) -> str:
    if _SCHEME.match(url) and not (_STREAM.match(url) or _REMOTE.match(url)):
        raise ValueError("expected rtsp://, http(s)://, rtmp://, srt://, udp://, rtp://, a file or a device")
    return url


def _known_format(name: str | None) -> str | None:
    try:
        known = name is None or ContainerFormat(name, "r").is_input
    except ValueError:
        known = False
    if not known:
        raise ValueError("FFmpeg reads no such format; expected one such as mjpeg, h264, hevc, mpegts or v4l2")
    return name


def _no_way_up(name: str) -> str:
    if ".." in name:
        raise ValueError("two dots in a row are not allowed in a name")
    return name


class CameraSettings(Section):
    """`[[camera]]`: where frames come from. `first` and `last` bound what is played of a file, as fractions of it.

    A live source is reopened whenever it ends: RTSP, a device, or HTTP that does not name a video file (HLS, MJPEG); a
    complete HLS playlist therefore starts over. A still picture over HTTP is fetched again, `max_fps` times a second.
    Anything else is a file, which ends.
    """

    name: Annotated[str, Field(pattern=NAME), AfterValidator(_no_way_up)] = Field(
        description="name of the camera, as it was enrolled"
    )
    url: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_known_scheme), FileOrUrl()] = Field(
        description="`rtsp://`, `http(s)://` (HLS, MJPEG or a file), `rtmp://`, `srt://`, `udp://`, `rtp://`, the path "
        "of a device (a webcam), or a file; a relative path starts at the settings file's folder. A live source is "
        "opened again whenever it ends"
    )
    transport: Literal["auto", "tcp", "udp"] = Field(
        "auto", description="what RTSP brings its pictures by; auto: TCP, or UDP where the camera refuses TCP"
    )
    format: Annotated[str | None, AfterValidator(_known_format)] = Field(
        None, description="FFmpeg's name of the stream's format, where it guesses wrong, e.g. mjpeg"
    )
    pace: Literal["real", "max"] = Field("real", description="a file's own pace, or as fast as the student can take it")
    loop: bool = Field(False, description="play a file again when it ends")
    first: float = Field(0.0, ge=0, le=1, description="where in a file playing begins, as a fraction of its frames")
    last: float = Field(1.0, ge=0, le=1, description="where in a file playing ends, as a fraction of its frames")
    max_fps: float = Field(
        0.0, ge=0, description="most frames a second to look at; 0: all, or one a second of a still picture"
    )
    open_timeout_s: float = Field(
        5.0, gt=0, le=60, description="seconds that connecting, and then reading the first packets, may each take"
    )
    read_timeout_s: float = Field(
        5.0, gt=0, le=60, description="seconds without a packet after which a stream counts as lost"
    )
    mask: tuple[Polygon, ...] = Field(
        (),
        max_length=100,
        description="polygons that are made black before anything sees the picture; each is a list of points `[x, y]` "
        "in fractions of the frame",
    )
    ignore: tuple[IgnoreSettings, ...] = Field(
        (),
        max_length=100,
        description="places where objects are not looked for: tables with `polygon` and, for some alone, `classes`",
    )
    track: bool = Field(
        False,
        description="give objects numbers that stay theirs from frame to frame, in records; takes `culling[tracks]`",
    )
    zone: tuple[ZoneSettings, ...] = Field(
        (),
        max_length=100,
        description="places whose objects are counted: tables with `name`, `polygon`, and if wanted `classes`, `score`",
    )

    @model_validator(mode="after")
    def _consistent(self) -> CameraSettings:
        if self.first >= self.last:
            raise ValueError(f"first = {self.first} must be below last = {self.last}")
        if self.transport != "auto" and not self.rtsp:
            raise ValueError(f"transport = {self.transport} is only for rtsp:// and rtsps://")
        if covers_all(self.mask):
            raise ValueError("mask: it covers the whole frame, and nothing is left to look at")
        if (size := len(ignored.encode(places(self.ignore)) or b"")) > ignored.MOST_BYTES:
            most = ignored.MOST_BYTES
            raise ValueError(f"ignore: its polygons take {size} bytes of every frame, at most {most}: use fewer points")
        if len({zone.name for zone in self.zone}) < len(self.zone):
            raise ValueError("zone: two zones have the same name")
        return self

    @property
    def live(self) -> bool:
        """Whether the source is a camera rather than a file that begins and ends."""
        remote = _REMOTE.match(self.url) and not _REMOTE_FILE.match(self.url)
        return bool(_STREAM.match(self.url) or remote or self.device)

    @property
    def patient(self) -> bool:
        """Whether the source waits until its frames are used."""
        return not self.live and self.pace == "max"

    @property
    def rtsp(self) -> bool:
        """Whether the source speaks RTSP."""
        return bool(_RTSP.match(self.url))

    @property
    def remote(self) -> bool:
        """Whether the source is fetched over HTTP."""
        return bool(_REMOTE.match(self.url))

    @property
    def device(self) -> bool:
        """Whether the source is a device of this machine; what the path leads to decides, not its name."""
        if _SCHEME.match(self.url):
            return False
        try:
            return stat.S_ISCHR(os.stat(self.url).st_mode)
        except (OSError, ValueError):
            # One that is not plugged in cannot be asked what it is; /dev/shm holds files.
            return os.path.realpath(self.url).startswith("/dev/") and not self.url.startswith("/dev/shm/")
